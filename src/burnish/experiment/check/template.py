"""Checks of a chat template: what is written of a conversation holds every message, whole, once and in order, and comes back from its tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from burnish.core.errors import BurnishError, count
from burnish.core.protocols import Row
from burnish.data import chat
from burnish.data.chat.template import render, tokenized
from burnish.experiment.check.subject import Tokens, places
from burnish.experiment.check.vocabulary import difference
from burnish.report.inspection import Finding, judged, left_out

TRIED = 300
"""Conversations that are rendered."""

TELLING = 12
"""Characters from which on a text that stands twice was written twice, and is not merely said again."""

SILENT = "the assistant says nothing, which is what will be learned"
"""What is odd about an answer without a word, and without a call of a tool."""

THOUGHTS = "</think>"
"""What stands before an answer proper; templates leave it out of earlier turns."""


def round_trip(tokens: Tokens) -> Finding:
    """Each fault with the rows that have it: a message left out, changed, twice or out of order; blanks trimmed; text lost in tokens."""
    task, tokenizer = tokens.recipe.task, tokens.tokenizer
    if task.name != "chat":
        return left_out(f"task={task.name} has no chat template")
    found: dict[str, list[Row]] = {}
    rows = tokens.train[:TRIED]
    messages, example = 0, ""
    for row in rows:
        try:
            conversation = chat.conversation(row.values, columns(task), True)
            text = render(tokenizer, conversation.messages, conversation.tools)
        except ValueError as error:
            raise BurnishError(f"{row.place}: {error}") from error
        messages += len(conversation.messages)
        for fault in message_faults(conversation.messages, text):
            found.setdefault(fault, []).append(row)
        again = tokenizer.decode(tokenized(tokenizer, text)[0], clean_up_tokenization_spaces=False)
        if "".join(again.split()) != "".join(text.split()):
            found.setdefault("lost in tokens", []).append(row)
            example = example or difference(text, again)
    sentences = {fault: f"{count(len(own), 'conversation')} of {len(rows):,}: {fault}, {places(own)}" for fault, own in found.items()}
    if example:
        sentences["lost in tokens"] += f": {example}"
    slight = [fault for fault in sentences if fault.startswith("blanks") or fault in ("lost in tokens", SILENT)]
    return judged(
        f"{count(messages, 'message')} of {count(len(rows), 'conversation')}, rendered and taken back from their tokens",
        [sentence for fault, sentence in sentences.items() if fault not in slight],
        [sentences[fault] for fault in slight],
        "Use a template that writes every message (tokenizer.chat_template), or rows that suit this one.",
        conversations=len(rows),
        faults={fault: len(own) for fault, own in found.items()},
    )


def columns(task: Any) -> chat.Columns:
    """The columns of a chat task, which its training rows have named."""
    found: chat.Columns = task.given
    return found


def message_faults(messages: list[dict[str, Any]], text: str) -> list[str]:
    """What is wrong with a rendered conversation, in words that are the same for the same fault."""
    faults, reached = dict[str, None](), 0
    for message in messages:
        role, said = message["role"], content(message)
        whole, bare = said, said.strip()
        if not bare:
            if role == "assistant" and not message.get("tool_calls"):
                faults[SILENT] = None
            continue
        if THOUGHTS in bare and bare not in text:
            whole = bare = bare.rpartition(THOUGHTS)[2].strip()
        if bare not in text:
            faults[f"the {role} message is left out or changed"] = None
            continue
        if whole not in text:
            faults[f"blanks around the {role} message are taken off"] = None
        at = text.find(bare, reached)
        if at < 0:
            faults["messages stand in another order"] = None
        else:
            reached = at + len(bare)
        told = sum(content(other).count(bare) for other in messages)
        if len(bare) >= TELLING and text.count(bare) > told:
            faults[f"the {role} message stands more than once"] = None
    return list(faults)


def content(message: dict[str, Any]) -> str:
    said = message.get("content")
    return said if isinstance(said, str) else ""


CHECKS: Mapping[str, Callable[[Tokens], Finding]] = {"template round trip": round_trip}
