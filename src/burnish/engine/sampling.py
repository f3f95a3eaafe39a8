"""How much of what an epoch holds: strata of the examples, and a quota of each.

Oversampling, undersampling, batches of every class alike and mixtures of sources are one mathematics. Of the n examples of a stratum
an epoch takes q: all of them q // n times, and for the rest of r = q mod n the next r out of an endless row of cycles, each a new
permutation of them all. So an epoch holds exactly its quotas, and each example of a stratum equally often or once more; after any
number of epochs, too, no example has been seen more than once oftener than another: undersampling sees every one in time.

All of it is a function of (seed, epoch).
Legend: N examples, S strata, L examples that an epoch draws, n examples and q quota of a stratum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from burnish.core.errors import DataError

CYCLE, TURN = 0xC7C1E, 0x7092
"""Keep the generators of cycles and of turns apart from each other, and from that of the shuffle."""


@dataclass(frozen=True, eq=False)
class Strata:
    """Examples by what they count as, and how many of each stratum an epoch draws."""

    names: Sequence[str]
    members: Sequence[np.ndarray]
    quotas: Sequence[int]
    seed: int

    @property
    def size(self) -> int:
        """L: examples that an epoch draws."""
        return sum(self.quotas)

    @property
    def times(self) -> list[float]:
        """(S,) how often an epoch holds an example of each stratum, on average."""
        return [quota / len(members) for quota, members in zip(self.quotas, self.members, strict=True)]

    @cached_property
    def strata(self) -> np.ndarray:
        """(N,) the number of each example's stratum."""
        numbers = np.empty(sum(map(len, self.members)), dtype=np.int64)
        for number, members in enumerate(self.members):
            numbers[members] = number
        return numbers

    @property
    def frequencies(self) -> np.ndarray:
        """(N,) how often an epoch holds each example, on average."""
        return np.array(self.times)[self.strata]

    def draw(self, epoch: int) -> np.ndarray:
        """(L,) the examples of an epoch, stratum by stratum."""
        return np.concatenate([self.taken(number, epoch) for number in range(len(self.members))])

    def taken(self, number: int, epoch: int) -> np.ndarray:
        """(q,) the examples of a stratum that an epoch holds."""
        members = self.members[number]
        whole, rest = divmod(self.quotas[number], len(members))
        places = part(len(members), rest, epoch, [self.seed, CYCLE, number])
        return np.concatenate([np.tile(members, whole), members[places]])

    def alternate(self, drawn: np.ndarray, epoch: int) -> np.ndarray:
        """What an epoch drew, so that the strata take turns: any stretch of it, and so each batch, holds as many of one as of another,
        or one more. Which stratum begins is drawn anew in each epoch."""
        strata = self.strata[drawn]  # (L,)
        turns = np.empty(len(drawn), dtype=np.int64)
        for number in range(len(self.members)):
            own = strata == number
            turns[own] = np.arange(own.sum())
        chance = np.random.default_rng([self.seed, TURN, epoch]).permutation(len(self.members))
        ranks = np.argsort(np.lexsort((chance, -np.array(self.quotas))))  # who has most begins, so that the last round is not uneven
        return drawn[np.lexsort((ranks[strata], turns))]


def part(size: int, rest: int, epoch: int, seed: Sequence[int]) -> np.ndarray:
    """`rest` different ones of `size` places, others in each epoch until all have come: (r,) of range(n), for r < n.

    More than half of them are what less than half leaves over. An epoch that takes the end of one cycle begins the next with places
    that it does not hold yet; as r <= n / 2, this touches no place that the end of that cycle could give to another epoch.
    """
    if not rest:
        return np.arange(0)
    if 2 * rest > size:
        return np.setdiff1d(np.arange(size), part(size, size - rest, epoch, seed))
    first, start = divmod(epoch * rest, size)

    def cycle(number: int) -> np.ndarray:
        return np.random.default_rng([*seed, number]).permutation(size)

    def begun(number: int) -> np.ndarray:
        """A cycle, after the end that the epoch before its first whole one takes of the cycle before."""
        own, ended = cycle(number), number * size % rest
        held = np.isin(own[:rest], cycle(number - 1)[size - ended :]) if ended else np.zeros(rest, dtype=bool)
        return np.concatenate([own[:rest][~held], own[:rest][held], own[rest:]])

    here = begun(first)[start : start + rest]
    return here if len(here) == rest else np.concatenate([here, begun(first + 1)[: rest - len(here)]])


Quotas = Callable[[Sequence[int]], list[int]]
"""Sizes of the strata -> how many of each an epoch draws."""


def oversampled(sizes: Sequence[int]) -> list[int]:
    """As many of each as the largest has: nothing is left out, rare examples come several times."""
    return [max(sizes)] * len(sizes)


def undersampled(sizes: Sequence[int]) -> list[int]:
    """As many of each as the smallest has: an epoch is short, and each takes other examples of the large strata."""
    return [min(sizes)] * len(sizes)


def level(sizes: Sequence[int]) -> list[int]:
    """As many of each in an epoch that is as long as ever: rare examples come oftener, frequent ones less often."""
    return shared(sum(sizes), [1.0] * len(sizes))


BALANCED: Mapping[str, Quotas] = {"oversample": oversampled, "undersample": undersampled, "batches": level}


def shared(total: int, weights: Sequence[float]) -> list[int]:
    """`total` in whole parts by weight, the rest to the largest remainders.

    >>> shared(10, [1, 1, 2])
    [3, 2, 5]
    """
    exact = [total * weight / sum(weights) for weight in weights]
    quotas = [int(share) for share in exact]
    order = sorted(range(len(weights)), key=lambda number: (quotas[number] - exact[number], number))
    for number in order[: total - sum(quotas)]:
        quotas[number] += 1
    return quotas


def balanced(labels: Sequence[str], how: str, seed: int) -> Strata:
    """Every label alike; `labels` (N,), `how` is a key of BALANCED."""
    names, found = sorted(set(labels)), np.array(labels)
    members = [np.flatnonzero(found == name) for name in names]
    return Strata(names, members, BALANCED[how]([len(own) for own in members]), seed)


def mixed(sources: Sequence[str], weights: Mapping[str, float], total: int, seed: int) -> Strata:
    """`total` examples an epoch, from each source by its weight; `sources` (N,).

    Raises DataError where a source has no example, or an epoch none of it.
    """
    names, origin = list(weights), np.array(sources)
    members = [np.flatnonzero(origin == name) for name in names]
    quotas = shared(total, list(weights.values()))
    for name, own, quota in zip(names, members, quotas, strict=True):
        if not len(own):
            raise DataError(f"`data.train`: no row of {name} is left for training: raise data.limit, or leave the source out.")
        if not quota:
            raise DataError(
                f"`data.train`: with a weight of {weights[name]:g} not one of {total:,} rows an epoch is of {name}: "
                "give it more weight, or set a larger data.epoch_rows."
            )
    return Strata(names, members, quotas, seed)
