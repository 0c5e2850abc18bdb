"""Writes docs/reference/parameters.md from the options of the nodes and the commands."""

from __future__ import annotations

from pathlib import Path

from qwen_vla_ros.nodes import policy, simulator
from qwen_vla_ros.options import (
    BenchOptions,
    BringupOptions,
    GateOptions,
    NodeOptions,
    Option,
    Options,
    PolicyOptions,
    ServingOptions,
)
from qwen_vla_ros.ros.lifecycle import ManagedParameters

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "parameters.md"
NODES: tuple[tuple[str, tuple[type[Options], ...]], ...] = (
    ("policy", (policy.Parameters, ManagedParameters)),
    ("gate", (GateOptions, ManagedParameters)),
    ("monitor", (NodeOptions,)),
    ("simulator", (simulator.Parameters,)),
)
COMMANDS: tuple[tuple[str, type[Options]], ...] = (
    ("bringup.launch.py, qwen-vla up", BringupOptions),
    ("qwen-vla serve", ServingOptions),
    ("qwen-vla bench", BenchOptions),
)
HEAD = """# Parameters

Written by `python scripts/parameters_reference.py` from where they are declared. All parameters
are read-only: nothing that a node does changes behind its back. Limits are not among them; those
stand in the embodiment file.
"""
ON_COMMANDS = """
Whatever sets up a policy, from `policy` to `fault_every` above, is also an argument of
`bringup.launch.py` and, with dashes, a flag of `qwen-vla up`, `serve` and `bench`. Each of them
has some of its own:
"""
TABLE = "\n| name | type | default | allowed | |\n|---|---|---|---|---|\n"


def page() -> str:
    """Return the whole page."""
    parts = [HEAD]
    for node, kinds in NODES:
        options = [option for kind in kinds for option in kind.declared()]
        parts += [f"\n## {node}\n", TABLE, *map(_row, options)]
    parts.append(ON_COMMANDS)
    for command, kind in COMMANDS:
        own = [option for option in kind.declared() if option not in PolicyOptions.declared()]
        parts += [f"\n## {command}\n", TABLE, *map(_row, own)]
    return "".join(parts)


def _row(option: Option) -> str:
    default = "required" if option.default is None else f"`{option.default!r}`"
    about = f"{option.description} With policy {option.of}." if option.of else option.description
    kind = option.kind.__name__
    return f"| `{option.name}` | {kind} | {default} | {option.allowed} | {about} |\n"


if __name__ == "__main__":
    PAGE.write_text(page())
