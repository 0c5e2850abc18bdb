"""Questions to the live graph, answered before anything moves."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence

from rclpy.node import Node
from rclpy.topic_endpoint_info import TopicEndpointInfo

from qwen_vla_ros.errors import NotReadyError
from qwen_vla_ros.safety.admission import NOBODY

UNKNOWN = NOBODY
"""Name of a node whose publisher is known and whose name is not yet."""
UNDISCOVERED = "_NODE_NAME_UNKNOWN_"
"""What the middleware says while it knows a publisher and not yet its node."""


def require_subscriber(
    node: Node, topic: str, type_name: str, besides: Collection[str] = ()
) -> None:
    """Refuse when nobody listens on `topic` with the type `type_name` (`pkg/msg/Type`).

    Args:
        node: Who asks.
        topic: As the node calls it.
        type_name: What they must listen with.
        besides: Full names of nodes that do not count.

    Raises:
        NotReadyError: No subscriber, or only subscribers of another type.
    """
    resolved = node.resolve_topic_name(topic)
    infos = [
        info
        for info in node.get_subscriptions_info_by_topic(resolved)
        if _full_name(info) not in besides
    ]
    _require(infos, type_name, f"command topic '{resolved}' has no subscriber", "listens with")


def require_publisher(node: Node, topic: str, type_name: str) -> None:
    """Refuse when nobody publishes `type_name` on `topic`.

    Raises:
        NotReadyError: No publisher, or only publishers of another type.
    """
    resolved = node.resolve_topic_name(topic)
    infos = node.get_publishers_info_by_topic(resolved)
    _require(infos, type_name, f"topic '{resolved}' has no publisher", "publishes")


def require_sole_publisher(node: Node, topic: str, besides: Collection[str] = ()) -> None:
    """Refuse when another node than this one publishes on a command topic (F11, J1).

    Args:
        node: The one that may.
        topic: As the node calls it.
        besides: Full names of nodes that may as well.

    Raises:
        NotReadyError: Names the intruder.
    """
    resolved = node.resolve_topic_name(topic)
    intruders = other_publishers(node, resolved, besides)
    if intruders:
        raise NotReadyError(
            f"command topic '{resolved}' has another publisher: {', '.join(intruders)}. "
            "Only one gate may command a controller; stop the other one."
        )


def other_publishers(node: Node, topic: str, besides: Collection[str] = ()) -> list[str]:
    """Return the full names of the other nodes that publish on `topic`, but for `besides`."""
    own = node.get_fully_qualified_name()
    return sorted({*publishers(node, topic)} - {own, *besides})


def publishers(node: Node, topic: str) -> list[str]:
    """Return the full name of the node of every publisher on `topic`, sorted."""
    return sorted(Publishers(node, topic).look().values())


def subscribers(node: Node, topic: str) -> list[str]:
    """Return the full names of the nodes that listen on `topic`, sorted."""
    infos = node.get_subscriptions_info_by_topic(node.resolve_topic_name(topic))
    return sorted({_full_name(info) for info in infos})


class Publishers:
    """Who publishes on one topic. Asking costs so little that every tick may do it."""

    CLOSELY_S = 0.2
    """How often they are looked at one by one; their number is compared at every look."""

    def __init__(self, node: Node, topic: str) -> None:
        self.topic = topic
        self._node = node
        self._resolved = node.resolve_topic_name(topic)
        self._count = -1
        self._looked_s = 0.0
        self._names: dict[bytes, str] = {}

    def look(self) -> Mapping[bytes, str]:
        """Return the full name of the node of every publisher, by its endpoint."""
        count = self._node.count_publishers(self._resolved)
        is_old = time.monotonic() - self._looked_s > self.CLOSELY_S
        if count != self._count or is_old or UNKNOWN in self._names.values():
            self._count = count
            self._look_closely()
        return self._names

    def name(self, source: bytes) -> str:
        """Return the full name of the node that published something."""
        if source not in self._names:
            self._look_closely()
        return self._names.get(source, UNKNOWN)

    def _look_closely(self) -> None:
        self._looked_s = time.monotonic()
        infos = self._node.get_publishers_info_by_topic(self._resolved)
        self._names = {bytes(info.endpoint_gid): _full_name(info) for info in infos}


def _require(infos: Sequence[TopicEndpointInfo], wanted: str, absence: str, verb: str) -> None:
    if not infos:
        raise NotReadyError(
            f"{absence}. Expected {wanted}; is the driver running, in this namespace?"
        )
    others = [info for info in infos if info.topic_type != wanted]
    if len(others) == len(infos):
        raise NotReadyError(
            f"{absence} of the right type: {_full_name(others[0])} {verb} "
            f"{others[0].topic_type}, expected {wanted}."
        )


def _full_name(info: TopicEndpointInfo) -> str:
    if info.node_name == UNDISCOVERED:
        return UNKNOWN
    return f"{info.node_namespace.rstrip('/')}/{info.node_name}"
