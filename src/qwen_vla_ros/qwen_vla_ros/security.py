"""Who of a robot's graph may say what: the policy that SROS2 makes keys and permissions of.

The names are those that the nodes use themselves; where they lead stands in the bringup. A test
compares both with the running graph, so that neither more nor less is allowed than is done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from xml.etree import ElementTree as Xml

from qwen_vla_ros.bringup import Bringup, NodeSpec
from qwen_vla_ros.errors import QwenVlaError

ENABLE, KEYSTORE, STRATEGY = (
    "ROS_SECURITY_ENABLE",
    "ROS_SECURITY_KEYSTORE",
    "ROS_SECURITY_STRATEGY",
)
FILES = (
    "identity_ca.cert.pem",
    "permissions_ca.cert.pem",
    "cert.pem",
    "key.pem",
    "governance.p7s",
    "permissions.p7s",
)
"""What an enclave's folder holds."""
VERSION = "0.2.0"
"""Of the policy's schema."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """Names that a node uses, as it calls them: before remapping, relative ones in its namespace.

    Attributes:
        publishes: Topics.
        subscribes: Topics.
        replies: Services that it answers.
        requests: Services that it calls.
        executes: Actions that it carries out.
        calls: Actions that it asks for.
    """

    publishes: tuple[str, ...] = ()
    subscribes: tuple[str, ...] = ()
    replies: tuple[str, ...] = ()
    requests: tuple[str, ...] = ()
    executes: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()

    def __add__(self, other: Access) -> Access:
        """Return what both allow."""
        return Access(
            **{each.name: getattr(self, each.name) + getattr(other, each.name) for each in KINDS}
        )

    def resolved(self, spec: NodeSpec) -> Access:
        """Return the same with full names, each once and sorted."""
        targets = dict(spec.remappings)

        def full(name: str) -> str:
            name = targets.get(name, name)
            if name.startswith("/"):
                return name
            path = name.replace("~", spec.name, 1) if name.startswith("~") else name
            return "/".join(("", *([spec.namespace] if spec.namespace else []), path))

        return Access(
            **{
                each.name: tuple(sorted({full(name) for name in getattr(self, each.name)}))
                for each in KINDS
            }
        )


KINDS = fields(Access)
RULES = {
    "publishes": ("topics", "topic", "publish"),
    "subscribes": ("topics", "topic", "subscribe"),
    "replies": ("services", "service", "reply"),
    "requests": ("services", "service", "request"),
    "executes": ("actions", "action", "execute"),
    "calls": ("actions", "action", "call"),
}
"""Element, its items and its attribute in the policy's XML."""

ANY_NODE = Access(
    publishes=("/rosout", "/parameter_events"),
    replies=(
        "~/describe_parameters",
        "~/get_parameter_types",
        "~/get_parameters",
        "~/get_type_description",
        "~/list_parameters",
        "~/set_parameters",
        "~/set_parameters_atomically",
    ),
)
LIFECYCLE = Access(
    publishes=("~/transition_event",),
    replies=(
        "~/change_state",
        "~/get_available_states",
        "~/get_available_transitions",
        "~/get_state",
        "~/get_transition_graph",
    ),
)
OPERATOR = ANY_NODE + Access(
    subscribes=("gate/output/safety_state", "/diagnostics"),
    requests=("gate/arm", "gate/stop", "gate/get_parameters", "simulator/reset"),
    calls=("execute_instruction",),
)
"""What `qwen-vla do`, `arm`, `stop`, `status` and `reset` use."""


def operator_of(namespace: str) -> NodeSpec:
    """Return the node of the operator's commands, which nothing starts but they."""
    return NodeSpec(executable="operator", namespace=namespace.strip("/"), parameters={})


def accesses(bringup: Bringup) -> list[tuple[NodeSpec, Access]]:
    """Return what every node of a robot's graph, and its operator, may do; names are full.

    Raises:
        QwenVlaError: The options contradict each other, or a node is none of ours.
    """
    file = bringup.embodiment.file
    cameras = tuple(camera.topic for camera in file.cameras)
    states = tuple(source.topic for source in file.state)
    outputs = tuple(output.topic for output in file.command.outputs)
    stops = tuple(stop.topic for stop in file.safety.stops)
    has_base = bringup.embodiment.has_base
    sees_scene = ("~/input/scene",) if bringup.policy == "expert" else ()
    own = {
        "policy": LIFECYCLE
        + Access(
            publishes=(
                "~/output/action_chunk",
                "~/output/instruction",
                "~/output/prompt",
                "/diagnostics",
            ),
            subscribes=(
                *cameras,
                *states,
                "~/input/safety_state",
                "~/input/task_status",
                *sees_scene,
            ),
            executes=("execute_instruction",),
        ),
        "gate": LIFECYCLE
        + Access(
            publishes=(*outputs, "~/output/safety_state", "/diagnostics"),
            subscribes=(*states, *stops, "~/input/action_chunk", "~/input/stop"),
            replies=("~/arm", "~/stop"),
        ),
        "monitor": Access(publishes=(*outputs, "~/output/steps_in"), subscribes=outputs),
        "simulator": Access(
            publishes=(*cameras, *states, "overview/image_raw", "scene/objects", "scene/status"),
            subscribes=(*outputs, "~/input/instruction"),
            replies=("~/reset",),
        ),
    }
    if has_base:
        # It asks whoever listens on its command topic when that one stops by itself.
        own["gate"] += Access(subscribes=("~/input/monitor",), requests=("/*/get_parameters",))
    if bringup.use_sim_time:
        for name in ("policy", "gate", "monitor"):
            own[name] += Access(subscribes=("/clock",))
        own["simulator"] += Access(publishes=("/clock",))
    found = []
    for spec in bringup.nodes():
        if spec.executable not in own:
            raise QwenVlaError(
                f"{spec.package} {spec.executable}: nothing is known of what it may say. Write "
                "its profile by hand, or with: ros2 security generate_policy"
            )
        found.append((spec, (ANY_NODE + own[spec.executable]).resolved(spec)))
    operator = operator_of(bringup.namespace)
    return [*found, (operator, OPERATOR.resolved(operator))]


def policy_xml(bringup: Bringup) -> str:
    """Return the policy of a robot's graph: one enclave a node, and nothing allowed beside it."""
    policy = Xml.Element("policy", version=VERSION)
    enclaves = Xml.SubElement(policy, "enclaves")
    for spec, access in accesses(bringup):
        enclave = Xml.SubElement(enclaves, "enclave", path=spec.enclave)
        profiles = Xml.SubElement(enclave, "profiles")
        profile = Xml.SubElement(profiles, "profile", ns=f"/{spec.namespace}", node=spec.name)
        for kind, (group, item, verb) in RULES.items():
            names: tuple[str, ...] = getattr(access, kind)
            if not names:
                continue
            allowed = Xml.SubElement(profile, group, {verb: "ALLOW"})
            for name in names:
                Xml.SubElement(allowed, item).text = name
    Xml.indent(policy)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{Xml.tostring(policy, encoding="unicode")}\n'


def require_enclaves(specs: Iterable[NodeSpec], environ: Mapping[str, str]) -> None:
    """Refuse to start nodes that would have no keys, where ROS's security is switched on.

    Raises:
        QwenVlaError: Names what is missing and what makes it.
    """
    if environ.get(ENABLE) != "true":
        return
    make = "Make them with: qwen-vla security, then ros2 security generate_artifacts"
    keystore = environ.get(KEYSTORE, "")
    if not keystore:
        raise QwenVlaError(f"{ENABLE} is true, but {KEYSTORE} is not set. {make}")
    if environ.get(STRATEGY) != "Enforce":
        raise QwenVlaError(
            f"{ENABLE} is true, but {STRATEGY} is not 'Enforce': a node without keys would "
            "speak in the clear. Set it to Enforce."
        )
    for spec in specs:
        folder = Path(keystore, "enclaves", *spec.enclave.split("/"))
        missing = [name for name in FILES if not (folder / name).is_file()]
        if missing:
            raise QwenVlaError(f"{folder}: {', '.join(missing)} missing. {make}")
