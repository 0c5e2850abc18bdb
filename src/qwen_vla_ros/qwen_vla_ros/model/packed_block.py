"""A block as it is computed when serving on a CPU: the same numbers from the same weights, sooner.

- Weights are laid out once as oneDNN wants them, which otherwise happens in every call.
- Keys and queries have the halves of a head interleaved, so that a rotation is one product of
  complex numbers; attention does not mind the order in a head.
- Attention of many tokens is one pair of products per head. torch's own kernel uses MKL; see
  `product`.

Shapes: B batch, S tokens, L tokens of the past, D width, N heads, E = D / N per head.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from qwen_vla_ros.model.block import Block, Past
from qwen_vla_ros.model.modulation import BlockModulation
from qwen_vla_ros.model.product import Layer, product
from qwen_vla_ros.model.rotation import Rotation

FEW = 64
"""Up to so many queries, one call for all heads takes less time than one for each."""


def can_pack(weight: Tensor) -> bool:
    """Say whether blocks with such weights can be packed."""
    return weight.is_cpu and weight.dtype == torch.float32


class PackedBlock:
    """Computes what a `Block` does, without gradients; the weights must not change any more."""

    def __init__(self, block: Block, *, is_last: bool) -> None:
        """Pack a block.

        Args:
            block: Where the weights come from.
            is_last: Whether no block follows. Then queries are projected by themselves, since
                those of the context are not needed; otherwise one product takes less time.
        """
        self._heads = block.num_heads
        with torch.no_grad():
            query, key, value = block.qkv.weight.chunk(3)
            # The scale of attention becomes a part of the query.
            query = query * (query.shape[0] // self._heads) ** -0.5
            query, key = (self._interleave(weight) for weight in (query, key))
            together = (
                (query, torch.cat((key, value))) if is_last else (torch.cat((query, key, value)),)
            )
            self._projections = tuple(Layer(weight) for weight in together)
            self._out = Layer(block.attention_out.weight)
            self._gate_up, self._down = Layer(block.gate_up.weight), Layer(block.down.weight)

    def keep(
        self, x: Tensor, modulation: BlockModulation, rotate: Rotation, room: int = 0
    ) -> Past:
        """Return only what later tokens need of `x`; see `Block.keep`."""
        *_, key, value = self._project(modulation.attention(x))
        return Past.of(self._turn(key, _turns(rotate)), value, room)

    def __call__(
        self,
        x: Tensor,
        modulation: BlockModulation,
        rotate: Rotation,
        *,
        past: Past | None = None,
        visible: Tensor | None = None,
        last: int | None = None,
        room: int = 0,
    ) -> tuple[Tensor, Past]:
        """Run the block; see `Block.forward`."""
        turns = _turns(rotate)
        asked = x.shape[1] if last is None else last
        normal = modulation.attention(x)
        *queries, key, value = self._project(normal)
        if not queries:
            queries = [self._split(self._projections[0](normal[:, -asked:]))]
        query = self._turn(queries[0][:, :, -asked:], turns[:, :, -asked:])
        x, modulation = x[:, -asked:], modulation.last(asked)
        key = self._turn(key, turns)
        own = Past.of(key, value, room)
        if past is not None:
            key, value = past.followed_by(key, value)
        attended = self._out(self._attend(query, key, value, visible))
        x = torch.addcmul(x, modulation.attention_gate, attended)

        gate, up = self._gate_up(modulation.mlp(x)).chunk(2, dim=-1)
        answer = self._down(functional.silu(gate).mul_(up))
        return torch.addcmul(x, modulation.mlp_gate, answer), own

    def _interleave(self, weight: Tensor) -> Tensor:
        """Bring together what a rotation turns; (D, D) both ways."""
        halves = weight.reshape(self._heads, 2, -1, weight.shape[1])  # (N, 2, E/2, D)
        return halves.transpose(1, 2).flatten(0, 2)

    def _project(self, x: Tensor) -> list[Tensor]:
        """Return keys and values of (B, S, D), after the queries where they come along."""
        parts = torch.split(self._projections[-1](x), x.shape[2], dim=-1)
        return [self._split(part) for part in parts]

    def _split(self, x: Tensor) -> Tensor:
        """(B, S, D) -> (B, N, S, E)."""
        return x.view(*x.shape[:2], self._heads, -1).transpose(1, 2)

    @staticmethod
    def _turn(x: Tensor, turns: Tensor) -> Tensor:
        """Rotate (B, N, S, E); every head becomes one piece of memory."""
        turned = torch.empty(x.shape, dtype=x.dtype)
        pairs, into = (torch.view_as_complex(y.view(*y.shape[:3], -1, 2)) for y in (x, turned))
        torch.mul(pairs, turns, out=into)
        return turned

    @staticmethod
    def _attend(query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None) -> Tensor:
        """Return what tokens read from others; (B, S, D)."""
        if visible is not None or query.shape[2] <= FEW or len(query) > 1:
            attended = functional.scaled_dot_product_attention(
                query, key, value, attn_mask=visible, scale=1.0
            )
            return attended.transpose(1, 2).flatten(2)
        # Turning a matrix over is fast where it is one piece of memory.
        columns = value[0].transpose(0, 1).flatten(1).t().contiguous()  # (D, S)
        heads = [
            product(torch.softmax(product(q, k), dim=-1), v)
            for q, k, v in zip(query[0], key[0], columns.chunk(query.shape[1]), strict=True)
        ]
        return torch.cat(heads, dim=-1).unsqueeze(0)


def _turns(rotate: Rotation) -> Tensor:
    if rotate.turns is None:
        raise ValueError("a packed block computes in float32")
    return rotate.turns
