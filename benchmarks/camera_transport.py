"""Three 640x480 cameras at 30 Hz between two processes: stock Fast DDS against our profile.

    .venv/bin/python benchmarks/camera_transport.py --seconds 10

Prints, per profile, the share of frames that arrived and how long they took (from the stamp to the
callback of the subscriber).
"""

from __future__ import annotations

import argparse
import array
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from side_by_side import Comparison, report

WIDTH, HEIGHT, RATE_HZ = 640, 480, 30.0
CAMERAS = ("cam_high", "cam_left_wrist", "cam_right_wrist")
SILENCE_S = 2.0
"""Without a frame for this long the receiver takes the stream for finished."""

PROFILES = Path(__file__).resolve().parent.parent / "config" / "fastdds"
VARIABLE = {"jazzy": "FASTRTPS_DEFAULT_PROFILES_FILE", "kilted": "FASTDDS_DEFAULT_PROFILES_FILE"}


def main() -> None:
    """Measure both profiles in turn, each with two fresh processes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each measurement")
    parser.add_argument("--ros-distro", choices=sorted(VARIABLE), default="jazzy")
    parser.add_argument("--json", type=Path, help="write the row into this file too")
    parser.add_argument("--role", choices=("measure", "publish", "receive"), default="measure")
    arguments = parser.parse_args()
    if arguments.role == "publish":
        publish(arguments.seconds)
    elif arguments.role == "receive":
        receive(arguments.seconds)
    else:
        measure(arguments.seconds, arguments.ros_distro, arguments.json)


def measure(seconds: float, distro: str, file: Path | None) -> None:
    """Print the table, and the share of lost frames as a row of the comparison."""
    stock = {k: v for k, v in os.environ.items() if k not in VARIABLE.values()}
    stock |= {
        "ROS_DOMAIN_ID": str(random.randint(1, 100)),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    }
    ours = stock | {VARIABLE[distro]: str(PROFILES / f"{distro}.xml")}
    print(f"{len(CAMERAS)} cameras, {WIDTH}x{HEIGHT} RGB at {RATE_HZ:.0f} Hz for {seconds:.0f} s")
    print(f"{'profile':<12}{'sent':>7}{'arrived':>9}{'share':>8}{'p50 ms':>9}{'p99 ms':>9}")
    lost, runs = [], 0
    for name, env in (("stock", stock), (f"{distro}.xml", ours)):
        sent, delays = stream(seconds, env)
        share = len(delays) / sent if sent else 0.0
        lost.append(100 * (1 - share))
        runs = sent
        p50, p99 = np.percentile(delays, (50, 99)) * 1e3 if delays else (np.nan, np.nan)
        print(f"{name:<12}{sent:>7}{len(delays):>9}{share:>8.1%}{p50:>9.2f}{p99:>9.2f}")
    row = Comparison(
        row="11",
        what="frames lost, stock Fast DDS / our profile",
        baseline=(lost[0], lost[0]),
        ours=(lost[1], lost[1]),
        goal="none lost",
        is_met=not lost[1],
        unit="%",
        runs=runs,
    )
    report([row], file)


def stream(seconds: float, env: dict[str, str]) -> tuple[int, list[float]]:
    """Run both processes; returns the frames sent and the delay of each that arrived, in s."""
    command = [sys.executable, __file__, "--seconds", str(seconds), "--role"]
    receiver = subprocess.Popen([*command, "receive"], env=env, stdout=subprocess.PIPE, text=True)
    publisher = subprocess.Popen([*command, "publish"], env=env, stdout=subprocess.PIPE, text=True)
    try:
        limit = seconds + 30.0
        sent = json.loads(publisher.communicate(timeout=limit)[0])
        delays = json.loads(receiver.communicate(timeout=limit)[0])
    finally:
        publisher.kill()
        receiver.kill()
    return sent, delays


def publish(seconds: float) -> None:
    """Send frames from one process, as a simulator does; prints how many."""
    import rclpy
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image

    rclpy.init()
    node = rclpy.create_node("cameras")
    publishers = [
        node.create_publisher(Image, f"{camera}/image_raw", qos_profile_sensor_data)
        for camera in CAMERAS
    ]
    while not all(publisher.get_subscription_count() for publisher in publishers):
        time.sleep(0.05)
    time.sleep(1.0)  # discovery of the other direction
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    # Assigning the array itself would check each of its bytes in Python: 100 ms a frame.
    data = array.array("B")
    data.frombytes(pixels.tobytes())
    image = Image(width=WIDTH, height=HEIGHT, encoding="rgb8", step=WIDTH * 3, data=data)
    frames = round(seconds * RATE_HZ)
    start = time.monotonic()
    for frame in range(frames):
        time.sleep(max(0.0, start + frame / RATE_HZ - time.monotonic()))
        for publisher in publishers:
            image.header.stamp = node.get_clock().now().to_msg()
            publisher.publish(image)
    time.sleep(SILENCE_S / 2)  # what is still on its way is lost with the publisher
    print(frames * len(publishers))
    node.destroy_node()
    rclpy.shutdown()


def receive(seconds: float) -> None:
    """Take frames until none comes; prints the delay of each in s, as JSON."""
    import rclpy
    from rclpy.experimental.events_executor import EventsExecutor
    from rclpy.qos import qos_profile_sensor_data
    from rclpy.time import Time
    from sensor_msgs.msg import Image

    rclpy.init()
    node = rclpy.create_node("viewer")
    delays: list[float] = []
    newest = time.monotonic() + seconds + 15.0

    def take(image: Image) -> None:
        nonlocal newest
        newest = time.monotonic()
        delays.append(
            (node.get_clock().now() - Time.from_msg(image.header.stamp)).nanoseconds / 1e9
        )

    for camera in CAMERAS:
        node.create_subscription(Image, f"{camera}/image_raw", take, qos_profile_sensor_data)
    executor = EventsExecutor()
    executor.add_node(node)
    while time.monotonic() < newest + SILENCE_S:
        executor.spin_once(timeout_sec=0.1)
    print(json.dumps(delays))
    node.destroy_node()
    rclpy.shutdown()


if __name__ == "__main__":
    main()
