"""A robot without physics, a clock that obeys, and an envelope: what the gates are tried on."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from qwen_vla_ros.embodiment.load import load_embodiment
from qwen_vla_ros.safety.arm_gate import ArmGate, JointCommand
from qwen_vla_ros.safety.envelope import JointEnvelope
from qwen_vla_ros.safety.interlock import Interlock
from qwen_vla_ros.safety.joint_monitor import JointMonitor
from qwen_vla_ros.types import FloatArray

ROOT = Path(__file__).parents[3]
PERIOD_S = 0.02
PERIOD_NS = 20_000_000


def make_envelope(joints: int = 3, **changes: object) -> JointEnvelope:
    """An envelope like that of a small arm whose last joint is a gripper."""
    values: dict[str, object] = {
        "names": tuple(f"joint_{i}" for i in range(joints)),
        "lower": np.full(joints, -1.0),
        "upper": np.full(joints, 1.0),
        "velocity": np.full(joints, 1.0),
        "acceleration": np.full(joints, 8.0),
        "start_jump": np.full(joints, 0.2),
        "tracking": np.full(joints, 0.15),
        "is_paced": np.arange(joints) < joints - 1,
    }
    return JointEnvelope(**{**values, **changes})


class ArmRig:
    """An arm gate and joints that follow it exactly, one tick later; every part can be broken."""

    def __init__(
        self, joints: int = 3, heartbeat_s: float | None = None, jerk: float | None = None
    ) -> None:
        limits = {} if jerk is None else {"jerk": np.full(joints, jerk)}
        self.envelope = make_envelope(joints, **limits)
        self.interlock = Interlock(PERIOD_S, 0.5, heartbeat_s)
        self.monitor = JointMonitor(self.envelope, self.envelope.names, "joint_states", 0.1)
        self.gate = ArmGate(self.envelope, [self.monitor], self.interlock, PERIOD_S)
        self.now_ns = 10**15
        self.steady_ns = 5 * 10**12
        self.position: FloatArray = np.zeros(joints)
        self.velocity: FloatArray = np.zeros(joints)
        self.follows = True
        self.reports = True
        self.sent: list[JointCommand | None] = []

    @property
    def level(self) -> str:
        return self.interlock.latch.level.name

    @property
    def cause(self) -> str:
        return self.interlock.latch.cause.name

    def report(self, position: FloatArray | None = None, **changes: object) -> None:
        """Send one joint state."""
        message = {
            "names": self.envelope.names,
            "positions": self.position if position is None else position,
            "velocities": self.velocity,
            "stamp_ns": self.now_ns,
            **changes,
        }
        self.monitor.observe(**message, now_ns=self.now_ns, steady_ns=self.steady_ns)

    def tick(
        self,
        wanted: FloatArray | None = None,
        *,
        is_silent: bool = False,
        periods: float = 1.0,
        chunk: bool = True,
    ) -> JointCommand | None:
        """Let one period pass, with fresh joint states and a fresh chunk."""
        self.now_ns += round(periods * PERIOD_NS)
        self.steady_ns += round(periods * PERIOD_NS)
        if self.reports:
            self.report()
        if wanted is not None and chunk:
            self.interlock.on_chunk(self.steady_ns)
        command = self.gate.tick(self.now_ns, self.steady_ns, wanted, is_silent=is_silent)
        self.sent.append(command)
        if command is not None and self.follows:
            self.position, self.velocity = command.position, command.velocity
        return command

    def wait(self, seconds: float, **options: object) -> None:
        """Tick with nothing wanted."""
        for _ in range(round(seconds / PERIOD_S)):
            self.tick(**options)

    def arm(self) -> None:
        """Be well for a second, then arm."""
        self.wait(1.1)
        assert self.gate.arm(self.steady_ns) == ""

    def move(self, speed: float = 0.5, ticks: int = 10) -> None:
        """Drive all joints at one speed (1/s), gently begun."""
        for k in range(ticks):
            ramp = min(1.0, (k + 1) / 5)
            self.tick(self.position + ramp * speed * PERIOD_S)

    def speed(self) -> float:
        """Greatest speed that is commanded now."""
        last = next((command for command in reversed(self.sent) if command is not None), None)
        return 0.0 if last is None else float(np.abs(last.velocity).max())


@pytest.fixture
def rig() -> ArmRig:
    """An arm that is ready to be armed."""
    return ArmRig()


@pytest.fixture(scope="session")
def make_rig() -> type[ArmRig]:
    """Makes arms with options of their own."""
    return ArmRig


@pytest.fixture
def armed(rig: ArmRig) -> ArmRig:
    """An arm that is armed and at rest."""
    rig.arm()
    return rig


@pytest.fixture(scope="session")
def aloha() -> JointEnvelope:
    """The envelope of the simulated ALOHA."""
    return JointEnvelope.from_embodiment(load_embodiment("aloha_sim"))


@pytest.fixture(scope="session")
def attacks() -> ModuleType:
    """The attacks of benchmarks/gate_core.py."""
    path = ROOT / "benchmarks" / "gate_core.py"
    spec = importlib.util.spec_from_file_location("gate_core", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gate_core"] = module
    spec.loader.exec_module(module)
    return module
