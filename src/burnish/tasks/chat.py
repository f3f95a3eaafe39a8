"""Instruction tuning: a language model learns to answer, and to end its answers.

Legend: B examples in a micro-batch, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from burnish.core.errors import DataError, count, listing
from burnish.core.evaluation import Evaluation
from burnish.core.generation import Generation
from burnish.core.passage import Change
from burnish.core.protocols import Batch, Choices, Chosen, Inference, Key, Row
from burnish.core.registry import register
from burnish.core.spec import Spec
from burnish.core.view import View
from burnish.data import chat
from burnish.data.encode import Encoded
from burnish.tasks import causal, rewording

if TYPE_CHECKING:
    import torch
    from torch import nn


@register("task")
class Chat(Spec):
    """Answers instructions and conversations, by a causal language model (supervised fine-tuning).

    Columns that are not named are found by their usual names: messages, conversations, prompt and response (or completion),
    question and answer, instruction with input and output.
    """

    name: Literal["chat"] = "chat"

    word_for_word: ClassVar[bool] = False

    chooses: ClassVar[Chosen] = "token"

    messages: str | None = None
    """Column of whole conversations: lists of {role, content}, or of {from, value}."""

    prompt: str | None = None
    """Column of the prompt, where rows are a prompt and a response."""

    context: str | None = None
    """Column of a text that belongs to the prompt and may be empty, such as Alpaca's input."""

    response: str | None = None
    """Column of the response."""

    system: str | None = None
    """A system message to put first in rows that have none."""

    tools: str | None = None
    """Column of the tools that a conversation may call: a list of JSON schemas."""

    supervise: Literal["response", "everything"] = "response"
    """What is learned: the assistant's turns with their ends, or every token."""

    generation: Generation = Generation(max_new_tokens=128)
    """How answers are written, in evaluation and in the saved model."""

    @classmethod
    def guess(cls, rows: Sequence[Row]) -> Chat:
        """The columns by their usual names. Raises DataError where there are none."""
        try:
            return cls().named(columns_of(cls(), rows[0]))
        except ValueError as error:
            raise DataError(f"{rows[0].place}: {error}") from None

    def named(self, columns: chat.Columns) -> Chat:
        """The same task with its columns written out."""
        names = ("messages", "prompt", "context", "response", "tools")
        return self.model_copy(update={name: getattr(columns, name) for name in names})

    @property
    def metrics(self) -> Mapping[str, bool]:
        written = {"written_ended": True, "written_rougeL": True, "written_distinct_2": True} if self.generation.samples else {}
        return {"loss": False, "perplexity": False, **written}

    @property
    def given(self) -> chat.Columns | None:
        """The columns that the recipe names, or None where it names none."""
        if self.messages is None and self.prompt is None and self.response is None:
            return None
        return chat.Columns(self.messages, self.prompt, self.context, self.response, self.system, self.tools)

    def columns(self, labelled: bool) -> list[str]:
        wanted = [self.messages] if self.messages else [self.prompt, self.context, self.response if labelled else None]
        return [column for column in wanted if column is not None]

    def fault(self, row: Row, labelled: bool) -> str | None:
        try:
            read(self, row, labelled)
        except ValueError as error:
            return str(error)
        return None

    def stratum(self, row: Row) -> str:
        return ""

    def reworded(self, row: Row, change: Change) -> Row:
        """The user's turns alone: those of the assistant are learned."""
        found = columns_of(self, row)
        asked = [name for name in (found.messages, found.prompt) if name]
        turned = rewording.with_values(row, {name: rewording.turns(row.values[name], name, change) for name in asked})
        return rewording.columns(turned, [found.context], change)

    def bind(self, train: Sequence[Row], watched: Sequence[Row], tokenizer: Any) -> Assistant:
        """Names the columns, and gives a tokenizer without a chat template ChatML. Raises DataError where no column is known."""
        try:
            task = self if self.given or not train else self.named(columns_of(self, train[0]))
        except ValueError as error:
            raise DataError(f"{train[0].place}: {error}") from None
        chat.ensure_template(tokenizer)
        return Assistant(task, tokenizer)


def columns_of(task: Chat, row: Row) -> chat.Columns:
    """The columns that the recipe names, else those of the row that have a usual name. Raises ValueError where there are none."""
    if task.given is not None:
        return task.given
    found = chat.usual(row.values)
    if found is None:
        names = ", ".join(row.values)
        raise ValueError(f"no column has a usual name (its columns: {names}). Name them: task.messages, or task.prompt and task.response")
    return chat.Columns(found.messages, found.prompt, found.context, found.response, task.system, task.tools or found.tools)


def read(task: Chat, row: Row, labelled: bool) -> chat.Conversation:
    """The conversation in a row; to be answered (not labelled), a plain text will do. Raises ValueError with what is wrong."""
    columns = columns_of(task, row)
    values = row.values
    text = values.get(columns.messages) if columns.messages else None
    if not labelled and isinstance(text, str) and not text.lstrip().startswith("["):
        if not text.strip():
            raise ValueError(f"`{columns.messages}` is empty: there is nothing to answer")
        values = {**values, str(columns.messages): [{"role": "user", "content": text}]}
    return chat.conversation(values, columns, labelled)


@dataclass(frozen=True)
class Assistant:
    """The chat task once its columns and its template are known."""

    task: Chat
    tokenizer: Any
    auto_class = "AutoModelForCausalLM"
    config: ClassVar[Mapping[str, Any]] = {}
    foretold = True
    redrawn = False

    @property
    def generation(self) -> Mapping[str, Any]:
        return causal.saved(self.task.generation, chat.turn_end(self.tokenizer))

    def encode(self, rows: Sequence[Row], labelled: bool = True) -> Encoded:
        """Conversations as tokens, supervised where the task says so. Raises DataError naming every row that the template refuses."""
        ids, masks, problems = [], [], []
        shortened = {"tokens were taken out of the middle of the prompt": 0, "the response was cut at its end": 0}
        for row in rows:
            try:
                turns = chat.encode(read(self.task, row, True), self.tokenizer, self.task.supervise)
            except ValueError as error:
                problems.append(f"{row.place}: {error}")
                continue
            turns, cut = chat.shorten(turns, self.tokenizer.model_max_length, keep_end=self.task.supervise == "response")
            for how, taken in zip(shortened, (cut.prompt, cut.response), strict=True):
                shortened[how] += taken > 0
            ids.append(turns.ids)
            masks.append(turns.mask)
        if problems:
            raise DataError(listing(f"{count(len(problems), 'conversation')} cannot be written by the chat template", problems))
        return causal.encoded(ids, masks, range(len(rows)), {how: number for how, number in shortened.items() if number})

    def collate(self, examples: Encoded, indices: Sequence[int], key: Key) -> Batch:
        return causal.collate(examples, indices, self.tokenizer.pad_token_id)

    def forward(self, model: nn.Module, batch: Batch, **wanted: Any) -> Any:
        return causal.forward(model, batch, **wanted)

    def choices(self, output: Any, batch: Batch) -> list[Choices]:
        return causal.choices(output, batch)

    def losses(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        return causal.losses(model, batch)

    def outputs(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        return causal.outputs(model, batch)

    def prompts(self, rows: Sequence[Row], labelled: bool) -> list[list[int]]:
        """What the model is given to answer: each conversation up to its last response, short enough to leave room for one."""
        room = max(self.tokenizer.model_max_length - self.task.generation.max_new_tokens, 8)
        prompts = [chat.prompt(read(self.task, row, labelled), self.tokenizer) for row in rows]
        return [chat.shorten(chat.Turns(ids, [False] * len(ids)), room)[0].ids for ids in prompts]

    def evaluate(self, inference: Inference, examples: Encoded, rows: Sequence[Row]) -> Evaluation:
        sums = causal.by_row(inference.outputs(examples), examples, rows)
        asked = rows[: self.task.generation.samples]
        references = [self.reference(row) for row in asked]
        written, sections, answers = causal.answered(
            inference, self.tokenizer, self.task.generation, self.prompts(asked, True), asked, references
        )
        records = [
            {"row": row.number, "file": row.file, "loss": nats / max(tokens, 1), "tokens": int(tokens)}
            for row, (nats, tokens) in zip(rows, sums, strict=True)
        ]
        for record, answer, reference in zip(records, answers, references, strict=False):
            record |= {"answer": answer, "reference": reference}
        return Evaluation({**causal.perplexities(sums), **written}, sections, records)

    def reference(self, row: Row) -> str:
        """The last response of a row."""
        turns = [message for message in read(self.task, row, True).messages if message["role"] == "assistant"]
        return str(turns[-1].get("content") or "")

    def predict(self, inference: Inference, rows: Sequence[Row]) -> list[dict[str, Any]]:
        written = inference.generate(self.prompts(rows, False), self.task.generation)
        texts = [self.tokenizer.decode(one.ids, skip_special_tokens=True).strip() for one in written]
        return [{"answer": text, "ended": one.ended} for text, one in zip(texts, written, strict=True)]

    def view(self, examples: Encoded, index: int) -> View:
        return causal.view(examples, index, "conversation")
