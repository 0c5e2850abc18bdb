"""Which of the chunks that came between two ticks are worth a look."""

from __future__ import annotations

from collections.abc import Iterable

from qwen_vla_ros.ros.attributed_subscription import Heard


def newest_chunks(heard: Iterable[Heard]) -> list[Heard]:
    """Leave out what its own source replaced before it could be played: a flood costs less (J4).

    Only a chunk of the same episode replaces another, and nothing replaces a call to rest.

    Args:
        heard: ActionChunk messages, the oldest first.

    Returns:
        The newest of every source and episode, and all that ask for rest, in their order.
    """
    every = list(heard)
    newest = {(each.source, each.message.episode): each for each in every}
    return [
        each
        for each in every
        if each.message.rest or each is newest[each.source, each.message.episode]
    ]
