"""The concepts that parts of Burnish share, each small enough to read at a glance.

Legend: B examples in a micro-batch, T tokens, C outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from burnish.core.deferred import Deferred, through

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

    from burnish.core.evaluation import Evaluation
    from burnish.core.generation import Generation
    from burnish.core.passage import Change
    from burnish.core.view import View

IGNORED = -100
"""The label of a token that is not supervised, as everywhere in transformers."""

Chosen = Literal["row", "word", "labels", "token", "place", "number"]
"""What a model chooses: the label of a row or of each word, any of several labels, a token, a place in a text; or it gives a number."""

Key = tuple[int, ...]
"""What a random draw depends on: (seed, step) in training, one and the same in every evaluation."""


@dataclass(slots=True)
class Row:
    """One row of a data file, and where it stands (`number` counts rows from 1, `line` is the line of a text file)."""

    values: dict[str, Any]
    file: str
    number: int
    line: int | None = None

    @property
    def place(self) -> str:
        return f"{self.file} row {self.number}" + (f" (line {self.line})" if self.line else "")


@dataclass
class Batch:
    """A micro-batch: the model's inputs, what the loss compares with, which examples these are, and their supervised units.

    `read` (B, T) marks the positions of the (decoder's) text whose outputs the task looks at, None where the head decides that.
    `shared` says of each example how many of its first tokens are also those of the example before it, and not read there (a prompt of
    several answers: `prefixes.shared_prefixes`): a packed causal model computes them once, any other as often as they stand in the inputs.
    """

    inputs: dict[str, torch.Tensor]
    targets: dict[str, torch.Tensor]
    examples: Sequence[int]
    weight: float
    tokens: int
    read: torch.Tensor | None = None
    positions: int | None = None
    shared: Sequence[int] | None = None

    @property
    def slots(self) -> int:
        """Token positions that the model computes, padding included where there is any (`positions`, where the model packed them)."""
        if self.positions is not None:
            return self.positions
        return sum(int(tensor.numel()) for name, tensor in self.inputs.items() if name.endswith("input_ids"))


@dataclass
class Choices:
    """Where a model chooses one of C possibilities: what it says, what is right, and the example each choice belongs to.

    `logits` (S, C), `targets` (S,) of ids, `owners` (S,) of positions in the micro-batch; each counts `share` units in the loss
    (an answer's start and end half a unit each). Choices stand in the order of their examples. Logits over a whole vocabulary may
    not be there yet: `costs` asks for them in chunks.
    """

    logits: torch.Tensor | Deferred
    targets: torch.Tensor
    owners: torch.Tensor
    share: float = 1.0

    def costs(self, loss: Callable[..., torch.Tensor], *beside: torch.Tensor | Deferred) -> torch.Tensor:
        """(S, ...) what `loss` says of each choice by its logits (s, C), targets (s,), and rows that stand `beside` them."""
        return through(loss, self.logits, self.targets, *beside)


class Examples(Protocol):
    """What rows became: units of learning. A row may give several (windows of a long text).

    For each example its length in tokens, its supervised units (1, or tokens; where they are drawn anew at each step, whether
    there can be any), and the index of its row; and how many rows were cut, by how they were.
    """

    @property
    def lengths(self) -> np.ndarray: ...

    @property
    def weights(self) -> np.ndarray: ...

    @property
    def rows(self) -> np.ndarray: ...

    @property
    def cut(self) -> Mapping[str, int]: ...

    def __len__(self) -> int: ...


class Choosing(Protocol):
    """What techniques need to know of a task: how the model is asked, and where in what it says it chooses."""

    def forward(self, model: nn.Module, batch: Batch, **wanted: Any) -> Any:
        """The model's output for a batch; `wanted` are further arguments of its forward, such as output_hidden_states."""
        ...

    def choices(self, output: Any, batch: Batch) -> list[Choices]:
        """What the plain loss is the cross-entropy of; empty where the task chooses nothing (it predicts a number)."""
        ...


class Objective(Protocol):
    """What the engine needs to know of a task: batches, a loss for each example that sums over its supervised units, and outputs."""

    def collate(self, examples: Any, indices: Sequence[int], key: Key) -> Batch:
        """Whatever is drawn at random for an example (masks) is drawn from (key, index), so that the split draws the same."""
        ...

    def losses(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """(B,) summed over an example's units, so that the sum over the global batch divided by its weight is the loss."""
        ...

    def outputs(self, model: nn.Module, batch: Batch) -> Sequence[torch.Tensor]:
        """One tensor an example: what is collected over a part of the data to evaluate or predict."""
        ...


@dataclass(frozen=True)
class Written:
    """Token ids that a model wrote, without the token that ended them, and whether it ended by itself."""

    ids: Sequence[int]
    ended: bool


class Inference(Protocol):
    """A model as a task may use it: the engine batches, places, seeds and shows progress."""

    def outputs(self, examples: Any) -> list[np.ndarray]:
        """The learner's outputs of every example, in order."""
        ...

    def generate(self, prompts: Sequence[Sequence[int]], generation: Generation) -> list[Written]:
        """What the model writes after each prompt (or, encoder-decoder, for each source), in order."""
        ...


class Learner(Objective, Choosing, Protocol):
    """A task that has met its data and its tokenizer: encodes rows, scores a model, predicts.

    `task` is its spec completed by what the data taught (such as the labels), enough to make the learner again without data;
    `auto_class` and `config` say which head transformers puts on the model, `generation` what of its generation settings is to
    be saved with it; `foretold` says whether the task can be tried before training, so that before and after can be compared;
    `redrawn` whether what is asked of an example is drawn anew at each step (words to hide).
    The tokenizer's `model_max_length` is the number of tokens that an example may have.
    """

    task: Any
    tokenizer: Any
    auto_class: str
    config: Mapping[str, Any]
    generation: Mapping[str, Any]
    foretold: bool
    redrawn: bool

    def encode(self, rows: Sequence[Row], labelled: bool = True) -> Examples: ...

    def evaluate(self, inference: Inference, examples: Any, rows: Sequence[Row]) -> Evaluation: ...

    def predict(self, inference: Inference, rows: Sequence[Row]) -> list[dict[str, Any]]: ...

    def view(self, examples: Any, index: int) -> View:
        """An example as the model gets it, for people to look at."""
        ...


class Task(Protocol):
    """The recipe's side of a task: which columns it reads, which rows it cannot use, and how it becomes a Learner."""

    @property
    def chooses(self) -> Chosen:
        """What a choice is about, which decides how classes can be weighed and balanced."""
        ...

    @property
    def metrics(self) -> Mapping[str, bool]:
        """Name of each metric -> whether more is better."""
        ...

    def columns(self, labelled: bool) -> list[str]:
        """The columns that every row must have; none where the task finds out for itself."""
        ...

    def fault(self, row: Row, labelled: bool) -> str | None:
        """Why a row cannot be used, or None."""
        ...

    def stratum(self, row: Row) -> Hashable:
        """What a split keeps the shares of: the label, or one and the same where there is none."""
        ...

    @property
    def word_for_word(self) -> bool:
        """Whether each word has a label of its own, so that a text may only be changed by one word for another."""
        ...

    def reworded(self, row: Row, change: Change) -> Row:
        """The row with its texts put in other words by `change`, and what is learned of them put where it then stands."""
        ...

    def bind(self, train: Sequence[Row], watched: Sequence[Row], tokenizer: Any) -> Learner:
        """Learns labels and the like from the training rows, and teaches the tokenizer what the task needs (tokens, a template).

        Raises DataError where the watched rows do not fit.
        """
        ...


@dataclass(frozen=True)
class Anatomy:
    """Where a model keeps its embeddings, blocks and head: names of parameters and modules, lowest block first.

    `fresh` are parameters that no pretrained weights filled, `new_tokens` ids that the task added to the vocabulary: those have to
    learn, whatever else does. `attention_outputs` and `feed_forward_outputs` are the linear layers that end a block's parts.
    """

    embeddings: Sequence[str]
    blocks: Sequence[Sequence[str]]
    head: Sequence[str]
    block_modules: Sequence[str] = ()
    linears: Sequence[str] = ()
    head_modules: Sequence[str] = ()
    fresh: Sequence[str] = ()
    new_tokens: Sequence[int] = ()
    attention_outputs: Sequence[str] = ()
    feed_forward_outputs: Sequence[str] = ()

    def role(self, name: str) -> str:
        """`embeddings`, `block 1` or `head`, for a parameter of the model or for one that a method hung into it."""
        name = self.own_name(name)
        if name.startswith("prompt_encoder."):  # peft's virtual tokens
            return "embeddings"
        for number, (module, own) in enumerate(zip(self.block_modules, self.blocks, strict=True), start=1):
            if name.startswith(module + ".") or name in own:
                return f"block {number}"
        tables = tuple(own.rpartition(".")[0] + "." for own in self.embeddings)
        return "embeddings" if name in self.embeddings or (name not in self.head and name.startswith(tables)) else "head"

    def own_name(self, name: str) -> str:
        """The model's own name of a parameter that peft may have wrapped: `base_model.model.encoder.base_layer.weight` without what was added."""
        for wrapped in (".base_layer.", ".original_module.", ".modules_to_save.default.", ".token_adapter."):
            name = name.replace(wrapped, ".")
        for prefix in ("base_model.model.", "base_model."):
            if name.startswith(prefix) and name.removeprefix(prefix).partition(".")[0] in self.roots:
                return name.removeprefix(prefix)
        return name

    @cached_property
    def roots(self) -> set[str]:
        """The first parts of the names of everything that the model has."""
        return {own.partition(".")[0] for own in (*self.embeddings, *self.head, *self.block_modules)}


class Technique:
    """Something that takes part in every step: a penalty, an average of weights, a plan of unfreezing. Each hook does nothing by itself."""

    def before(self, step: int) -> None:
        """Before the forward pass of update `step` (from 0); the learning rates of that step are set."""

    def differentiated(self) -> float:
        """The whole gradient is there, not clipped yet: adds to it, and gives the value of what was added to the loss."""
        return 0.0

    def updated(self, step: int) -> None:
        """Update `step` has moved the weights; their gradients (clipped) are still there."""

    def evaluated(self, step: int, metrics: Mapping[str, float], training: float) -> None:
        """The validation rows were scored after `step` updates; `training` is the mean training loss since they last were."""

    def evaluating(self) -> AbstractContextManager[None]:
        """Puts the weights in place that are to be measured and kept, where these are not those that learn."""
        return nullcontext()

    def announce(self, tell: Callable[[Any], None]) -> None:
        """`tell` takes events of the engine: the way to say what is done on the way."""

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """What a checkpoint has to keep of it: tensors, and values that JSON can hold."""
        return {}, {}

    def restore(self, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> None:
        """Goes on from what `state` gave."""


@dataclass(frozen=True)
class Course:
    """How long a run is to be, in updates; `total_steps` is None where its duration is a time."""

    steps_per_epoch: int
    total_steps: int | None


class Method(Protocol):
    """Decides which parameters learn, and in which form, saves what they became as a folder, and opens that folder again.

    `takes_quantized` names the formats (nf4, int8) in which the weights of the blocks' linear layers may be held: none where they learn.
    `opens_quantized` names those in which a finished model's may be held, to measure and to predict.
    """

    takes_quantized: tuple[str, ...]
    opens_quantized: tuple[str, ...]

    @property
    def positions(self) -> int:
        """How many of the positions that the model can read the method takes for itself (virtual tokens)."""
        ...

    def faults(self, train: Any) -> list[str]:
        """Why settings of the recipe's `train` section do not go with the method: nothing, for most."""
        ...

    def apply(self, model: Any, anatomy: Anatomy) -> nn.Module:
        """The model to train, in which exactly the chosen parameters require a gradient."""
        ...

    def techniques(self, model: nn.Module, anatomy: Anatomy, course: Course) -> list[Technique]:
        """What the method does at every step, beside choosing what learns: nothing, for most."""
        ...

    def save(self, model: Any, folder: Path, base: Sequence[Path] | None) -> None:
        """`base` are the files of the pretrained weights, None where some fresh weights are in no file."""
        ...

    def open(self, folder: Path, load: Callable[[Path], Any]) -> nn.Module:
        """The model that `save` left in `folder`. `load` is transformers' way to open a folder of whole weights."""
        ...

    def merged(self, folder: Path, load: Callable[[Path], Any]) -> Any:
        """The same function as plain weights, without adapters. Raises ModelError where what was learned is no weight of the model's own."""
        ...


class Optimizer(Protocol):
    """The recipe's side of an optimizer; `groups` are parameter groups as torch takes them.

    `by_weight` says whether each weight moves by its own gradient and state alone, so that part of a tensor may be left out; `decoupled`
    whether decay shrinks a weight by exactly lr * weight_decay * w, beside its update.
    """

    by_weight: bool
    decoupled: bool
    lr: float
    weight_decay: float

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer: ...


class Schedule(Protocol):
    """The factor on every learning rate after `position` of `total` (steps, or milliseconds of a timed run)."""

    def factor(self, position: float, total: float) -> float: ...
