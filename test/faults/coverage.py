"""Which classes of docs/reference/faults.md the campaign does not try, and which it knows to fail.

A class that is neither tried nor listed here fails a test.
"""

from __future__ import annotations

import re

from faults.rig import ROOT

HARDWARE = "hardware: needs the device itself"
PROCESS = "a class of processes: needs a running graph, see `make faults-processes` and test/ros"
NETWORK = "a class of the network: needs namespaces and traffic control"
NOT_BUILT = "nothing in the product claims to notice it"
NOT_APPLICABLE = "no action of this kind exists in an embodiment file"

NOT_TRIED = {
    "A12": NOT_APPLICABLE + ": joints and waypoints only",
    "A14": HARDWARE + " (grip force)",
    "B12": "limits hold whatever is seen: `make adversary` is the test of that",
    "C11": HARDWARE + " (temperature, error bits)",
    "D4": PROCESS,
    "E2": PROCESS + "; to the gate it is E1",
    "E3": PROCESS + "; to the gate it is E1",
    "E5": PROCESS + "; to the gate it is E1",
    "E6": HARDWARE + " (a lost GPU); to the gate it is E1",
    "E11": PROCESS,
    "F2": PROCESS + "; what the gate does when it wakes is D5",
    "F3": PROCESS,
    "F4": PROCESS,
    "F5": HARDWARE + " (the driver's own watchdog)",
    "F8": NOT_APPLICABLE + ": the filter solves nothing",
    "F10": PROCESS,
    "F11": PROCESS,
    "F12": PROCESS,
    "G7": HARDWARE + " (a power cut)",
    "H9": "in process, in test/core/embodiment",
    "H10": NOT_APPLICABLE + ": no shipped robot has a continuous joint",
    "H12": PROCESS,
    "H13": PROCESS,
    "H14": PROCESS,
    "H15": PROCESS,
    "I6": PROCESS,
    "I7": PROCESS,
    "J1": PROCESS,
    "J2": NETWORK,
    "J3": NETWORK,
    "J4": NETWORK,
    "J5": NETWORK,
    "J8": PROCESS,
    "K2": "a static test, in test/house",
    "K4": "in process, in test/core/checkpoint",
    "K6": "all of A and E together: `make adversary`",
    "K7": "limits hold whatever is wanted: `make adversary`",
    "K8": PROCESS + " (the recorder)",
    "L1": PROCESS,
    "L2": PROCESS,
    "L3": PROCESS,
    "L4": "with processes: `make soak`",
    "L5": PROCESS,
    "L6": PROCESS,
    "L7": "to the gate it is E1",
}

KNOWN = {
    ("F1", "the gate dies", "diffbot_sim"): (
        "in one process there is no monitor: the controller's own time-out is 0.5 s"
    ),
}
"""By number, what, and robot. Each is a defect that is waiting to be mended."""


def classes_of_the_page() -> dict[str, str]:
    """Return what every class of the page is, by its number."""
    page = (ROOT / "docs" / "reference" / "faults.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([A-L]\d+) \| (.*?) \|", page, flags=re.MULTILINE)
    return dict(rows)
