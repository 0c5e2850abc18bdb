"""The gated delta rule: what three layers of four do instead of attention, chunk by chunk.

Each head keeps a matrix S that maps keys to values. Token t lets S decay by exp(g_t), then moves
what S answers to k_t a fraction beta_t of the way to v_t, then reads S with q_t. Within a chunk
all tokens are one system of equations; chunks follow one another.

The numbers are those of the family's own function. Faster are: chunks half as long where heads
are narrow, no denormal numbers, and two products in the loop over chunks where it has four.

Shapes: B batch, L tokens, G key heads, N value heads, E key width, V value width, C chunk length,
R = B * N rows of work, n chunks.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

EPS = 1e-6

LEAST = -40.0
"""Logarithm below which a decay counts as this: 4e-18 is lost in any sum, and so is the square of
it. A product of less is denormal, which takes some CPUs a hundred times as long: with 1e-35 the
backbone took 113 ms on one Xeon core, with this 38."""


def gated_delta_rule(
    query: Tensor, key: Tensor, value: Tensor, decay: Tensor, beta: Tensor
) -> Tensor:
    """Return what every token reads; float32, (B, L, N, V).

    Args:
        query: Not yet normalised; (B, L, G, E).
        key: Not yet normalised; (B, L, G, E).
        value: Each key head serves N / G value heads; (B, L, N, V).
        decay: Logarithm of the decay, at most 0; (B, L, N).
        beta: Learning rate, from 0 to 1; (B, L, N).
    """
    if torch.is_autocast_enabled(query.device.type):
        # Sums over a whole prompt: what trains in half precision is whole here, too.
        with torch.autocast(query.device.type, enabled=False):
            return gated_delta_rule(query, key, value, decay, beta)
    batch, length, heads, width = value.shape
    shared = heads // key.shape[2]
    # Work inside of a chunk grows with its length, work between chunks with the width of a head.
    chunk = 64 if key.shape[3] > 64 else 32

    query = _unit(query.float(), key.shape[3] ** -0.5)
    key = _unit(key.float())
    if shared > 1:
        query, key = (x.repeat_interleave(shared, dim=2) for x in (query, key))
    query, key, value = (_chunks(x, chunk) for x in (query, key, value.float()))  # (R, n, C, E)
    decay, beta = (_chunks(x.float().unsqueeze(-1), chunk) for x in (decay, beta))  # (R, n, C, 1)

    total = decay.cumsum(dim=2)  # logarithm of the decay since the chunk began
    between = _decay(total - total.mT).tril()  # (R, n, C, C); a token sees none that is later
    since = _decay(total)

    weighted = key * beta
    system = _product(weighted, key.mT) * between
    within = _product(query, key.mT) * between
    # What the chunk writes if S is zero before it, and how much less for what S knows already.
    known = torch.cat((value * beta, weighted * since), dim=-1)
    solved = _solve(system, known)
    news, corrections = torch.split(solved, [width, key.shape[3]], dim=-1)

    query = query * since
    until = (key * _decay(total[:, :, -1:] - total)).mT  # from each token to the chunk's end
    whole = since[:, :, -1:]  # (R, n, 1, 1)
    first, *later = news.unbind(1)
    state = key.new_zeros(key.shape[0], key.shape[3], width)  # (R, E, V)
    states, writes = [state], [first]
    for kept, taken, new, correction in zip(
        whole.unbind(1), until.unbind(1), later, corrections.unbind(1)[1:], strict=False
    ):
        state = torch.baddbmm(state * kept, taken, writes[-1])
        states.append(state)
        writes.append(torch.baddbmm(new, correction, state, alpha=-1))  # (R, C, V)
    read = _product(query, torch.stack(states, 1)) + _product(within, torch.stack(writes, 1))
    return read.view(batch, heads, -1, width)[:, :, :length].transpose(1, 2)


def _solve(system: Tensor, known: Tensor) -> Tensor:
    """Solve with the part of `system` (R, n, C, C) below its diagonal, and ones on it."""
    if not system.is_cuda:
        solved: Tensor = torch.linalg.solve_triangular(
            system, known, upper=False, unitriangular=True
        )
        return solved
    return _product(inverse(system), known)


def inverse(system: Tensor) -> Tensor:
    """Return the inverse of a lower triangle with ones on its diagonal, by products alone.

    A GPU solves small systems slowly. Of two blocks on the diagonal whose inverses A and B are
    known, with L below A and left of B, the inverse has -B L A there: so blocks are doubled until
    there is one. No number grows that does not grow in the inverse itself.

    Args:
        system: What is not below its diagonal is not read; (R, n, C, C), C a power of two.
    """
    length = system.shape[-1]
    at = torch.arange(length, device=system.device)
    inverted = torch.eye(length, device=system.device, dtype=system.dtype).expand_as(system)
    size = 1
    while size < length:
        block = at // size
        is_next = (block[:, None] % 2 == 1) & (block[:, None] == block + 1)
        below = system * is_next
        inverted = inverted - (
            below if size == 1 else _product(_product(inverted, below), inverted)
        )
        size *= 2
    return inverted


def _decay(logarithm: Tensor) -> Tensor:
    return logarithm.clamp(LEAST, 0).exp()


def _unit(x: Tensor, length: float = 1.0) -> Tensor:
    """Bring the last dimension to `length`."""
    return x * (length * torch.rsqrt((x * x).sum(dim=-1, keepdim=True) + EPS))


def _chunks(x: Tensor, chunk: int) -> Tensor:
    """(B, L, N, E) -> (R, n, C, E), with zeros after the last token: they change no state."""
    batch, length, heads, width = x.shape
    padded = functional.pad(x.transpose(1, 2), (0, 0, 0, -length % chunk))
    return padded.reshape(batch * heads, -1, chunk, width)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Matrix product over the last two of four dimensions."""
    many = left.shape[:2]
    return torch.bmm(left.flatten(0, 1), right.flatten(0, 1)).view(*many, left.shape[2], -1)
