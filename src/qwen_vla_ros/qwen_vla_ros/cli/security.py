"""`qwen-vla security`: what SROS2 needs to know to keep strangers out of a robot's graph."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from qwen_vla_ros.bringup import Bringup
from qwen_vla_ros.security import accesses, policy_xml

console = Console(highlight=False, soft_wrap=True)


def security(bringup: Bringup, out: Path) -> int:
    """Write the policy of a robot's graph to the file `out`, and say what to do with it."""
    text = policy_xml(bringup)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    names = ", ".join(spec.enclave for spec, _ in accesses(bringup))
    console.print(f"{out}: enclaves {names}", markup=False)
    console.print(f"next: ros2 security generate_artifacts -k KEYSTORE -p {out}", markup=False)
    if not bringup.is_simulated:
        console.print("The robot's own driver and controllers need enclaves of their own.")
    return 0
