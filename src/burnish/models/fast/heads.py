"""What a model's class makes of hidden states, computed only where it is read.

Legend: B examples, T tokens of the longest, N tokens of all, S rows that are read, s rows of a chunk, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch

from burnish.core.deferred import Deferred, DeferredGrid
from burnish.models.fast.body import Body, attend_packed, signed
from burnish.models.fast.layout import Crossing, Layout, Rows
from burnish.models.fast.passing import Passage, Passing
from burnish.models.fast.shared import checked
from burnish.models.fast.trimmed import WORTH
from burnish.models.fast.two_sided import TwoSided

Reading = Literal["first", "last", "all", "tokens"]
"""What a head reads: each example's first or last token, every token in its place, or (a language model's) tokens one by one."""

REFUSED = ("past_key_values", "output_attentions", "output_hidden_states", "inputs_embeds", "encoder_outputs", "labels")
"""With one of these said, a model is asked for more than its head gives, or for something else: it then goes its own way."""


class Headed:
    """The forward of a model: its tokens through the body, packed or padded, and the rows that are read through the head.

    `trimmed` says that the last block computes only those rows; `deferred` that a language model's scores wait until somebody asks;
    `sharing` that tokens with which several examples begin are computed once; `sides` are an encoder and a decoder that go packed both.
    """

    def __init__(self, model: Any, body: Body, passage: Passage, reading: Reading, packed: bool) -> None:
        self.model, self.body, self.passage, self.reading, self.packed = model, body, passage, reading, packed
        self.trimmed = self.deferred = self.sharing = False
        self.sides: TwoSided | None = None
        self.own: Callable[..., Any] = model.forward
        model.forward = signed(self.forward, self.own)

    def forward(self, *args: Any, **inputs: Any) -> Any:
        now = self.passage.now
        if now is None or args or any(inputs.get(name) is not None and inputs[name] is not False for name in REFUSED):
            return self.own(*args, **inputs)
        ids, mask = inputs.get("input_ids"), inputs.get("attention_mask")
        if ids is None or mask is None or mask.shape != ids.shape or len(now.lengths) != len(ids):
            return self.own(**inputs)
        text = inputs.get("decoder_input_ids", ids)
        read = now.batch.read
        told = read is not None and read.shape == text.shape
        deferring = self.deferred and told
        if not (deferring or self.packed) or (self.sides is not None and not told):
            return self.own(**inputs)
        hidden = self.through_packed(inputs, now) if self.packed else self.body.padded(self.own, inputs).flatten(0, 1)
        if deferring and read is not None:
            return self.scores(hidden, read, now)
        return self.alone(hidden, inputs, now) if self.reading in ("first", "last") else self.in_places(hidden, inputs, now)

    def through_packed(self, inputs: Mapping[str, Any], now: Passing) -> torch.Tensor:
        """(N, D) of all tokens, or (S, D) of those that the layout reads."""
        if self.sides is not None:
            return self.through_sides(inputs, now)
        ids = inputs["input_ids"]
        lengths, shared = [int(length) for length in now.lengths], [0] * len(ids)
        if self.sharing and now.batch.shared is not None:
            shared = checked(now.batch.shared, lengths, now.batch.read)
        read = self.places(now, lengths, shared, ids.shape[1]) if self.trimmed else None
        computed = sum(lengths) - sum(shared)
        if read is not None and not 0 < len(read) < WORTH * computed:
            read = None
        now.layout = layout = Layout(lengths, ids.shape[1], now.slots, ids.device, read, shared)
        if layout.prefixes is not None:
            layout.prefixes.compare(inputs, layout.source, ids.shape[1])
        now.batch.positions = computed
        now.known = [layout.all_rows, *([layout.all_rows.taken(layout.read)] if layout.read is not None else [])]
        return self.body.packed(inputs, now)

    def through_sides(self, inputs: Mapping[str, Any], now: Passing) -> torch.Tensor:
        """(N, D) of a decoder's tokens, as far as something is read: what stands behind the last of them, nobody looks at."""
        ids, read = inputs["decoder_input_ids"], now.batch.read
        assert read is not None and self.sides is not None, "asked where something is read of two sides"
        last = (read * torch.arange(1, read.shape[1] + 1, device=read.device)).amax(dim=1)
        target = [max(1, int(length)) for length in last.tolist()]
        source = [int(length) for length in now.lengths]
        now.source = Layout(source, inputs["input_ids"].shape[1], now.slots, ids.device, None)
        now.layout = Layout(target, ids.shape[1], now.slots, ids.device, None)
        now.crossing = Crossing(now.layout, now.source)
        now.known = [now.layout.all_rows]
        now.batch.positions = sum(source) + sum(target)
        attend_packed(self.sides.configs, now)
        return self.body.padded(self.own, inputs)[0]

    def places(self, now: Passing, lengths: Sequence[int], shared: Sequence[int], width: int) -> torch.Tensor | None:
        """(S,) where among the packed tokens those stand that are read; None for all of them."""
        before, sizes = torch.tensor(shared)[:, None], torch.tensor(lengths)[:, None]  # (B, 1)
        ends = (sizes - before)[:, 0].cumsum(0)
        if self.reading in ("first", "last"):
            return ends - sizes[:, 0] if self.reading == "first" else ends - 1
        if now.batch.read is None:
            return None
        positions = torch.arange(width)
        return now.batch.read.cpu()[(positions >= before) & (positions < sizes)].nonzero()[:, 0]

    def scores(self, hidden: torch.Tensor, read: torch.Tensor, now: Passing) -> Any:
        """A language model's scores at the positions `read` (B, T), to be computed when they are asked for."""
        from transformers.modeling_outputs import MaskedLMOutput

        if now.layout is None:
            hidden = hidden[read.flatten()]
            owners, positions = torch.nonzero_static(read, size=len(hidden)).unbind(dim=1)
            rows = Rows(torch.tensor(list(now.slots), device=read.device)[owners], positions)
        else:
            places = now.layout.read
            if places is None:
                found = self.places(now, now.layout.lengths, now.layout.shared, read.shape[1])
                assert found is not None
                places = found.to(hidden.device)
                hidden = hidden.index_select(0, places)
            rows = now.layout.all_rows.taken(places)
        head = partial(self.head, now, dict(now.visits))
        size = self.model.get_output_embeddings().weight.shape[0]
        grid: Any = DeferredGrid(read, Deferred(hidden, head, size, (rows.slots, rows.positions)))
        return MaskedLMOutput(logits=grid)

    def head(
        self, now: Passing, visits: dict[int, int], hidden: torch.Tensor, slots: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor:
        """(s, V) of (s, D), the rows of these tokens: what is dropped on the way depends on them alone, whichever chunk they are in.

        `visits` are those of the time when the body had been gone through.
        """
        ids = torch.zeros(1, len(hidden), dtype=torch.long, device=hidden.device)
        inputs: dict[str, Any] = {"input_ids": ids}
        if self.model.config.is_encoder_decoder:
            inputs = {"encoder_outputs": (hidden[None],), "decoder_input_ids": ids}
        known = now.known, now.visits
        now.known, now.visits = [Rows(slots, positions)], dict(visits)
        try:
            with self.body.handing_out(hidden[None]):
                # Not [0], whose gradient is written into as many zeros.
                logits: torch.Tensor = self.own(**inputs).logits.squeeze(0)
        finally:
            now.known, now.visits = known
        return logits

    def alone(self, hidden: torch.Tensor, inputs: Mapping[str, Any], now: Passing) -> Any:
        """The head over one row an example, which it takes for texts of one token."""
        layout = now.layout
        assert layout is not None
        if layout.read is None:
            places = self.places(now, layout.lengths, layout.shared, 0)
            assert places is not None
            hidden = hidden.index_select(0, places.to(hidden.device))
        size = inputs["input_ids"].shape
        column = torch.zeros(size[0], 1, dtype=torch.long) if self.reading == "first" else torch.tensor(layout.lengths)[:, None] - 1
        column = column.to(hidden.device)
        chosen = {
            name: value.gather(1, column) if isinstance(value, torch.Tensor) and value.shape == size else value
            for name, value in inputs.items()
        }
        with self.body.handing_out(hidden[:, None]):
            return self.own(**chosen)

    def in_places(self, hidden: torch.Tensor, inputs: Mapping[str, Any], now: Passing) -> Any:
        """The head over rows put back where they stand among the padded; zeros where nothing was computed."""
        layout, text = now.layout, inputs["input_ids"] if self.sides is None else inputs["decoder_input_ids"]
        assert layout is not None
        size = text.shape
        source = layout.source if layout.read is None else layout.source[layout.read]
        if layout.prefixes is not None and now.batch.read is None:
            hidden, source = layout.complete(hidden), inputs["attention_mask"].flatten().nonzero()[:, 0]
        places = hidden.new_zeros(size[0] * size[1], hidden.shape[-1]).index_copy(0, source, hidden).view(*size, -1)
        with self.body.handing_out(places):
            return self.own(**inputs) if self.sides is None else self.own(encoder_outputs=(places,), decoder_input_ids=text)
