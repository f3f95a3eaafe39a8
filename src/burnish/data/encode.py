"""Text becomes token ids, once, in flat arrays; a micro-batch is padded from them.

Legend: N examples, B examples in a micro-batch, T tokens of the longest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from burnish.core.protocols import IGNORED

if TYPE_CHECKING:
    import torch

CHUNK = 2000


@dataclass(frozen=True)
class Ragged:
    """Sequences of different lengths in one array: sequence i is `values[offsets[i]:offsets[i + 1]]`."""

    values: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]]) -> Ragged:
        offsets = np.zeros(len(sequences) + 1, dtype=np.int64)
        np.cumsum([len(sequence) for sequence in sequences], out=offsets[1:])
        values = np.fromiter((token for sequence in sequences for token in sequence), dtype=np.int32, count=int(offsets[-1]))
        return cls(values, offsets)

    @classmethod
    def joined(cls, parts: Sequence[Ragged]) -> Ragged:
        """The sequences of all parts, in order."""
        starts = np.cumsum([0, *(part.offsets[-1] for part in parts)])
        offsets = [part.offsets[1:] + start for part, start in zip(parts, starts, strict=False)]
        return cls(np.concatenate([part.values for part in parts]), np.concatenate([np.zeros(1, dtype=np.int64), *offsets]))

    def taken(self, indices: Sequence[int]) -> Ragged:
        """The sequences at some indices, in that order."""
        chosen = [self[index] for index in indices]
        offsets = np.cumsum([0, *map(len, chosen)], dtype=np.int64)
        return Ragged(np.concatenate(chosen) if chosen else self.values[:0], offsets)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)


Column = Ragged | np.ndarray


@dataclass(frozen=True)
class Encoded:
    """Encoded rows: model inputs by name, what the loss compares with by name, supervised units and row of each example, and
    how many rows were cut, by how they were (`{"cut at the end": 12}`)."""

    inputs: Mapping[str, Ragged]
    targets: Mapping[str, Column]
    weights: np.ndarray
    rows: np.ndarray
    cut: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.weights)

    @cached_property
    def lengths(self) -> np.ndarray:
        """(N,) tokens that the model reads of each example: of an encoder and a decoder together."""
        return np.sum([ragged.lengths for name, ragged in self.inputs.items() if name.endswith("input_ids")], axis=0)

    @classmethod
    def joined(cls, parts: Sequence[Encoded], sizes: Sequence[int]) -> Encoded:
        """The examples of all parts, in order; part i was made of `sizes[i]` rows."""
        starts = np.cumsum([0, *sizes])
        return cls(
            {name: Ragged.joined([part.inputs[name] for part in parts]) for name in parts[0].inputs},
            {name: joined_column([part.targets[name] for part in parts]) for name in parts[0].targets},
            np.concatenate([part.weights for part in parts]),
            np.concatenate([part.rows + start for part, start in zip(parts, starts, strict=False)]),
            dict(sum((Counter(part.cut) for part in parts), Counter())),
        )

    def taken(self, indices: Sequence[int]) -> Encoded:
        """The examples at some indices, in that order."""
        at = list(indices)
        return Encoded(
            {name: ragged.taken(at) for name, ragged in self.inputs.items()},
            {name: values.taken(at) if isinstance(values, Ragged) else np.asarray(values)[at] for name, values in self.targets.items()},
            np.asarray(self.weights)[at],
            np.asarray(self.rows)[at],
        )


def joined_column(parts: Sequence[Column]) -> Column:
    ragged = [part for part in parts if isinstance(part, Ragged)]
    return Ragged.joined(ragged) if ragged else np.concatenate([part for part in parts if isinstance(part, np.ndarray)])


def class_counts(labels: Column, times: np.ndarray, size: int) -> np.ndarray:
    """(C,) how often each of C labels is learned from, where example i is seen `times[i]` times; `labels` holds one of an example or
    of each of its tokens (IGNORED where nothing is supervised)."""
    values, owners = (labels.values, np.repeat(times, labels.lengths)) if isinstance(labels, Ragged) else (labels, times)
    supervised = values != IGNORED
    return np.bincount(values[supervised], weights=owners[supervised], minlength=size)


def tokenize(tokenizer: Any, texts: Sequence[str], pairs: Sequence[str] | None = None) -> tuple[dict[str, Ragged], int]:
    """Token ids (and token types, where the tokenizer has them) of each text or pair, and how many rows were cut to
    `tokenizer.model_max_length` tokens; of a pair the longer text is cut."""
    names = [name for name in ("input_ids", "token_type_ids") if name in tokenizer.model_input_names]
    found: dict[str, list[list[int]]] = {name: [] for name in names}
    truncated = 0
    for start in range(0, len(texts), CHUNK):
        chunk = slice(start, start + CHUNK)
        encoded = tokenizer(
            list(texts[chunk]),
            list(pairs[chunk]) if pairs is not None else None,
            truncation="longest_first",
            return_attention_mask=False,
        )
        for name in names:
            found[name].extend(encoded[name])
        if encoded.encodings is not None:
            truncated += sum(bool(encoding.overflowing) for encoding in encoded.encodings)
    return {name: Ragged.of(sequences) for name, sequences in found.items()}, truncated


def stacked(ragged: Ragged, indices: Sequence[int], fill: int) -> torch.Tensor:
    """The chosen sequences as one (B, T) tensor of integers, filled up on the right."""
    import torch

    sequences = [ragged[index] for index in indices]
    array = np.full((len(sequences), max(map(len, sequences))), fill, dtype=np.int64)
    for row, sequence in enumerate(sequences):
        array[row, : len(sequence)] = sequence
    return torch.from_numpy(array)


def padded(inputs: Mapping[str, Ragged], indices: Sequence[int], pad_id: int) -> dict[str, torch.Tensor]:
    """The chosen sequences of each input as (B, T) tensors, padded on the right, with their attention mask.

    The mask is made of lengths, never by comparing with `pad_id`: where padding and end are the same token, the end counts.
    """
    import torch

    tensors = {name: stacked(ragged, indices, pad_id if name.endswith("input_ids") else 0) for name, ragged in inputs.items()}
    lengths = torch.from_numpy(inputs["input_ids"].lengths[list(indices)])
    positions = torch.arange(tensors["input_ids"].shape[1])
    return {**tensors, "attention_mask": (positions < lengths[:, None]).long()}
