"""Writes docs/reference/parameters.md from the parameter dataclasses of the nodes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, get_type_hints

from qwen_vla_ros.nodes import policy, simulator
from qwen_vla_ros.ros.gate_node import GateParameters
from qwen_vla_ros.ros.lifecycle import ManagedParameters

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "parameters.md"
NODES: tuple[tuple[str, tuple[type[Any], ...]], ...] = (
    ("policy", (policy.Parameters, ManagedParameters)),
    ("arm_gate, base_gate", (GateParameters, ManagedParameters)),
    ("simulator", (simulator.Parameters,)),
)
HEAD = """# Parameters

Written by `python scripts/parameters_reference.py` from the nodes themselves. All parameters are
read-only: nothing that a node does changes behind its back. Limits are not among them; those stand
in the embodiment file.
"""


def page() -> str:
    """Return the whole page."""
    parts = [HEAD]
    for node, kinds in NODES:
        parts += [
            f"\n## {node}\n",
            "\n| name | type | default | allowed | |\n|---|---|---|---|---|\n",
        ]
        parts += [_row(field, kind) for kind in kinds for field in dataclasses.fields(kind)]
    return "".join(parts)


def _row(field: dataclasses.Field[Any], kind: type[Any]) -> str:
    about = field.metadata
    name = get_type_hints(kind)[field.name].__name__
    default = "required" if field.default is dataclasses.MISSING else f"`{field.default!r}`"
    allowed = ", ".join(about["choices"])
    if about["minimum"] is not None:
        allowed = f"{about['minimum']} to {about['maximum']}"
    return f"| `{field.name}` | {name} | {default} | {allowed} | {about['description']} |\n"


if __name__ == "__main__":
    PAGE.write_text(page())
