"""What every system of a comparison is given: the same rows as the same tokens, the same first weights, the same batches.

Legend: N examples, B examples of a batch, S steps.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from works import Work

    from burnish.build import Parts

MEGABATCH = 50
"""Batches that transformers' length grouping draws at random and sorts together."""

TRAINED_ON = 12_000_000
"""Characters of text from which a made model's vocabulary is learned."""


@dataclass(frozen=True)
class Product:
    """A linear layer: its weight's shape, and which of the two products of backward training needs of it."""

    shape: tuple[int, int]
    of_input: bool
    of_weight: bool


@dataclass(frozen=True)
class Material:
    """`folder` holds the first weights and the tokenizer, `adapter` peft's configuration, `learning` names what learns.

    `examples` are what a data set for Trainer holds, of `lengths` tokens. `plain` and `grouped` name the examples of S steps in
    order: batches as Burnish draws them, and batches of like length.
    """

    folder: str
    recipe: dict[str, Any]
    auto_class: str
    foretold: bool
    adapter: str | None
    learning: frozenset[str]
    examples: list[dict[str, Any]]
    lengths: list[int]
    batch_size: int
    plain: list[int]
    grouped: list[int]
    products: list[Product]

    @property
    def tokens(self) -> float:
        """Mean number of tokens a step."""
        return sum(self.lengths[index] for index in self.plain) / (len(self.plain) / self.batch_size)


def prepare(work: Work, data: Path, folder: Path) -> Material:
    """Chooses the rows of a comparison, makes its model where it needs one, and encodes the rows.

    A whole data set is grouped by length within 50 batches drawn at random. Of 50 such batches some are taken, evenly over all lengths:
    so few rows are grouped as well as all of them would be, and every system sees the same rows.
    """
    model = made_llama(work, data, folder / "made") if work.vocabulary else "starter:minilm"
    rows = list(read(data / work.file))
    random.Random(0).shuffle(rows)
    rows = work.cut(rows, work.steps * work.batch_size)
    recipe = work.recipe(model, str(folder / "rows.jsonl"))
    if len(rows) > work.steps * work.batch_size:
        pool = rows[: max(MEGABATCH, work.steps) * work.batch_size]
        write(folder / "rows.jsonl", pool)
        rows = spread(pool, row_lengths(assembled(recipe)), work.steps, work.batch_size)
    write(folder / "rows.jsonl", rows)
    parts = assembled({**recipe, "method": "full"})
    plain: Any = parts.model
    plain.save_pretrained(folder / "model")
    parts.tokenizer.save_pretrained(folder / "model")
    method = parts.recipe.method if recipe["method"] == "full" else None
    learner = parts if method else assembled(recipe)
    return bundled(work, recipe, parts, learner, folder)


def bundled(work: Work, recipe: dict[str, Any], parts: Parts, learner: Parts, folder: Path) -> Material:
    """`parts` are those of the plain model, `learner` those under the recipe's method."""
    from burnish import build

    settings, adapter = learner.recipe.method, None
    if hasattr(settings, "config"):
        adapter = str(folder / "adapter")
        settings.config(parts.model, learner.anatomy).save_pretrained(adapter)
    examples, order = parts.examples["train"], build.order(parts)
    lengths = [int(length) for length in examples.lengths]
    steps = len(lengths) // work.batch_size
    plain = [index for step in range(steps * work.epochs) for index in order.batch(step)]
    return Material(
        folder=str(folder / "model"),
        recipe=recipe,
        auto_class=parts.learner.auto_class,
        foretold=parts.learner.foretold,
        adapter=adapter,
        learning=frozenset(name for name, parameter in learner.model.named_parameters() if parameter.requires_grad),
        examples=[example(examples, index) for index in range(len(lengths))],
        lengths=lengths,
        batch_size=work.batch_size,
        plain=plain[: steps * work.epochs * work.batch_size],
        grouped=grouped(lengths, work.batch_size, work.warm, work.rounds // work.epochs) * work.epochs,
        products=products(learner),
    )


def assembled(recipe: dict[str, Any]) -> Parts:
    from burnish import build
    from burnish import recipe as recipes

    checked = recipes.load(recipe)
    return build.assemble(checked, build.gather(checked), lambda message: None)


def row_lengths(parts: Parts) -> list[int]:
    """Tokens of each row, over all its windows."""
    import numpy as np

    examples = parts.examples["train"]
    return [int(length) for length in np.bincount(examples.rows, weights=examples.lengths)]


def spread(rows: Sequence[dict[str, Any]], lengths: Sequence[int], steps: int, batch_size: int) -> list[dict[str, Any]]:
    """Rows of `steps` of the pool's batches of like length, evenly from the longest to the shortest."""
    by_length = sorted(range(len(rows)), key=lambda index: -lengths[index])
    batches = [by_length[start : start + batch_size] for start in range(0, len(by_length) - batch_size + 1, batch_size)]
    chosen = [batches[int((number + 0.5) * len(batches) / steps)] for number in range(steps)]
    return [rows[index] for batch in chosen for index in batch]


def grouped(lengths: Sequence[int], batch_size: int, warm: int, rounds: int) -> list[int]:
    """Batches of like length, in such an order that every turn has some of all lengths: those of middle length warm up."""
    by_length = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    batches = [by_length[start : start + batch_size] for start in range(0, len(by_length) - batch_size + 1, batch_size)]
    middle = len(batches) // 2
    first, rest = batches[middle : middle + warm], batches[:middle] + batches[middle + warm :]
    layers = [rest[start : start + rounds] for start in range(0, len(rest) - rounds + 1, rounds)]  # a batch for each turn
    ways = [layer if number % 2 else layer[::-1] for number, layer in enumerate(layers)]  # so that no turn has the longest of each
    turns = zip(*ways, strict=True)
    return [index for batch in [*first, *(batch for turn in turns for batch in turn)] for index in batch]


def example(examples: Any, index: int) -> dict[str, Any]:
    """Inputs and labels of an example, as lists and numbers."""
    wanted = ("labels", "start_positions", "end_positions")
    columns = {**examples.inputs, **{name: column for name, column in examples.targets.items() if name in wanted}}
    return {name: column[index].tolist() for name, column in columns.items()}


def products(parts: Parts) -> list[Product]:
    """The matrix products that every token goes through: the linear layers of the blocks, and a language model's head.

    The gradient of a layer's input is needed where something below it learns, that of its weight where that learns.
    """
    linears, found, below = {f"{name}.weight" for name in parts.anatomy.linears}, [], False
    for name, parameter in parts.model.named_parameters():
        if parts.anatomy.own_name(name) in linears:
            found.append(Product((parameter.shape[0], parameter.shape[1]), below, parameter.requires_grad))
        below = below or parameter.requires_grad
    if parts.learner.auto_class == "AutoModelForCausalLM":
        model: Any = parts.model
        head = model.get_output_embeddings().weight
        found.append(Product((head.shape[0], head.shape[1]), below, head.requires_grad))
    return found


def made_llama(work: Work, data: Path, folder: Path) -> str:
    """A decoder of random weights with a vocabulary of its own, learned from the data; where the model is to know more tokens than
    that gives, the rest of its table is never read, and costs as much."""
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learned.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=32_000, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    learned.train_from_iterator(some_text(data / work.file), trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=learned, bos_token="<s>", eos_token="</s>", pad_token="<pad>", extra_special_tokens=special[3:]
    )
    size = {"hidden_size": 320, "num_hidden_layers": 8, "num_attention_heads": 5, "intermediate_size": 864, "max_position_embeddings": 1024}
    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    torch.manual_seed(0)
    settings = transformers.LlamaConfig(vocab_size=work.vocabulary, tie_word_embeddings=True, **size, **ids)
    transformers.LlamaForCausalLM(settings).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def some_text(path: Path) -> Iterator[str]:
    """The texts of a file, up to a number of characters."""
    taken = 0
    for row in read(path):
        for text in row.values():
            if isinstance(text, str) and taken < TRAINED_ON:
                yield text[: TRAINED_ON - taken]
                taken += len(text)


def read(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        yield from map(json.loads, stream)


def write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
