"""Conversations become token ids, with a mask over what the assistant wrote, its end included.

A template may mark the assistant's words with `{% generation %}`. For others the conversation is rendered up to each assistant turn
and up to its end, and the lengths of these texts are where the turn begins and ends in the whole text, as long as they are
beginnings of it. Everything is reckoned in characters of a text that is rendered and tokenized once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from burnish.data.chat.messages import Conversation, Message
from burnish.data.chat.template import PROBE, Ending, ending, render, render_marked, special_ids, tokenized
from burnish.data.chat.turns import Turns

Span = tuple[int, int]

WAY_OUT = (
    "Use a chat template that marks the assistant's words with {% generation %} and {% endgeneration %}, "
    "or learn everything (supervise: everything)."
)
SHOWN = 40


def encode(conversation: Conversation, tokenizer: Any, supervise: Literal["response", "everything"]) -> Turns:
    """Token ids of a conversation, and which are learned: each assistant turn and the token that ends it, or everything.

    Tokens are those of the rendered text, without any that the tokenizer would add. Where the template ends the last turn without a
    special token, the tokenizer's EOS is put there and learned. Raises ValueError where the template does not take the
    conversation, or where it cannot be told which words are the assistant's.
    """
    messages = conversation.messages
    text, marked = render_marked(tokenizer, messages, conversation.tools)
    require_tools(conversation, tokenizer, text)
    end = ending(tokenizer)
    ids, offsets = tokenized(tokenizer, text)
    known = special_ids(tokenizer) | set(end.ids)
    specials = [(number, span) for number, span in zip(ids, offsets) if number in known]
    whole = [(0, len(text.removesuffix(end.tail)))]
    spans = whole if supervise == "everything" else assistant_spans(conversation, tokenizer, text, marked, end)
    spans, closed = closings(spans, specials, text, end)
    if not closed and messages[-1]["role"] == "assistant":
        if closings(whole, specials, text, end)[1]:
            raise ValueError(f"the {{% generation %}} marks of the chat template leave out what ends a turn, {end.ended!r}: take it in")
        if tokenizer.eos_token_id is None:
            raise ValueError("the chat template ends a turn without a token, and the tokenizer has no EOS to put there")
        # The EOS takes the place of a character behind the text.
        ids, offsets = [*ids, tokenizer.eos_token_id], [*offsets, (len(text), len(text) + 1)]
        spans[-1] = (spans[-1][0], len(text) + 1)
    return Turns(ids, [True] * len(ids) if supervise == "everything" else covered(offsets, spans))


def prompt(conversation: Conversation, tokenizer: Any) -> list[int]:
    """Token ids from which an answer is generated: what stands before the last turn if it is the assistant's, otherwise all.

    They begin the ids of `encode`, unless the first characters of the response and the last of the prompt share a token.
    """
    messages = conversation.messages
    before = messages[:-1] if messages[-1]["role"] == "assistant" else messages
    if not before:
        raise ValueError("nothing stands before the answer, so that there is nothing to answer")
    return tokenized(tokenizer, prompting(tokenizer, before, conversation.tools))[0]


def prompting(tokenizer: Any, messages: Sequence[Message], tools: Any) -> str:
    # A blank at the end belongs to the first word of the answer: that is how tokenizers cut, and how the answer was learned.
    return render(tokenizer, messages, tools, prompting=True).rstrip(" ")


def assistant_spans(conversation: Conversation, tokenizer: Any, text: str, marked: list[Span], end: Ending) -> list[Span]:
    """The stretches of characters that are learned, from the template's marks, or else by comparison."""
    messages, given = conversation.messages, conversation.given
    turns = [at for at, message in enumerate(messages) if message["role"] == "assistant"]
    if not any(at >= given for at in turns):
        raise ValueError("it has no assistant turn to learn")
    whole = Whole(tokenizer, messages, conversation.tools, text, end)
    if any(start < stop for start, stop in marked):
        first = whole.opening(given, "", 0)[1] if given else 0
        learned = [(start, stop) for start, stop in marked if start >= first]
        if not learned:
            raise ValueError("the chat template marks nothing of the response with {% generation %}")
        return learned
    found = whole.spans([at for at in turns if at or not given])
    return [span for at, span in found.items() if at >= given]


@dataclass(frozen=True)
class Whole:
    """A rendered conversation, in which assistant turns are found by rendering it up to them.

    `past` is a rendering of its first messages, and `reached` where their text ends in the whole. As a rule the whole begins with
    `past`; where a template has left thoughts out of earlier turns, only what comes after is compared.
    """

    tokenizer: Any
    messages: Sequence[Message]
    tools: Any
    text: str
    end: Ending

    def spans(self, turns: Sequence[int]) -> dict[int, Span]:
        found, past, reached = {}, "", 0
        for at in turns:
            head, start = self.opening(at, past, reached)
            past = render(self.tokenizer, self.messages[: at + 1], self.tools).removesuffix(self.end.tail)
            reached = self.stop(at, past, head, start)
            found[at] = (start, reached)
        return found

    def opening(self, at: int, past: str, reached: int) -> tuple[str, int]:
        """What stands before assistant turn `at`, up to where it agrees with the whole, and where the turn begins there."""
        if at == 0:
            raise ValueError(f"it begins with an assistant turn, before which there is nothing to compare. {WAY_OUT}")
        before = prompting(self.tokenizer, self.messages[:at], self.tools)
        skip, reached = (len(past), reached) if before.startswith(past) else (0, 0)
        for head in (before, before.rstrip()):
            if self.text.startswith(head[skip:], reached):
                return head, reached + len(head) - skip
        # Some templates prompt an answer with more than they leave of it later, such as the beginning of a thought.
        shared = agreement(before[skip:], self.text[reached:])
        if at < len(self.messages) - 1 and skip + shared > len(render(self.tokenizer, self.messages[:at], self.tools).rstrip()):
            # An answer may begin with the same characters as that thought.
            said = (self.messages[at]["content"] or "").strip() + self.end.ended
            overshoot = next((size for size in range(min(shared, len(said)) + 1) if self.text.startswith(said, reached + shared - size)), 0)
            return before[: skip + shared - overshoot], reached + shared - overshoot
        raise ValueError(self.difference(at, "prompts", before[skip:], reached))

    def stop(self, at: int, turn: str, head: str, start: int) -> int:
        """Where the assistant turn `at` ends in the whole; `turn` is the rendering up to its end, and begins with `head`."""
        written = turn[len(head) :]
        if turn.startswith(head):
            for candidate in (written, written.rstrip()):
                if self.text.startswith(candidate, start):
                    return start + len(candidate)
        if at == len(self.messages) - 1 or not turn.startswith(head):
            raise ValueError(self.difference(at, "writes", written, start))
        # An earlier turn may have lost its thoughts: a piece is left out, and what follows it ends the turn as before.
        shared = agreement(written, self.text[start:])
        for left in range(shared + 1, len(written)):
            stop = start + shared + len(written) - left
            if self.text.startswith(written[left:], start + shared) and self.text.endswith(self.end.ended, start, stop):
                return stop
        # Or a turn is ended otherwise where the conversation goes on.
        still_open = written.removesuffix(self.end.ended.lstrip())
        if still_open != written and self.text.startswith(still_open, start):
            return start + len(still_open)
        raise ValueError(self.difference(at, "writes", written, start))

    def difference(self, at: int, verb: str, part: str, reached: int) -> str:
        number = sum(message["role"] == "assistant" for message in self.messages[: at + 1])
        shared = agreement(part, self.text[reached:])
        where = reached + shared
        return (
            "the assistant's words cannot be told from the rest: "
            f"the chat template {verb} assistant turn {number} differently when the conversation ends there. "
            f"From character {where} on it is {part[shared : shared + SHOWN]!r}, "
            f"but {self.text[where : where + SHOWN]!r} in the whole conversation. {WAY_OUT}"
        )


def agreement(one: str, other: str) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))


def closings(spans: list[Span], specials: list[tuple[int, Span]], text: str, end: Ending) -> tuple[list[Span], bool]:
    """The spans, each with the token that ends its turn where it stands just behind, and whether the last is ended by one."""
    made, closed = [], False
    for start, stop in spans:
        closed = any(start <= first < stop and not text[last:stop].strip() for _, (first, last) in specials)
        if not closed:
            behind = next(((number, span) for number, span in specials if span[0] >= stop), None)
            if behind and behind[0] in end.ids and not text[stop : behind[1][0]].strip():
                stop, closed = behind[1][1], True
        made.append((start, stop))
    return made, closed


def covered(offsets: Sequence[Span], spans: Sequence[Span]) -> list[bool]:
    """Which tokens stand for a character of a span. A token whose blanks were cut off its offsets counts with them."""
    inside = bytearray(max(stop for _, stop in [*offsets, *spans]))
    for start, stop in spans:
        inside[start:stop] = b"\x01" * (stop - start)
    mask, reached = [], 0
    for start, stop in offsets:
        first = min(start, reached) if start == stop else start
        mask.append(any(inside[first : max(stop, first + 1)]))
        reached = stop
    return mask


def require_tools(conversation: Conversation, tokenizer: Any, text: str) -> None:
    """Raises ValueError where the template writes no tools or no calls: some leave them, and so an empty turn, out in silence."""
    messages, tools = conversation.messages, conversation.tools
    if tools and render(tokenizer, messages) == text:
        raise ValueError("the chat template leaves out the tools: use one that knows tools, or learn without the column of tools")
    calls = sum(len(message.get("tool_calls") or ()) for message in messages)
    if not calls:
        return
    renamed = [
        {**message, "tool_calls": [renamed_call(call) for call in message["tool_calls"]]} if message.get("tool_calls") else message
        for message in messages
    ]
    if render(tokenizer, renamed, tools).count(PROBE) < text.count(PROBE) + calls:
        raise ValueError("the chat template leaves out calls of tools: use one that knows tools, or take the calls out of the data")


def renamed_call(call: dict[str, Any]) -> dict[str, Any]:
    return {**call, "function": {**call["function"], "name": PROBE}} if call.get("function") else {**call, "name": PROBE}
