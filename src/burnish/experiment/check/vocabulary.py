"""Checks of tokens: are they known, do they stand once where a text begins and ends, do they give the text back?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from burnish.core.errors import count
from burnish.core.protocols import Row
from burnish.core.view import View
from burnish.data.chat import turn_end
from burnish.data.pieces import special_ids
from burnish.experiment.check.subject import Tokens, places, written
from burnish.report.inspection import Finding, judged, left_out
from burnish.report.wording import percent
from burnish.run.showing import Part

UNKNOWN, MOST_UNKNOWN = 0.01, 0.1
"""Shares of unknown tokens from which on it is worth a word, and from which on the tokenizer is the wrong one."""

SHORT = 1.0
"""Characters a token below which a tokenizer spells texts letter by letter: it was made for another language."""

DOUBLED = 0.1
"""Share of examples with a doubled token from which on something adds it twice."""

SPARE = 0.1
"""Share of embeddings without a token that may be left over: many models round their vocabulary up."""

TRIED, FIRST = 500, 2000
"""Rows or examples that are decoded, and how many characters of each."""


def views(tokens: Tokens, most: int | None = None) -> Iterator[tuple[Row, View]]:
    """The examples of training, each with its row."""
    part = tokens.parts["train"]
    for index in range(len(part.examples) if most is None else min(most, len(part.examples))):
        yield part.rows[int(part.owners[index])], part.learner.view(part.examples, index)


def doubled_ends(tokens: Tokens) -> Finding:
    """Tokens that begin or end a text, or a turn of a conversation, and stand there twice: a template writes them, and the tokenizer or the
    text itself once more."""
    tokenizer = tokens.tokenizer
    begins = {tokenizer.bos_token_id, tokenizer.cls_token_id} - {None}
    ends = {tokenizer.eos_token_id, tokenizer.sep_token_id} - {None}
    if not begins | ends:
        return left_out("the tokenizer has no token that begins or ends a text")
    turns = set(turn_end(tokenizer)) if tokens.recipe.task.name == "chat" else set[int]()
    first, last, within = list[Row](), list[Row](), list[Row]()
    for row, view in views(tokens):
        for strip in view.strips:
            ids = list(strip.ids)
            if len(ids) > 1 and ids[0] == ids[1] and ids[0] in begins:
                first.append(row)
            if len(ids) > 2 and ids[-1] == ids[-2] and ids[-1] in ends:
                last.append(row)
            elif turns and any(one == other and one in turns for one, other in pairwise(ids)):
                within.append(row)
    total = len(tokens.parts["train"].examples)
    found = [
        f"{count(len(rows), 'example')} of {total:,} {verb} with the same token twice: {places(rows)}"
        for verb, rows in (("begin", first), ("end", last))
        if rows
    ]
    if within:
        ends_ = ", ".join(tokenizer.convert_ids_to_tokens(sorted(turns)))
        found.append(f"in {count(len(within), 'conversation')} of {total:,} a turn ends twice ({ends_}): {places(within)}")
    bad = max(len(first), len(last), len(within)) >= DOUBLED * total
    names = ", ".join(tokenizer.convert_ids_to_tokens(sorted(begins | ends)))
    mend = "The texts or the chat template hold a token that is added anyway: take it out there."
    return judged(
        f"{names} in {count(total, 'training example')}",
        found if bad else [],
        [] if bad else found,
        mend,
        begin=len(first),
        end=len(last),
        turns=len(within),
    )


def unknown_tokens(tokens: Tokens) -> Finding:
    """How much of the texts the tokenizer cannot write, or only letter by letter."""
    tokenizer = tokens.tokenizer
    own = tokenizer.unk_token_id
    # GPT-2 and its kin name their end token as the unknown one too, which never occurs: they spell any byte.
    countable = own is not None and own not in (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    worst, unknown, total = (0.0, ""), 0, 0
    for row, view in views(tokens):
        for strip in view.strips:
            number = sum(token == own for token in strip.ids) if countable else 0
            unknown, total = unknown + number, total + len(strip.ids)
            worst = max(worst, (number / max(len(strip.ids), 1), row.place))
    share, spelled = unknown / max(total, 1), characters(tokens)
    seen = f"{percent(share)} of {total:,} training tokens unknown" if countable else f"{total:,} training tokens, none can be unknown"
    sentence = f"{unknown:,} tokens ({percent(share)}) are {tokenizer.unk_token}, most in {worst[1]} ({percent(worst[0])}): the model cannot read them"
    failures = [sentence] if share >= MOST_UNKNOWN else []
    warnings = [sentence] if UNKNOWN <= share < MOST_UNKNOWN else []
    if spelled < SHORT and not failures:
        warnings.append(
            f"a token stands for {spelled:.2f} characters: the tokenizer was made for other texts, which costs length and sense"
        )
    mend = "Take a model that was trained on this language (a multilingual one), or train a tokenizer for a model from scratch."
    return judged(f"{seen}, {spelled:.1f} characters a token", failures, warnings, mend, unknown=share, characters=spelled)


def characters(tokens: Tokens) -> float:
    """Characters that a token stands for, on average."""
    tokenizer = tokens.tokenizer
    skipped = special_ids(tokenizer) - {tokenizer.unk_token_id}
    letters = number = 0
    for _, view in views(tokens, TRIED):
        for strip in view.strips:
            kept = [token for token in strip.ids if token not in skipped]
            # What is unknown stands for a word or a character that decoding does not give back.
            letters += len(tokenizer.decode([token for token in kept if token != tokenizer.unk_token_id])) + kept.count(
                tokenizer.unk_token_id
            )
            number += len(kept)
    return letters / max(number, 1)


def vocabularies(tokens: Tokens) -> Finding:
    """Whether tokenizer and model number the same tokens."""
    tokenizer, rows = tokens.tokenizer, len(tokens.bones.get_input_embeddings().weight)
    known, added = len(tokenizer), len(tokenizer) - tokens.known
    highest = max(int(ragged.values.max(initial=0)) for name, ragged in inputs(tokens.parts["train"]).items() if name.endswith("input_ids"))
    failures, warnings = [], []
    spare = 1 - known / max(rows, 1)
    if spare > SPARE and not tokens.recipe.model.fresh:
        warnings.append(f"{rows - known:,} of {rows:,} embeddings ({percent(spare)}) have no token: is this the model's own tokenizer?")
    for name in ("eos_token_id", "bos_token_id"):
        theirs, own = getattr(tokens.bones.config, name, None), getattr(tokenizer, name)
        if isinstance(theirs, int) and own is not None and theirs != own and not tokens.recipe.model.fresh:
            written_ = tokenizer.convert_ids_to_tokens(theirs) if theirs < known else None
            warnings.append(
                f"{name} is {own} ({tokenizer.convert_ids_to_tokens(own)}) to the tokenizer and {theirs} ({written_}) to the model"
            )
    if tokens.known > rows:
        failures.append(f"the tokenizer knows {tokens.known:,} tokens and the model {rows:,}: they do not belong together")
    if highest >= max(rows, known):
        failures.append(f"token {highest} occurs, and there are {max(rows, known):,} embeddings")
    more = f", {count(added, 'token')} added by the task" if added else ""
    mend = "Use the tokenizer that the model was trained with (leave model.tokenizer out)."
    return judged(
        f"{known:,} tokens, {rows:,} embeddings{more}; the highest that occurs is {highest:,}",
        failures,
        warnings,
        mend,
        known=known,
        embeddings=rows,
    )


def inputs(part: Part) -> Mapping[str, Any]:
    found: Mapping[str, Any] = part.examples.inputs  # type: ignore[attr-defined]
    return found


def texts_back(tokens: Tokens) -> Finding:
    """Whether the texts to be written can be written at all: an uncased tokenizer, say, gives no capitals back."""
    if not tokens.learner.generation or (hasattr(tokens.tokenizer, "chat_template") and tokens.recipe.task.name == "chat"):
        return left_out(
            "the chat template is looked at" if tokens.learner.generation else f"task={tokens.recipe.task.name} writes no texts"
        )
    column = getattr(tokens.recipe.task, "target", None) or tokens.recipe.task.columns(True)[-1]
    rows, lost, example = tokens.train[:TRIED], list[Row](), ""
    for row in rows:
        text = written(row.values.get(column))[:FIRST]
        again = tokens.tokenizer.decode(tokens.tokenizer(text_target=text, verbose=False)["input_ids"], skip_special_tokens=True)
        if "".join(again.split()) != "".join(text.split()):
            example = example or difference(text, again)
            lost.append(row)
    share = len(lost) / max(len(rows), 1)
    sentence = (
        f"{count(len(lost), 'text')} of {len(rows):,} ({percent(share)}) do not come back from their tokens, {places(lost)}: {example}"
    )
    mend = "What the tokenizer cannot write the model cannot learn to write: take another, or texts in its form."
    seen = f"{len(rows) - len(lost):,} of {count(len(rows), 'training text')} come back from their tokens as they were, blanks aside"
    return judged(seen, [], [sentence] if lost else [], mend, lost=share)


def difference(text: str, again: str) -> str:
    """Where two texts first differ, with a few characters of both."""
    one, other = " ".join(text.split()), " ".join(again.split())
    at = next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    start = max(at - 10, 0)
    return f"{one[start : at + 20]!r} became {other[start : at + 20]!r}"


CHECKS: Mapping[str, Callable[[Tokens], Finding]] = {
    "doubled BOS or EOS": doubled_ends,
    "unknown tokens": unknown_tokens,
    "vocabularies": vocabularies,
    "texts come back": texts_back,
}
