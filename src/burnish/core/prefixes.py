"""What token lists that stand next to each other begin with in common: answers to one prompt, a preferred and a rejected one."""

from __future__ import annotations

from collections.abc import Sequence


def shared_prefixes(sequences: Sequence[Sequence[int]], read_from: Sequence[int] | None = None) -> list[int]:
    """How many first tokens each sequence shares with the one before it, as `Batch.shared` wants it; 0 for the first.

    A sequence keeps what is read of it for itself: its tokens from `read_from` on, and at the least its last one. A language model is
    read one token before what it is to say, so the last token of a prompt is read in every answer to it.

        shared_prefixes([[5, 6, 7, 8], [5, 6, 7, 9, 4], [5, 6, 7]]) == [0, 3, 2]
    """
    first = [len(sequence) - 1 for sequence in sequences] if read_from is None else read_from
    pairs = zip(sequences, sequences[1:], first[1:], strict=False)
    return [0, *(common(before, own, min(limit, len(own) - 1)) for before, own, limit in pairs)][: len(sequences)]


def common(one: Sequence[int], other: Sequence[int], limit: int) -> int:
    """How many tokens both begin with, `limit` at most."""
    most = max(0, min(len(one), limit))
    return next((at for at in range(most) if one[at] != other[at]), most)
