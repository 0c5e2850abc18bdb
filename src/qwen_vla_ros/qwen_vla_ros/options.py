"""What a person may set about the policy, its server and the bringup: each option, once.

The node's parameters, the launch arguments, the flags of `up`, `serve` and `bench`, and the
reference page are made from these fields. To add an option is to add a field, and to use it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, get_type_hints

from qwen_vla_ros.errors import QwenVlaError, suggest
from qwen_vla_ros.plugins import plugin_names

Value = bool | int | float | str

POLICIES = ("qwen_vla", "expert", "mock", "replay", "remote")
ROBOT_BACKENDS = ("mujoco", "hardware")
PRECISIONS = ("auto", "fp32", "bf16")
CONTINUATIONS = ("auto", "prefix", "guidance", "none")
DIALECTS = "qwen_vla_ros.serving.dialects"
MOTIONS = ("hold", "sine")
PROFILES = ("normal", "commissioning")
ANSWER_FAULTS = ("nan", "wrong_robot", "slow")
CONNECTION_FAULTS = ("hang", "drip", "huge", "garbage", "close", "half_open")
MOST_SEED = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class Option:
    """One thing that may be set.

    Attributes:
        name: As a parameter, an argument and, with dashes, a flag.
        kind: `str`, `int`, `float` or `bool`.
        default: Value when nothing is said; None where something must be said.
        description: One sentence for people.
        unit: Of a number; empty for none.
        bounds: Smallest and largest number allowed; None for any.
        choices: The words allowed; empty for any.
        of: The policy that it is for; empty for all.
        hint: How to get one, where that policy cannot do without.
    """

    name: str
    kind: type[Any]
    default: Any
    description: str
    unit: str = ""
    bounds: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()
    of: str = ""
    hint: str = ""

    @property
    def allowed(self) -> str:
        """What it may be; empty for anything."""
        if self.bounds is None:
            return ", ".join(self.choices)
        return f"{self.bounds[0]:.10g} to {self.bounds[1]:.10g} {self.unit}".rstrip()

    def read(self, word: str) -> Value:
        """Return the value that a word means.

        Raises:
            QwenVlaError: It means none.
        """
        if self.kind is bool:
            self.check(word)
            return word == "true"
        try:
            value: Value = self.kind(word)
        except ValueError as error:
            number = "whole number" if self.kind is int else "number"
            raise QwenVlaError(f"{self.name}: '{word}' is not a {number}.") from error
        return value

    def check(self, value: Value) -> None:
        """Refuse a value that is not allowed.

        Raises:
            QwenVlaError: It is not; the sentence says what is.
        """
        word = to_text(value)
        if self.choices and word not in self.choices:
            raise QwenVlaError(f"{self.name}: unknown '{word}'." + suggest(word, self.choices))
        if self.bounds and not self.bounds[0] <= float(value) <= self.bounds[1]:
            raise QwenVlaError(f"{self.name}: {word} is out of bounds. Allowed: {self.allowed}.")


def option(description: str, *, default: Value | None = None, **about: Any) -> Any:
    """Declare a field of `Options`, with the attributes of `Option`.

    What depends on the robot has no default.
    """
    start = dataclasses.MISSING if default is None else default
    field: Any = dataclasses.field
    return field(default=start, metadata={"description": description, **about})


def to_text(value: Value) -> str:
    """Return a value as ROS and people write it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True, kw_only=True)
class Options:
    """A set of options; whoever holds one holds values that are allowed."""

    def __post_init__(self) -> None:
        """Check every value."""
        for each in self.declared():
            each.check(getattr(self, each.name))

    @classmethod
    def declared(cls) -> tuple[Option, ...]:
        """Return the options, those without a default first."""
        hints, found = get_type_hints(cls), []
        for field in dataclasses.fields(cls):
            about = {"kind": hints[field.name], **field.metadata}
            if about["kind"] is bool:
                about["choices"] = ("true", "false")
            default = None if field.default is dataclasses.MISSING else field.default
            found.append(Option(name=field.name, default=default, **about))
        return tuple(sorted(found, key=lambda each: each.default is not None))

    @classmethod
    def from_strings(cls, words: Mapping[str, str]) -> Self:
        """Return the options that a person's words mean; what is not said has its default.

        Raises:
            QwenVlaError: A word is not what is allowed.
        """
        known = {each.name: each for each in cls.declared()}
        return cls(**{name: known[name].read(word) for name, word in words.items()})

    def given(self) -> dict[str, Value]:
        """Return the values that differ from their defaults, by name."""
        values = {each: getattr(self, each.name) for each in self.declared()}
        return {each.name: value for each, value in values.items() if value != each.default}


@dataclass(frozen=True, kw_only=True)
class PolicyOptions(Options):
    """What chooses and sets up a policy, wherever it answers: in the node, served, measured."""

    policy: str = option(
        "Which policy answers: the model, the scripted expert of a simulated task, a mock without "
        "a model, a recording, or one on a server.",
        default="qwen_vla",
        choices=POLICIES,
    )
    seed: int = option(
        "Seed of the policy's noise; -1 draws anew at every start.",
        default=-1,
        bounds=(-1, MOST_SEED),
    )
    checkpoint: str = option(
        "Checkpoint directory of the model.",
        default="",
        of="qwen_vla",
        hint="Make one with: qwen-vla init --preset nano --out DIR; or try things out with "
        "policy 'mock'.",
    )
    adapter: str = option(
        "LoRA adapter to merge into the model, a directory; empty is none.",
        default="",
        of="qwen_vla",
    )
    device: str = option(
        "Where the model runs: cpu, cuda, cuda:1 ...; auto is a GPU where torch sees one.",
        default="auto",
        of="qwen_vla",
    )
    precision: str = option(
        "What the model computes in; auto is bf16 on a GPU and fp32 elsewhere.",
        default="auto",
        choices=PRECISIONS,
        of="qwen_vla",
    )
    continuation: str = option(
        "How a chunk continues what is being played; auto is as the model was trained.",
        default="auto",
        choices=CONTINUATIONS,
        of="qwen_vla",
    )
    steps: int = option(
        "Euler steps of the flow from noise to actions.", default=4, bounds=(1, 100), of="qwen_vla"
    )
    temperature: float = option(
        "Spread of the model's noise; the paper evaluates with 0.6.",
        default=1.0,
        bounds=(0, 2.0),
        of="qwen_vla",
    )
    threads: int = option(
        "CPU threads of the model; on few cores one is steadiest.",
        default=1,
        bounds=(1, 256),
        of="qwen_vla",
    )
    server: str = option(
        "Address of the policy server: ws://HOST:PORT, or wss://HOST:PORT with TLS.",
        default="",
        of="remote",
        hint="Such as ws://127.0.0.1:8000. Start one with: qwen-vla serve --robot R "
        "--checkpoint DIR",
    )
    server_protocol: str = option(
        "What the policy server speaks.",
        default="openpi",
        choices=tuple(name.replace("_", "-") for name in plugin_names(DIALECTS)),
        of="remote",
    )
    server_token_file: str = option(
        "File with the policy server's token; without one, $QWEN_VLA_TOKEN has it.",
        default="",
        of="remote",
    )
    server_ca_file: str = option(
        "Certificates that a wss server's must lead to; empty is the system's.",
        default="",
        of="remote",
    )
    deadline_s: float = option(
        "Longest wait for an answer of the policy server, everything included.",
        default=0.3,
        unit="s",
        bounds=(0.02, 2.0),  # after two seconds no gate would play it
        of="remote",
    )
    recording: str = option(
        "File to replay.",
        default="",
        of="replay",
        hint="Make one with: qwen-vla serve --robot R --checkpoint DIR --record FILE",
    )
    motion: str = option(
        "What the mock does: hold what is measured, or swing gently.",
        default="hold",
        choices=MOTIONS,
        of="mock",
    )
    latency_ms: float = option(
        "Median latency of the mock.", default=0.0, unit="ms", bounds=(0, 60_000.0), of="mock"
    )
    latency_p95_ms: float = option(
        "Latency of the mock that one answer in 20 exceeds.",
        default=0.0,
        unit="ms",
        bounds=(0, 60_000.0),
        of="mock",
    )
    fault: str = option(
        "What goes wrong with the mock's answers.",
        default="none",
        choices=("none", *ANSWER_FAULTS),
        of="mock",
    )
    fault_after: int = option(
        "Good answers before the first fault.", default=0, bounds=(0, MOST_SEED), of="mock"
    )
    fault_every: int = option(
        "From then on, one answer of so many is bad.", default=1, bounds=(1, MOST_SEED), of="mock"
    )

    def require_for_policy(self) -> None:
        """Check that what is said is for this policy, and that nothing that it needs is absent.

        Raises:
            QwenVlaError: Something is not.
        """
        given = self.given()
        for each in self.declared():
            if each.of not in {"", self.policy} and each.name in given:
                raise QwenVlaError(
                    f"{each.name}: is for policy '{each.of}'; the policy is '{self.policy}'."
                )
            if each.hint and each.of == self.policy and each.name not in given:
                raise QwenVlaError(f"{each.name}: policy '{self.policy}' needs one. {each.hint}")


@dataclass(frozen=True, kw_only=True)
class NodeOptions(Options):
    """What every node needs to know. No limit is ever among its options: the file has those."""

    embodiment: str = option("Name or path of the embodiment file.")


@dataclass(frozen=True, kw_only=True)
class RunOptions(Options):
    """What holds for one run. It can only make limits tighter."""

    profile: str = option(
        "How fast the robot may be today: as its file says, or as for its first motions.",
        default="normal",
        choices=PROFILES,
    )


@dataclass(frozen=True, kw_only=True)
class GateOptions(NodeOptions, RunOptions):
    """What the gate needs to know."""

    restarted_after: str = option(
        "How the gate before this one ended, where it was started again; told in its state.",
        default="",
    )


@dataclass(frozen=True, kw_only=True)
class RobotOptions(PolicyOptions):
    """A policy, and the robot that it is for."""

    robot: str = option("Name or path of the embodiment file.")


@dataclass(frozen=True, kw_only=True)
class BringupOptions(RobotOptions, RunOptions):
    """What somebody asks for who brings a robot up."""

    backend: str = option(
        "mujoco starts a simulated robot; hardware expects the robot's own driver to run.",
        default="mujoco",
        choices=ROBOT_BACKENDS,
    )
    use_sim_time: bool = option(
        "Take time from /clock, which the simulator then publishes.", default=False
    )
    namespace: str = option("Prefix of every relative name; empty is none.", default="")
    scene_seed: int = option("Seed of the simulated scene.", default=0, bounds=(0, MOST_SEED))


@dataclass(frozen=True, kw_only=True)
class ServingOptions(RobotOptions):
    """What somebody asks for who serves a policy."""

    fault: str = option(
        "What goes wrong with the mock's answers, or with the connections to it.",
        default="none",
        choices=("none", *ANSWER_FAULTS, *CONNECTION_FAULTS),
        of="mock",
    )
    host: str = option("Address to listen on; all but loopback need a token.", default="127.0.0.1")
    listen: str = option(
        "Dialects and their ports, such as openpi:8000,vla-eval:8001; port 0 is any.",
        default="openpi:8000",
    )
    token_file: str = option(
        "File with the token that clients must send; 16 characters or more.", default=""
    )
    tls_cert: str = option("Certificate, for wss.", default="")
    tls_key: str = option("Key of the certificate.", default="")
    max_clients: int = option(
        "Most clients at a time; more are refused.", default=16, bounds=(1, 256)
    )
    request_s: float = option(
        "Longest wait for an answer.", default=10.0, unit="s", bounds=(0.01, 600.0)
    )
    instruction: str = option("What to do where an openpi client has no prompt.", default="")
    record: str = option("File to write all answers to.", default="")


@dataclass(frozen=True, kw_only=True)
class BenchOptions(RobotOptions):
    """What somebody asks for who measures a policy."""

    runs: int = option("Answers to measure.", default=50, bounds=(1, 100_000))
