"""Writes texts with a batch that stays full: where one ends, the next prompt takes its place.

A group that goes through `generate` lasts until its longest text ends, and computes ever more rows that nobody reads. Here the rows of the
KV cache change: ended texts leave, waiting prompts are read in one pass and join (iteration-level scheduling, Yu et al. 2022, "Orca").
What a text becomes does not depend on its neighbours: they are masked, and where tokens are drawn each has random numbers of its own.

Legend: B texts in the model, T columns (texts are padded on the left), V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from burnish.core.generation import Generation
from burnish.core.protocols import Written
from burnish.engine.batches import Budget
from burnish.engine.generation.decoder import Decoder
from burnish.engine.generation.draws import uniforms
from burnish.engine.generation.whole import aligned, end_tokens, pad_token

# Rows change once this share of them would: a change copies the cache, and reading few prompts costs about as much as a token of many texts.
SHARE = 1 / 8


@dataclass(eq=False)
class Text:
    """Prompt `index` and what is written after it, at most `limit` tokens, until one of `ends`; `ids` holds all, the end token too."""

    index: int
    prompt: list[int]
    ids: list[int]
    ends: frozenset[int]
    limit: int
    uniforms: np.ndarray | None

    @property
    def number(self) -> int:
        """Tokens written, with the end token."""
        return len(self.ids) - len(self.prompt)

    @property
    def ended(self) -> bool:
        return self.number > 0 and self.ids[-1] in self.ends

    @property
    def over(self) -> bool:
        return self.ended or self.number == self.limit

    @property
    def most(self) -> int:
        """Tokens that it may come to."""
        return len(self.prompt) + self.limit

    @property
    def written(self) -> Written:
        return Written(self.ids[len(self.prompt) : len(self.ids) - self.ended], self.ended)


class Refilled:
    """Texts on their way: each `step` writes a token more and gives those that it ended, to be called within no_grad.

    `rows` bounds the texts in the model, each counted with all it may come to, `reading` the prompts that are read in one pass.
    Long prompts come first; equal ones stand together and are read once. Where a step fails for want of memory, `halve` lets it go on.
    """

    def __init__(
        self,
        decoder: Decoder,
        prompts: Sequence[Sequence[int]],
        generation: Generation,
        device: torch.device,
        rows: Budget,
        reading: Budget,
    ) -> None:
        self.decoder, self.device, self.rows, self.reading = decoder, device, rows, reading
        self.pad = pad_token(decoder.model)
        ends, limit = frozenset(end_tokens(decoder.model)), generation.max_new_tokens
        draws = [uniforms(generation.seed, index, limit) if generation.temperature else None for index in range(len(prompts))]
        self.waiting = [Text(index, list(prompt), list(prompt), ends, limit, draws[index]) for index, prompt in enumerate(prompts)]
        self.waiting.sort(key=lambda text: (-len(text.prompt), text.prompt))
        self.empty()

    def empty(self) -> None:
        self.texts: list[Text] = []
        self.cache = self.decoder.cache()
        self.ids = torch.zeros(0, 0, dtype=torch.long)  # (B, T)
        self.padding: torch.Tensor | None = None  # (B,) columns before each text, None where there are none

    @property
    def staying(self) -> list[int]:
        return [row for row, text in enumerate(self.texts) if not text.over]

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.staying)

    def step(self) -> list[Text]:
        """A token more of every text in the model, or the first of those that join; the texts that are over by it."""
        staying = self.staying
        joining = self.joining([self.texts[row] for row in staying])
        changes = max(len(joining), len(self.texts) - len(staying))
        if changes and changes >= SHARE * len(staying):
            return self.turn(staying, joining)
        # Rows that are over may have no position left: they follow those that go on.
        last = max(len(self.texts[row].ids) for row in staying) - 1
        scores = self.decoder.scores(self.ids, self.padding, self.cache, last)
        tokens = self.decoder.choose(self.ids, self.padding, scores, uniform_of(self.texts))
        self.ids = torch.cat([self.ids, tokens[:, None]], dim=1)
        return noted(self.texts, tokens.tolist())

    def joining(self, running: Sequence[Text]) -> list[Text]:
        """The first of those that wait: as many as fit beside the running ones, and as are read in one pass; always one where none runs."""
        most = max((text.most for text in running), default=0)
        chosen: list[Text] = []
        longest = distinct = 0
        for text in self.waiting:
            most, longest = max(most, text.most), max(longest, len(text.ids))
            distinct += not chosen or text.ids != chosen[-1].ids
            fits = self.rows.fits(len(running) + len(chosen) + 1, most) and (not chosen or self.reading.fits(distinct, longest))
            if not fits and (running or chosen):
                break
            chosen.append(text)
        return chosen

    def turn(self, staying: list[int], joining: list[Text]) -> list[Text]:
        """Rows that are over leave, the texts `joining` are read, get their first token, and are set below those that stay."""
        unused = self.ids.shape[1] - max((len(self.texts[row].ids) for row in staying), default=0)
        self.texts = [self.texts[row] for row in staying] + joining
        del self.waiting[: len(joining)]
        first, cache, owners = self.read(joining)
        rows = torch.tensor(staying, dtype=torch.long, device=self.device)
        for number, layer in enumerate(self.cache.layers):
            layer.turn(rows, unused, cache and cache.layers[number], owners)
        continued = [*([] for _ in staying), *([token] for token in first)]
        self.ids, self.padding = self.padded([text.ids + more for text, more in zip(self.texts, continued, strict=True)])
        # Last, so that where memory runs out before, no text has a token that nobody was told of.
        return noted(joining, first)

    def read(self, joining: list[Text]) -> tuple[list[int], Any, torch.Tensor]:
        """The first tokens of these texts, the cache of their different prompts (None where there are none), and which row of it is whose."""
        places: dict[tuple[int, ...], int] = {}
        rows = [places.setdefault(tuple(text.ids), len(places)) for text in joining]
        owners = torch.tensor(rows, dtype=torch.long, device=self.device)
        if not joining:
            return [], None, owners
        ids, padding = self.padded([list(prompt) for prompt in places])
        cache = self.decoder.cache()
        scores = self.decoder.scores(ids, padding, cache, ids.shape[1] - 1)[owners]  # (B, V)
        tokens = self.decoder.choose(ids[owners], None if padding is None else padding[owners], scores, uniform_of(joining))
        return tokens.tolist(), cache, owners

    def padded(self, texts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(B, T) token ids and (B,) columns of padding before them, None where there are none."""
        ids, mask = aligned(texts, self.pad, left=True)
        padding = (1 - mask).sum(dim=1)
        return ids.to(self.device), padding.to(self.device) if padding.any() else None

    def halve(self) -> bool:
        """Starts anew from what is written, with half as many texts in the model; False where there was but one."""
        running = [text for text in self.texts if not text.over]
        if len(self.texts) < 2:
            return False
        self.rows = Budget(max(len(running) // 2, 1) * max(text.most for text in running))
        self.waiting[:0] = running
        self.empty()
        return True


def noted(texts: Sequence[Text], tokens: Sequence[int]) -> list[Text]:
    """Writes each text's token down; those that it ended."""
    writing = [(text, token) for text, token in zip(texts, tokens, strict=True) if not text.over]
    for text, token in writing:
        text.ids.append(token)
    return [text for text, _ in writing if text.over]


def uniform_of(texts: Sequence[Text]) -> np.ndarray | None:
    """(B,) the random numbers of the texts' next tokens, None where none are drawn; texts that are over have none left, and need none."""
    drawn = [0.0 if text.over else text.uniforms[text.number] for text in texts if text.uniforms is not None]
    return np.array(drawn, dtype=np.float32) if drawn else None
