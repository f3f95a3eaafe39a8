"""Text becomes token ids, once, in flat arrays; a micro-batch is padded from them.

Legend: N examples, B examples in a micro-batch, T tokens of the longest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

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

    def __getitem__(self, index: int) -> np.ndarray:
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)


@dataclass(frozen=True)
class Encoded:
    """Encoded rows: model inputs by name, targets (N, ...), supervised units of each row, rows that were cut."""

    inputs: Mapping[str, Ragged]
    targets: np.ndarray
    weights: np.ndarray
    truncated: int
    pad_id: int

    def __len__(self) -> int:
        return len(self.weights)

    @cached_property
    def lengths(self) -> np.ndarray:
        """(N,) tokens of each row."""
        return self.inputs["input_ids"].lengths


def tokenize(
    tokenizer: Any,
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    max_length: int,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, Ragged], int]:
    """Token ids (and token types, where the tokenizer has them) of each text or pair, and how many rows were cut to
    `max_length` tokens; of a pair the longer text is cut. `progress` is told rows done and rows in all."""
    names = [name for name in ("input_ids", "token_type_ids") if name in tokenizer.model_input_names]
    found: dict[str, list[list[int]]] = {name: [] for name in names}
    truncated = 0
    for start in range(0, len(texts), CHUNK):
        chunk = slice(start, start + CHUNK)
        encoded = tokenizer(
            list(texts[chunk]),
            list(pairs[chunk]) if pairs is not None else None,
            truncation="longest_first",
            max_length=max_length,
            return_attention_mask=False,
        )
        for name in names:
            found[name].extend(encoded[name])
        if encoded.encodings is not None:
            truncated += sum(bool(encoding.overflowing) for encoding in encoded.encodings)
        if progress is not None:
            progress(min(start + CHUNK, len(texts)), len(texts))
    return {name: Ragged.of(sequences) for name, sequences in found.items()}, truncated


def padded(examples: Encoded, indices: Sequence[int]) -> dict[str, torch.Tensor]:
    """The chosen sequences as (B, T) tensors, padded on the right, with their attention mask."""
    import torch

    lengths = examples.lengths[list(indices)]
    shape = (len(indices), int(lengths.max()))
    arrays = {name: np.full(shape, examples.pad_id if name == "input_ids" else 0, dtype=np.int64) for name in examples.inputs}
    for name, ragged in examples.inputs.items():
        for row, index in enumerate(indices):
            arrays[name][row, : lengths[row]] = ragged[index]
    mask = (np.arange(shape[1]) < lengths[:, None]).astype(np.int64)
    return {name: torch.from_numpy(array) for name, array in {**arrays, "attention_mask": mask}.items()}
