"""Parts of the data: a seeded, stratified split, and a limit on the training rows."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np

from burnish.core.errors import DataError
from burnish.core.protocols import Row


def stratified(strata: Sequence[Hashable], size: int, seed: int) -> tuple[list[int], list[int]]:
    """Indices (kept, held out): `size` examples are held out, each stratum by its share (largest remainder), order kept.

    A pure function of its arguments. Raises DataError where nothing would be left on one side.
    """
    total = len(strata)
    if not 0 < size < total:
        raise DataError(f"{size} of {total} rows cannot be set aside: at least one row must be left on each side.")
    members: dict[Hashable, list[int]] = defaultdict(list)
    for index, stratum in enumerate(strata):
        members[stratum].append(index)
    exact = {stratum: size * len(indices) / total for stratum, indices in members.items()}
    quota = {stratum: math.floor(share) for stratum, share in exact.items()}
    by_remainder = sorted(members, key=lambda stratum: (quota[stratum] - exact[stratum], -len(members[stratum]), str(stratum)))
    for stratum in by_remainder[: size - sum(quota.values())]:
        quota[stratum] += 1
    generator = np.random.default_rng([seed, 0x5B117])
    held = {
        members[stratum][position]
        for stratum in sorted(members, key=str)
        for position in generator.permutation(len(members[stratum]))[: quota[stratum]]
    }
    return [index for index in range(total) if index not in held], sorted(held)


def limited(rows: Sequence[Row], limit: int | None, seed: int) -> list[Row]:
    """The first `limit` rows after a seeded shuffle, or all rows in their own order."""
    if limit is None or limit >= len(rows):
        return list(rows)
    order = np.random.default_rng([seed, 0x11317]).permutation(len(rows))
    return [rows[index] for index in order[:limit]]
