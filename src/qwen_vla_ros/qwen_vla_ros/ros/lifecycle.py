"""A lifecycle node whose transitions are refused with a sentence, and that can start itself.

A transition that does not fit the state is refused too; rclpy would end the process for it.
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.client import Client
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.publisher import Publisher
from rclpy.service import Service
from rclpy.subscription import Subscription
from rclpy.timer import Timer

from qwen_vla_ros.errors import NotReadyError, QwenVlaError
from qwen_vla_ros.options import Options, option
from qwen_vla_ros.ros.parameters import declare
from qwen_vla_ros.ros.sturdy import SturdyNode

STEADY = Clock(clock_type=ClockType.STEADY_TIME)
"""Decides ages and paces output: no clock step and no paused simulation touches it."""

AUTOSTART_PERIOD_S = 0.5
TRANSITIONS = {
    Transition.TRANSITION_CONFIGURE: "configure",
    Transition.TRANSITION_CLEANUP: "cleanup",
    Transition.TRANSITION_ACTIVATE: "activate",
    Transition.TRANSITION_DEACTIVATE: "deactivate",
    Transition.TRANSITION_UNCONFIGURED_SHUTDOWN: "shutdown",
    Transition.TRANSITION_INACTIVE_SHUTDOWN: "shutdown",
    Transition.TRANSITION_ACTIVE_SHUTDOWN: "shutdown",
}
LONGEST_WISH = 40


@dataclass(frozen=True, kw_only=True)
class ManagedParameters(Options):
    """What every managed node of this package has."""

    autostart: bool = option(
        "Configure and activate without being told, retrying while something is missing.",
        default=True,
    )


class ManagedNode(SturdyNode):
    """Base of the nodes with a lifecycle.

    A node fills in four hooks. A `QwenVlaError` raised in `on_setup` or `on_start` refuses the
    transition, and its sentence is logged once; after a `NotReadyError` it is tried again.

    Attributes:
        is_active: Whether it works.
        is_loading: Whether it may be interrupted at any time.
        has_failed: Whether it cannot start by itself however long it waits: the process ends.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        for service in self.services:
            if service.srv_type is ChangeState:
                change = functools.partial(self._change_state, service.callback)
                service.callback = self.answering(change)
        self.is_active = False
        self.is_loading = False
        self._before_setup: set[Any] = set()
        self._refusal = ""
        self._may_recover = False
        self._leaving = False
        self.has_failed = False
        if declare(self, ManagedParameters).autostart:
            self._autostart: Timer | None = self.create_steady_timer(
                AUTOSTART_PERIOD_S, self._try_to_start
            )
        else:
            self._autostart = None

    # Hooks -----------------------------------------------------------------------------------

    def on_setup(self) -> None:
        """Load and check everything that needs no other process; subscribe."""

    def on_start(self) -> None:
        """Check the live graph, then begin."""

    def on_stop(self) -> None:
        """Cease to begin anything; motion that is under way is brought to rest."""

    def on_teardown(self) -> None:
        """Let go of what `on_setup` took; publishers, subscriptions and such go by themselves."""

    def at_rest(self) -> bool:
        """Say whether this process may end without leaving a robot in motion."""
        return True

    # What nodes use --------------------------------------------------------------------------

    def create_steady_timer(self, period_s: float, callback: Callable[[], None]) -> Timer:
        """Create a timer that runs on even when ROS time is paused or stepped."""
        return self.create_timer(period_s, callback, clock=STEADY)

    def now_ns(self) -> int:
        """Return the ROS time in nanoseconds (simulated time where use_sim_time is set)."""
        return int(self.get_clock().now().nanoseconds)

    def begin_leaving(self) -> None:
        """Start the way down: no more autostart, producers stop, gates brake."""
        self._leaving = True
        self._end_autostart()
        if self.is_active:
            self.guarded(self.trigger_deactivate)()

    # Transitions -----------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:  # noqa: ARG002
        """Run `on_setup`."""
        self.is_loading = True
        self._before_setup = self._entities()
        try:
            is_configured = self._attempt("configure", self.on_setup)
        finally:
            self.is_loading = False
        if not is_configured:
            self._destroy_what_setup_made()
        return _answer(succeeded=is_configured)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Run `on_start`."""
        if not self._attempt("activate", self.on_start):
            return TransitionCallbackReturn.FAILURE
        self.is_active = True
        self._refusal = ""
        self.get_logger().info("active")
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Run `on_stop`."""
        self.is_active = False
        self.guarded(self.on_stop)()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:  # noqa: ARG002
        """Run `on_teardown`."""
        if not self._attempt("clean up", self.on_teardown):
            return TransitionCallbackReturn.FAILURE
        self._destroy_what_setup_made()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:  # noqa: ARG002
        """Stop first where the node is active."""
        if self.is_active:
            self.is_active = False
            self.guarded(self.on_stop)()
        return TransitionCallbackReturn.SUCCESS

    def _change_state(
        self,
        change: Callable[[ChangeState.Request, ChangeState.Response], ChangeState.Response],
        request: ChangeState.Request,
        response: ChangeState.Response,
    ) -> ChangeState.Response:
        """Refuse a transition that does not fit: rclpy would raise it out of the executor."""
        asked = request.transition
        possible = {
            label: number for number, label, *_ in self._state_machine.available_transitions
        }
        fits = asked.label in possible if asked.label else asked.id in possible.values()
        if fits:
            return change(request, response)
        wish = asked.label or TRANSITIONS.get(asked.id, f"make transition {asked.id}")
        self.get_logger().warning(
            f"cannot {wish[:LONGEST_WISH]!r}: the node is {self._state()}; "
            f"possible now: {', '.join(possible) or 'nothing'}"
        )
        response.success = False
        return response

    def _attempt(self, transition: str, hook: Callable[[], None]) -> bool:
        try:
            hook()
        except QwenVlaError as error:
            sentence = f"cannot {transition}: {error}"
            self._may_recover = isinstance(error, NotReadyError)
            if sentence != self._refusal:
                self._log_refusal(sentence, transition)
            self._refusal = sentence
            return False
        except Exception:
            # rclpy would turn it into a silent failure of the transition.
            self._may_recover = False
            self.get_logger().fatal(f"cannot {transition}:\n{traceback.format_exc()}")
            return False
        return True

    def _log_refusal(self, sentence: str, transition: str) -> None:
        waits = transition == "activate" or (transition == "configure" and self._may_recover)
        if self._autostart is not None and waits:
            self.get_logger().info(f"{sentence} (waiting)")
        else:
            self.get_logger().error(sentence)

    def _entities(self) -> set[Any]:
        heard = (each.subscription for each in self.attributed)
        taken = (*self.subscriptions, *self.services, *self.clients, *self.timers)
        return {*self.publishers, *heard, *taken}

    def _destroy_what_setup_made(self) -> None:
        for entity in self._entities() - self._before_setup:
            self._destroy_entity(entity)
        self.attributed = [
            each for each in self.attributed if each.subscription in self._before_setup
        ]

    def _destroy_entity(self, entity: Any) -> None:
        destroyers = {
            Publisher: self.destroy_publisher,
            Subscription: self.destroy_subscription,
            Service: self.destroy_service,
            Client: self.destroy_client,
            Timer: self.destroy_timer,
        }
        next(destroy for kind, destroy in destroyers.items() if isinstance(entity, kind))(entity)

    def _try_to_start(self) -> None:
        if self._leaving or self._state() in ("active", "finalized"):
            self._end_autostart()
            return
        if self._state() == "unconfigured":
            self.trigger_configure()
        if self._state() == "inactive":
            self.trigger_activate()
        elif not self._may_recover:
            # A wrong file does not heal while we wait; a missing driver or server may.
            self._end_autostart()
            self.has_failed = True

    def _state(self) -> str:
        return str(self._state_machine.current_state[1])

    def _end_autostart(self) -> None:
        if self._autostart is not None:
            self._autostart.cancel()


def _answer(*, succeeded: bool) -> TransitionCallbackReturn:
    return TransitionCallbackReturn.SUCCESS if succeeded else TransitionCallbackReturn.FAILURE
