"""Can a camera give the images that its entry promises the model?"""

from __future__ import annotations

from qwen_vla_ros.embodiment.problems import Problems
from qwen_vla_ros.embodiment.schema import EmbodimentFile


def check_cameras(file: EmbodimentFile, problems: Problems) -> None:
    """Add a sentence for every history that is denser than the camera's images."""
    for i, camera in enumerate(file.cameras):
        period = 1 / camera.rate_hz
        if camera.history is not None and camera.history.spacing_s < period:
            problems.add(
                ("cameras", i, "history", "spacing_s"),
                f"{camera.history.spacing_s:g} s is shorter than one period of "
                f"{camera.rate_hz:g} Hz: images would repeat. Allowed: at least {period:.3g}.",
            )
