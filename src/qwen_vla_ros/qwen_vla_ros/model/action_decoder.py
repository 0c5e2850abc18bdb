"""The action decoder: a single-stream diffusion transformer, top to bottom in forward order.

The sequence is [context tokens ; action tokens]. Every block is joint self-attention and a SwiGLU,
both modulated by the flow time (AdaLN). Two attention modes (`DecoderConfig.attention`):

- `joint`: context tokens see the actions and are modulated by t, like the actions. This is how
  the paper reads; each step recomputes everything.
- `prefix`: context tokens see neither. They are clean data, so they are modulated as t = 0, and
  their keys and values are computed once per observation.

Actions that are frozen are clean data too, in either mode: their time is 0 in every step.

Shapes: B batch, L context tokens, H action steps, S = tokens in a call, D width, N heads,
E = D / N per head, K action channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from qwen_vla_ros.model.block import Block, Past
from qwen_vla_ros.model.config import DecoderConfig
from qwen_vla_ros.model.flow import step_times
from qwen_vla_ros.model.modulation import BlockModulation, Modulation, Norm, TimestepEmbedding
from qwen_vla_ros.model.packed_block import PackedBlock, can_pack
from qwen_vla_ros.model.product import Layer
from qwen_vla_ros.model.rotation import Rotation, following, rotation


class Mlp(nn.Sequential):
    """Two linear layers with a SiLU between them."""

    def __init__(self, width_in: int, width: int, width_out: int) -> None:
        super().__init__(nn.Linear(width_in, width), nn.SiLU(), nn.Linear(width, width_out))

    def packed(self) -> Callable[[Tensor], Tensor]:
        """Return the same as it is computed when serving; (B, H, in) -> (B, H, out).

        The weights must not change any more.
        """
        up, down = (
            Layer(layer.weight, layer.bias) for layer in self if isinstance(layer, nn.Linear)
        )

        def run(x: Tensor) -> Tensor:
            return down(up(x, "silu"))

        return run


@dataclass(frozen=True)
class Layers:
    """What computes everything but AdaLN."""

    context_in: Callable[[Tensor], Tensor]
    action_in: Callable[[Tensor], Tensor]
    blocks: tuple[Block | PackedBlock, ...]
    action_out: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Schedule:
    """What is computed once, at load, to sample in a fixed number of steps.

    Attributes:
        steps: AdaLN of each step.
        clean: AdaLN of clean data.
        packed: The layers as a CPU computes them soonest, without gradients. `None` elsewhere.
    """

    steps: tuple[Modulation, ...]
    clean: Modulation
    packed: Layers | None


@dataclass(frozen=True)
class Prefix:
    """What is computed once per observation, before the first step.

    Attributes:
        layers: What computes the steps.
        context: Projected context tokens (B, L, D) in `joint` mode, else none (B, 0, D).
        past: Keys and values of the context, per block; `None` in `joint` mode.
        rotation: Of the tokens that the steps compute: all in `joint` mode, else the actions.
        visible: True where a key may be seen; (B, 1, 1, L + H). `None` when all may.
    """

    layers: Layers
    context: Tensor
    past: tuple[Past | None, ...]
    rotation: Rotation
    visible: Tensor | None


class ActionDecoder(nn.Module):
    """Predicts the velocity of noisy actions, given what the backbone made of the observation."""

    def __init__(self, config: DecoderConfig, context_width: int) -> None:
        super().__init__()
        self.config = config
        width, channels = config.width, config.action_channels
        self.context_in = nn.Linear(context_width, width)
        self.timestep = TimestepEmbedding(config)
        self.action_in = Mlp(channels, width, width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_blocks))
        self.output_adaln = nn.Linear(width, 2 * width)
        self.action_out = Mlp(width, width, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Begin as the identity (AdaLN-Zero), with a velocity of zero."""
        last = (*(block.adaln for block in self._blocks), self.output_adaln, self.action_out[-1])
        for layer in last:
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    @property
    def _blocks(self) -> tuple[Block, ...]:
        return tuple(block for block in self.blocks if isinstance(block, Block))

    @property
    def is_joint(self) -> bool:
        """Say whether context tokens see the actions."""
        return self.config.attention == "joint"

    def modulation(self, t: Tensor) -> Modulation:
        """Return the AdaLN vectors at flow times `t` (B,)."""
        embedded = functional.silu(self.timestep(t)).unsqueeze(1)  # (B, 1, D)
        return self._modulation(embedded)

    def _modulation(self, embedded: Tensor) -> Modulation:
        return Modulation(
            blocks=tuple(BlockModulation.of(block.adaln(embedded)) for block in self._blocks),
            output=Norm.of(*self.output_adaln(embedded).chunk(2, dim=-1)),
        )

    def schedule(self, steps: int) -> Schedule:
        """Prepare to sample in `steps` Euler steps; the weights must not change any more."""
        # Guidance wants gradients, and what is made under inference mode can have none.
        with torch.inference_mode(mode=False), torch.no_grad():
            times = functional.pad(step_times(steps), (0, 1)).to(self.context_in.weight.device)
            *noisy, clean = (
                self._modulation(embedded) for embedded in functional.silu(self.timestep(times))
            )
            packed = None
            if can_pack(self.context_in.weight):
                last = self._blocks[-1]
                packed = Layers(
                    context_in=Layer(self.context_in.weight, self.context_in.bias),
                    action_in=self.action_in.packed(),
                    blocks=tuple(PackedBlock(x, is_last=x is last) for x in self._blocks),
                    action_out=self.action_out.packed(),
                )
            return Schedule(steps=tuple(noisy), clean=clean, packed=packed)

    def begin(
        self,
        context: Tensor,
        positions: Tensor,
        horizon: int,
        *,
        context_mask: Tensor | None = None,
        step_mask: Tensor | None = None,
        schedule: Schedule | None = None,
    ) -> Prefix:
        """Do everything that does not depend on the actions.

        Args:
            context: Hidden states of all backbone tokens; (B, L, context width).
            positions: The backbone's positions of these tokens; (3, B, L).
            horizon: H.
            context_mask: True where a context token is real; (B, L). `None`: all are.
            step_mask: True where an action step is real; (B, H). `None`: all are.
            schedule: What was prepared, if no gradients are wanted.
        """
        packed = None if schedule is None else schedule.packed
        layers = packed or Layers(self.context_in, self.action_in, self._blocks, self.action_out)
        x = layers.context_in(context)  # (B, L, D)
        batch, length, _ = x.shape
        visible = self._visible(batch, length, horizon, context_mask, step_mask, x.device)
        places = torch.cat((positions, following(positions, horizon)), dim=2)
        rotate = rotation(self.config, places, x.dtype)
        if self.is_joint:
            return Prefix(layers, x, (None,) * len(layers.blocks), rotate, visible)

        rotate_context, rotate_actions = rotate.split(length)
        if schedule is None:
            clean, room = self.modulation(torch.zeros(1, device=x.device)), 0
        else:
            clean, room = schedule.clean, horizon
        seen = None if visible is None else visible[..., :length]
        tokens, past = x, []
        *body, last = zip(layers.blocks, clean.blocks, strict=True)
        for block, modulation in body:
            tokens, own = block(tokens, modulation, rotate_context, visible=seen, room=room)
            past.append(own)
        past.append(last[0].keep(tokens, last[1], rotate_context, room))
        return Prefix(layers, x[:, :0], tuple(past), rotate_actions, visible)

    def velocity(self, prefix: Prefix, actions: Tensor, modulation: Modulation) -> Tensor:
        """Return dY/dt of noisy `actions` (B, H, K), at the time that `modulation` stands for."""
        horizon, layers = actions.shape[1], prefix.layers
        x = layers.action_in(actions.to(self.context_in.weight.dtype))  # (B, H, D)
        if self.is_joint:
            x = torch.cat((prefix.context, x), dim=1)  # (B, L + H, D)
        # Of the last block nothing is read but the actions.
        asked = (*(None for _ in layers.blocks[1:]), horizon)
        for block, vectors, past, last in zip(
            layers.blocks, modulation.blocks, prefix.past, asked, strict=True
        ):
            x, _ = block(x, vectors, prefix.rotation, past=past, visible=prefix.visible, last=last)
        return layers.action_out(modulation.output(x)).float()

    def forward(
        self,
        context: Tensor,
        positions: Tensor,
        actions: Tensor,
        t: Tensor,
        *,
        context_mask: Tensor | None = None,
        step_mask: Tensor | None = None,
        frozen: Tensor | None = None,
    ) -> Tensor:
        """Return the velocity at flow times `t` (B,), with nothing computed beforehand.

        Where `frozen` (B, H) is true, an action is clean data: its own time is 0.
        """
        prefix = self.begin(
            context, positions, actions.shape[1], context_mask=context_mask, step_mask=step_mask
        )
        modulation = self.modulation(t)
        if frozen is not None:
            clean = self.modulation(torch.zeros_like(t))
            modulation = modulation.frozen(frozen, clean, prefix.context.shape[1])
        return self.velocity(prefix, actions, modulation)

    @staticmethod
    def _visible(
        batch: int,
        length: int,
        horizon: int,
        context_mask: Tensor | None,
        step_mask: Tensor | None,
        device: torch.device,
    ) -> Tensor | None:
        if context_mask is None and step_mask is None:
            return None
        if context_mask is None:
            context_mask = torch.ones(batch, length, dtype=torch.bool, device=device)
        if step_mask is None:
            step_mask = torch.ones(batch, horizon, dtype=torch.bool, device=device)
        return torch.cat((context_mask, step_mask), dim=1)[:, None, None, :]
