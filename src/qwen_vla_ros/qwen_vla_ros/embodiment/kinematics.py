"""Where the links of a robot are, and which joint positions bring one of them somewhere.

Frames: a pose is `root_from_frame`, a (4, 4) matrix that takes coordinates in a link's frame to
the root link's frame (metres). The root link of `aloha_sim` is `world`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pinocchio as pin

from qwen_vla_ros.types import FloatArray

Positions = Mapping[str, float] | npt.ArrayLike
"""Joint positions by name, or as an array (J,) in the order of `Kinematics.joints`."""

# A radian of error counts as this many metres: about the reach from wrist to fingertip.
ROTATION_WEIGHT_M = 0.3
MAX_STEP = 0.3
MIN_DAMPING = 1e-8


@dataclass(frozen=True, kw_only=True, eq=False)
class IkSolution:
    """The best that the search found.

    Attributes:
        positions: Positions (n,) of the joints that were asked for, inside their limits.
        position_error: Distance from the target in m.
        rotation_error: Angle from the target in rad.
        converged: Whether both errors are within the tolerances.
        iterations: How many steps the search took.
    """

    positions: FloatArray
    position_error: float
    rotation_error: float
    converged: bool
    iterations: int


class Kinematics:
    """Forward and inverse kinematics of one robot description.

    Not thread-safe: the results of the last computation are kept inside.

    Attributes:
        joints: Names of the joints that move by themselves; joints that mimic are left out and
            follow their leaders.
        lower: Lower position limits (J,) in that order; minus infinity for a continuous joint.
        upper: Upper position limits (J,).
    """

    def __init__(self, urdf_xml: str) -> None:
        self._model = pin.buildModelFromXML(urdf_xml, mimic=True)
        self._data = self._model.createData()
        # nv is 0 for the universe and for a joint that mimics. A continuous joint has one speed,
        # but two numbers as its position: the cosine and sine of its angle.
        moving = [
            (name, joint)
            for name, joint in zip(self._model.names, self._model.joints, strict=True)
            if joint.nv == 1 and joint.idx_v >= 0
        ]
        self.joints = tuple(str(name) for name, _ in moving)
        self._column = {name: index for index, name in enumerate(self.joints)}
        self._turns = np.array([joint.nq == 2 for _, joint in moving], dtype=bool)
        self._slot = np.array([joint.idx_q for _, joint in moving], dtype=int)
        self._speed_slot = np.array([joint.idx_v for _, joint in moving], dtype=int)
        lower = np.array(self._model.lowerPositionLimit)[self._slot]
        upper = np.array(self._model.upperPositionLimit)[self._slot]
        self.lower = np.where(self._turns, -np.inf, lower)
        self.upper = np.where(self._turns, np.inf, upper)

    @property
    def model(self) -> Any:
        """Pinocchio's model."""
        return self._model

    def configuration(self, values: FloatArray) -> FloatArray:
        """Return Pinocchio's configuration (nq,) for positions (J,) in the order of `joints`."""
        configuration: FloatArray = np.empty(self._model.nq)
        configuration[self._slot] = values
        if self._turns.any():
            turning = values[self._turns]
            configuration[self._slot[self._turns]] = np.cos(turning)
            configuration[self._slot[self._turns] + 1] = np.sin(turning)
        return configuration

    def pose(
        self, positions: Positions, frame: str, offset: npt.ArrayLike = (0.0, 0.0, 0.0)
    ) -> FloatArray:
        """Return `root_from_frame` (4, 4), with its origin moved by `offset` m in the frame."""
        index = self._move(self._values(positions), frame)
        return self._tool_pose(index, np.asarray(offset, dtype=float))

    def jacobian(
        self, positions: Positions, frame: str, offset: npt.ArrayLike = (0.0, 0.0, 0.0)
    ) -> FloatArray:
        """Return the (6, J) Jacobian of the tool point, in the axes of the root.

        Rows 0 to 2 are the velocity in m/s of the point `offset` of the frame, rows 3 to 5 the
        angular velocity in rad/s, per unit of joint speed.
        """
        index = self._move(self._values(positions), frame)
        return self._tool_jacobian(index, np.asarray(offset, dtype=float))

    def solve_ik(
        self,
        frame: str,
        target: FloatArray,
        start: Positions,
        joints: Sequence[str],
        *,
        offset: npt.ArrayLike = (0.0, 0.0, 0.0),
        position_tolerance: float = 1e-4,
        rotation_tolerance: float = 1e-3,
        max_iterations: int = 40,
    ) -> IkSolution:
        """Move `joints` until the tool point of `frame` meets `target`, by damped least squares.

        Args:
            frame: Name of a link.
            target: `root_from_tool` (4, 4); the tool has the axes of the frame and its origin at
                `offset`.
            start: Positions of all joints; those not in `joints` stay there.
            joints: Names of the joints that may move. They stay within their URDF limits.
            offset: The tool point in the frame, in m.
            position_tolerance: In m.
            rotation_tolerance: In rad.
            max_iterations: After as many steps the best so far is returned, not converged.
        """
        tool_offset = np.asarray(offset, dtype=float)
        columns = np.array([self._column_of(joint) for joint in joints])
        lower, upper = self.lower[columns], self.upper[columns]
        values = self._values(start)
        values[columns] = np.clip(values[columns], lower, upper)
        best: IkSolution | None = None
        for iteration in range(max_iterations):
            index = self._move(values, frame)
            error = _pose_error(target, self._tool_pose(index, tool_offset))
            distance, angle = float(np.linalg.norm(error[:3])), float(np.linalg.norm(error[3:]))
            here = IkSolution(
                positions=values[columns],
                position_error=distance,
                rotation_error=angle,
                converged=distance <= position_tolerance and angle <= rotation_tolerance,
                iterations=iteration,
            )
            if best is None or _cost(here) < _cost(best):
                best = here
            if here.converged:
                return here
            jacobian = self._tool_jacobian(index, tool_offset)[:, columns]
            moved = np.clip(values[columns] + _damped_step(jacobian, error), lower, upper)
            if np.max(np.abs(moved - values[columns])) < 1e-9:
                break  # pressed against its limits: no step is left
            values[columns] = moved
        if best is None:
            raise ValueError("max_iterations must be at least 1")
        return best

    def _column_of(self, joint: str) -> int:
        if joint not in self._column:
            raise ValueError(f"unknown joint '{joint}'; known: {', '.join(self.joints)}")
        return self._column[joint]

    def _frame_index(self, frame: str) -> int:
        if not self._model.existFrame(frame):
            names = ", ".join(f.name for f in self._model.frames)
            raise ValueError(f"unknown frame '{frame}'; known: {names}")
        return int(self._model.getFrameId(frame))

    def _values(self, positions: Positions) -> FloatArray:
        """Return positions (J,) in the order of `joints`; every joint must have one."""
        if isinstance(positions, Mapping):
            return np.array([float(positions[name]) for name in self.joints])
        values = np.array(positions, dtype=float)
        if values.shape != (len(self.joints),):
            raise ValueError(f"{len(self.joints)} positions are needed, not shape {values.shape}")
        return values

    def _move(self, values: FloatArray, frame: str) -> int:
        """Compute where everything is at positions (J,), and return the index of a frame."""
        pin.framesForwardKinematics(self._model, self._data, self.configuration(values))
        return self._frame_index(frame)

    def _tool_pose(self, index: int, offset: FloatArray) -> FloatArray:
        pose: FloatArray = self._data.oMf[index].homogeneous
        pose[:3, 3] += pose[:3, :3] @ offset
        return pose

    def _tool_jacobian(self, index: int, offset: FloatArray) -> FloatArray:
        pin.computeJointJacobians(self._model, self._data)
        jacobian: FloatArray = pin.getFrameJacobian(
            self._model, self._data, index, pin.LOCAL_WORLD_ALIGNED
        )[:, self._speed_slot]
        # The tool point moves with the frame's origin and around it: v + w x r.
        x, y, z = self._data.oMf[index].rotation @ offset
        lever = np.array([[0.0, z, -y], [-z, 0.0, x], [y, -x, 0.0]])
        jacobian[:3] += lever @ jacobian[3:]
        return jacobian


def _pose_error(target: FloatArray, pose: FloatArray) -> FloatArray:
    """Return (6,): the translation in m and the rotation vector in rad from pose to target."""
    return np.concatenate([target[:3, 3] - pose[:3, 3], pin.log3(target[:3, :3] @ pose[:3, :3].T)])


def _damped_step(jacobian: FloatArray, error: FloatArray) -> FloatArray:
    """Return a step (n,) towards the target: damped far away, nearly Newton's close by."""
    weight = np.array([1.0, 1.0, 1.0, *[ROTATION_WEIGHT_M] * 3])
    weighted = jacobian * weight[:, None]
    residual = error * weight
    # Damping by the squared error keeps steps short near a singularity while far from the
    # target, and lets the last steps converge quadratically.
    damping = 0.05 * float(residual @ residual) + MIN_DAMPING
    normal = weighted.T @ weighted + damping * np.eye(jacobian.shape[1])
    step: FloatArray = np.linalg.solve(normal, weighted.T @ residual)
    largest = float(np.max(np.abs(step)))
    return step if largest <= MAX_STEP else step * (MAX_STEP / largest)


def _cost(solution: IkSolution) -> float:
    return solution.position_error + ROTATION_WEIGHT_M * solution.rotation_error
