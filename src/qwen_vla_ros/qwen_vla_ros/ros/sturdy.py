"""A lifecycle node that outlives its callbacks: what fails is told to it, and it goes on."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile
from rclpy.service import Service
from rclpy.subscription import Subscription
from rclpy.timer import Timer

from qwen_vla_ros.ros.attributed_subscription import AttributedSubscription

BROKEN_IS_SAID_S = 1.0
"""A callback that fails again and again is told to the log this often (L5)."""


class SturdyNode(LifecycleNode):
    """Guards the callbacks of its timers, subscriptions and services.

    Attributes:
        attributed: Subscriptions that no executor takes from.
    """

    def __init__(self, name: str) -> None:
        self.attributed: list[AttributedSubscription] = []
        super().__init__(name)
        for service in self.services:
            service.callback = self.answering(service.callback)

    def on_broken(self, what: str) -> None:
        """Take in that a callback failed; it is called again when its time comes."""

    def create_attributed_subscription(
        self, message_type: type, topic: str, qos: QoSProfile
    ) -> AttributedSubscription:
        """Create a subscription that tells who published, and is taken from when it suits."""
        subscription = AttributedSubscription(self, message_type, topic, qos)
        self.attributed.append(subscription)
        return subscription

    @property
    def subscriptions(self) -> Iterator[Subscription]:
        """The subscriptions that an executor takes from."""
        hidden = {each.subscription for each in self.attributed}
        yield from (each for each in super().subscriptions if each not in hidden)

    def create_subscription(
        self, kind: type, topic: str, callback: Callable[..., object], *rest: Any, **more: Any
    ) -> Subscription:
        """Create a subscription whose callback may fail."""
        return super().create_subscription(kind, topic, self.guarded(callback), *rest, **more)

    def create_timer(
        self, period_s: float, callback: Callable[[], object], *rest: Any, **more: Any
    ) -> Timer:
        """Create a timer whose callback may fail."""
        return super().create_timer(period_s, self.guarded(callback), *rest, **more)

    def create_service(
        self, kind: type, name: str, callback: Callable[..., Any], *rest: Any, **more: Any
    ) -> Service:
        """Create a service whose callback may fail."""
        return super().create_service(kind, name, self.answering(callback), *rest, **more)

    def guarded(self, callback: Callable[..., Any]) -> Callable[..., Any]:
        """Return a callback that tells the node of its failure instead of raising it."""

        @functools.wraps(callback)
        def guarded(*arguments: Any) -> Any:
            try:
                return callback(*arguments)
            except Exception as error:
                self.note_broken(error)
                return None

        return guarded

    def note_broken(self, error: Exception) -> None:
        """Log what made a callback fail, and tell the node."""
        what = f"{type(error).__name__}: {error}"
        self.get_logger().error(
            f"a callback failed: {what}\n{traceback.format_exc()}",
            throttle_duration_sec=BROKEN_IS_SAID_S,
        )
        try:
            self.on_broken(what)
        except Exception:
            self.get_logger().fatal(traceback.format_exc(), throttle_duration_sec=BROKEN_IS_SAID_S)

    def answering(self, callback: Callable[..., Any]) -> Callable[..., Any]:
        """Return a service's callback that answers with a failure instead of raising it."""
        guarded = self.guarded(callback)

        def answering(request: Any, response: Any) -> Any:
            answer = guarded(request, response)
            if answer is not None:
                return answer
            if hasattr(response, "success"):
                response.success = False
            if hasattr(response, "message"):
                response.message = "it failed; the log says why"
            return response

        return answering
