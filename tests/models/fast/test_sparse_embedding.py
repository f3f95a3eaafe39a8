"""Only rows that occur learn: the same losses, norms, weights and outputs as with the whole table, saved and resumed like it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import nn

import burnish
from burnish import build
from burnish import recipe as recipes
from burnish.core import registry
from burnish.core.protocols import Course
from burnish.core.rundir import RunFolder
from burnish.engine import checkpoint
from burnish.engine.progress import Progress
from burnish.engine.step import Outcome, Step
from burnish.models.fast.embedding import Shrinkage, SparseTable, sparse_embedding
from burnish.run.stepping import make_step
from cases import recipe_of

pytestmark = pytest.mark.usefixtures("quick")

Made = tuple[build.Parts, Step]
Make = Callable[..., Made]

SPARSE = {"savings": {"sparse_embedding": True}}
DENSE = {"savings": {"sparse_embedding": False}}
TRAIN = {"duration": "8st", "batch_size": 8, "save_every": "4st", "device": "cpu", "max_grad_norm": 0.05}
DECAYED = {"optimizer": {"name": "adamw", "lr": 0.003, "weight_decay": 0.5}}
UNDECAYED = {"optimizer": {"name": "adamw", "lr": 0.003, "weight_decay": 0.0}}
VOCABULARY = 1000
"""Tokens of the tiny models here: the rows hold far less than half of them."""


def grown(source: Path, target: Path, auto: Any, **changes: Any) -> Path:
    """A copy of a tiny model with a larger vocabulary, as if its tokenizer knew more words than any row holds."""
    model = auto.from_pretrained(source, **changes)
    torch.manual_seed(1)
    model.resize_token_embeddings(VOCABULARY, mean_resizing=False)
    if model.get_output_embeddings() is not None:
        nn.init.normal_(model.get_output_embeddings().weight, std=0.1)
    model.save_pretrained(target)
    transformers.AutoTokenizer.from_pretrained(source).save_pretrained(target)
    return target


@pytest.fixture(scope="module")
def models(tiny_bert: Path, tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("grown")
    return {
        "classify": grown(tiny_bert, folder / "bert", transformers.AutoModel),
        "continue": grown(tiny_llama, folder / "llama", transformers.AutoModelForCausalLM, tie_word_embeddings=False),
    }


@pytest.fixture
def make(models: dict[str, Path], tmp_path: Path) -> Make:
    """Parts and step of a task's recipe, made anew each time."""

    def made(task: str, **sections: Any) -> Made:
        sections = {"engine": SPARSE, "train": TRAIN, **sections}
        checked = recipes.load(recipe_of(task, models[task], tmp_path, **sections))
        parts = build.assemble(checked, build.gather(checked), lambda message: None)
        return parts, make_step(parts, Course(2, 8))

    return made


def walked(made: Made, first: int = 0, last: int = 8) -> list[Outcome]:
    """Steps of a falling learning rate, over the rows in order."""
    parts, step = made
    order = build.order(parts)
    return [step(order.batch(number), number, 1 - number / 10) for number in range(first, last)]


def state_of(made: Made) -> dict[str, torch.Tensor]:
    """The weights that are measured and kept."""
    with ExitStack() as stack:
        for technique in made[1].techniques:
            stack.enter_context(technique.evaluating())
        return {name: tensor.clone() for name, tensor in made[0].model.state_dict().items()}


def assert_same(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.allclose(found[name], tensor, rtol=1e-4, atol=2e-6), f"{name}: {(found[name] - tensor).abs().max()}"


def table_of(made: Made) -> SparseTable:
    module = made[0].model.get_input_embeddings()  # type: ignore[operator]
    return module.forward.table


# The same steps


@pytest.mark.parametrize(
    "sections", [UNDECAYED, {}, DECAYED, {"method": "unfreeze", **DECAYED}], ids=["undecayed", "usual", "decayed", "unfrozen later"]
)
@pytest.mark.parametrize("task", ["classify", "continue"])
def test_steps_are_those_of_the_whole_table(make: Make, task: str, sections: dict[str, Any]) -> None:
    dense, sparse = make(task, engine=DENSE, **sections), make(task, **sections)
    before = state_of(dense)
    assert_same(state_of(sparse), before)
    plain, saved = walked(dense), walked(sparse)
    assert [outcome.loss for outcome in saved] == pytest.approx([outcome.loss for outcome in plain], rel=1e-5)
    assert [outcome.grad_norm for outcome in saved] == pytest.approx([outcome.grad_norm for outcome in plain], rel=1e-4)
    assert all(outcome.grad_norm > TRAIN["max_grad_norm"] for outcome in plain), "clipping is active"  # type: ignore[operator]
    after = state_of(dense)
    assert_same(state_of(sparse), after)
    weight, table = sparse[0].model.get_input_embeddings().weight, table_of(sparse)  # type: ignore[operator]
    moments = sparse[1].optimizer.state[weight]
    assert weight.shape == moments["exp_avg"].shape == (len(table.occurring), 32) and len(table.occurring) < VOCABULARY / 2
    name = table.names[0]
    moved = (after[name] - before[name]).abs().amax(dim=1) > 0
    assert moved[table.occurring].any() and moved[table.absent].any() == (sections is not UNDECAYED)


@pytest.mark.parametrize("engine", [DENSE, SPARSE], ids=["dense", "sparse"])
def test_a_whole_step_is_the_sum_of_its_micro_batches(make: Make, engine: dict[str, Any]) -> None:
    whole, cut = make("classify", engine=engine), make("classify", engine=engine, train={**TRAIN, "micro_batch": 3})
    walked(whole), walked(cut)
    assert_same(state_of(cut), state_of(whole))


@pytest.mark.parametrize("train", [{"ema": 0.8}, {"in_backward": True, "max_grad_norm": None}], ids=["averaged", "moved in backward"])
def test_ways_of_training_are_the_same_too(make: Make, train: dict[str, Any]) -> None:
    dense, sparse = (make("classify", engine=engine, train={**TRAIN, **train}, **DECAYED) for engine in (DENSE, SPARSE))
    walked(dense), walked(sparse)
    assert_same(state_of(sparse), state_of(dense))
    assert_same(sparse[0].model.state_dict(), dense[0].model.state_dict())


class Toy(nn.Module):
    """An embedding table of 40 rows."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(40, 8, padding_idx=0)

    def get_input_embeddings(self) -> nn.Module:
        return self.table


OCCURRING = np.array([3, 5, 11, 17])


def toys() -> tuple[Toy, Toy, SparseTable]:
    torch.manual_seed(0)
    dense, sparse = Toy(), Toy()
    sparse.load_state_dict(dense.state_dict())
    table = sparse_embedding(sparse, [OCCURRING])
    assert isinstance(table, SparseTable)
    return dense, sparse, table


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("name", sorted(set(registry.specs("optimizer")) - {"adamw8bit", "lion8bit"}))
def test_what_optimizers_say_of_themselves_is_what_they_do(name: str, decay: float) -> None:
    """By weight: rows that occur move as if the others were not there. Decoupled: those others shrink by lr * decay and nothing else."""
    spec: Any = registry.specs("optimizer")[name].model_validate({"weight_decay": decay, "lr": 0.1})
    dense, sparse, table = toys()
    optimizers = []
    for model in (dense, sparse):
        group = {"params": [model.table.weight], "names": ["table.weight"], "lr": 0.1, "initial_lr": 0.1, "weight_decay": decay}
        optimizers.append(spec.build([group]))
    shrinkage = Shrinkage(table, optimizers[1])
    for step in range(5):
        ids = torch.from_numpy(np.random.default_rng(step).choice([0, *OCCURRING], (4, 6)))
        for model, optimizer in zip((dense, sparse), optimizers, strict=True):
            optimizer.param_groups[0]["lr"] = 0.1 / (1 + step)
            weights = torch.arange(1.0, 1.0 + ids.numel() * 8).view(4, 6, 8).sin()
            (model.table(ids) * weights).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        shrinkage.updated(step)
    want, found = dense.table.weight.detach(), table.whole()

    def same(rows: torch.Tensor) -> bool:
        return torch.allclose(found[rows], want[rows], rtol=1e-5, atol=1e-6)

    assert same(table.occurring) == spec.by_weight
    if spec.by_weight:
        assert same(table.absent) == (spec.decoupled or not decay)


# What is read and kept


def test_evaluation_reads_every_token_and_training_only_those_that_occur(make: Make) -> None:
    dense, sparse = make("classify", engine=DENSE, **DECAYED), make("classify", **DECAYED)
    walked(sparse)
    dense[0].model.load_state_dict(sparse[0].model.state_dict())
    ids = torch.arange(0, 960).view(20, 48)
    for parts, _ in (dense, sparse):
        parts.model.eval()
    with torch.no_grad():
        assert torch.equal(*(parts.model(input_ids=ids).logits for parts, _ in (dense, sparse)))
    sparse[0].model.train()
    with pytest.raises(IndexError):
        sparse[0].model(input_ids=ids)


def test_the_model_gives_takes_and_saves_the_whole_table(make: Make, tmp_path: Path) -> None:
    parts, _ = made = make("continue", **DECAYED)
    walked(made)
    state = state_of(made)
    parts.recipe.method.save(parts.model, tmp_path / "saved", None)
    assert_same(transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "saved").state_dict(), state)
    other, _ = make("continue")
    other.model.load_state_dict(state)
    again = other.model.state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in state.items())


def test_a_table_that_encoder_and_decoder_share_stays_shared(tiny_t5: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = transformers.T5ForConditionalGeneration.from_pretrained(tiny_t5)
    model.lm_head.weight = nn.Parameter(torch.randn_like(model.lm_head.weight))  # as in T5 1.1
    plain = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ids = torch.tensor([[7, 8, 9, 1]])
    with torch.no_grad():
        want = model.eval()(input_ids=ids, labels=ids).loss
    table = sparse_embedding(model, [np.array([0, 1, 7, 8, 9])])
    assert isinstance(table, SparseTable)
    loss = model.train()(input_ids=ids, labels=ids).loss
    torch.testing.assert_close(loss, want)
    loss.backward()
    assert table.weight.grad is not None and table.weight.grad.shape == (5, 32) and table.weight.grad[2:].abs().min() > 0
    model.save_pretrained(tmp_path / "shared")
    opened = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "shared")
    assert all(torch.equal(tensor, plain[name]) for name, tensor in opened.state_dict().items())
    assert opened.encoder.embed_tokens.weight is opened.shared.weight is opened.decoder.embed_tokens.weight


def test_a_gradient_is_spread_over_the_whole_table_and_the_table_comes_back() -> None:
    dense, sparse, table = toys()
    ids = torch.tensor([[3, 5, 0, 17], [5, 5, 11, 0]])
    for model in (dense, sparse):
        model.table(ids).square().sum().backward()
    assert sparse.table.weight.grad is not None and dense.table.weight.grad is not None
    assert torch.equal(table.spread(sparse.table.weight.grad), dense.table.weight.grad)
    table.scale = 0.5
    whole = table.whole()
    assert torch.equal(whole[table.absent], 0.5 * dense.table.weight.detach()[table.absent])
    table.restore()
    assert torch.equal(sparse.table.weight, whole) and torch.equal(sparse.state_dict()["table.weight"], whole)
    assert torch.equal(sparse.table(torch.tensor([39])), whole[39:]) and vars(sparse.table).get("forward") is None


# Whole runs


def test_a_resumed_run_ends_with_the_very_same_weights(make: Make, tmp_path: Path) -> None:
    sections = {"train": {**TRAIN, "ema": 0.8}, **DECAYED}
    unbroken, first, second = (make("classify", **sections) for _ in range(3))
    walked(unbroken), walked(first, 0, 4)
    folder = RunFolder.create(tmp_path / "kept", "", False)
    checkpoint.save(folder, checkpoint.Trained(first[0].model, first[1].optimizer, first[1].techniques), Progress(step=4), 2)
    path = checkpoint.folder_of(folder, 4)
    table = table_of(first)
    assert len(load_file(path / "model.safetensors")[table.names[0]]) == len(table.occurring), "only what learns is written"
    checkpoint.load(path, checkpoint.Trained(second[0].model, second[1].optimizer, second[1].techniques))
    walked(second, 4, 8)
    for one, other in zip(state_of(unbroken).items(), state_of(second).items(), strict=True):
        assert one[0] == other[0] and torch.equal(one[1], other[1]), one[0]


def test_a_run_says_what_is_saved_and_ends_as_the_plain_one(models: dict[str, Path], tmp_path: Path) -> None:
    found = []
    for engine in (DENSE, SPARSE):
        train = {**TRAIN, "evaluate_every": "4st", "keep_best": "accuracy"}
        run = burnish.train({**recipe_of("classify", models["classify"], tmp_path, engine=engine, train=train, **DECAYED)}, overwrite=True)
        found.append((run.folder.read("plan.json"), run.metrics, run.model.state_dict()))
    (plain, metrics, weights), (plan, same, others) = found
    assert plan["parameters"] == plain["parameters"] and plan["groups"] == plain["groups"]
    assert [note for note in plan["notes"] if "rows occur in training" in note] and not [
        note for note in plain["notes"] if "rows occur" in note
    ]
    assert same["validation"] == pytest.approx(metrics["validation"], rel=1e-4)
    assert_same(others, weights)


# Where it cannot be


def test_reasons_of_the_model(tiny_bert: Path, tiny_t5: Path) -> None:
    few = [np.arange(9)]
    tied = transformers.AutoModelForMaskedLM.from_pretrained(tiny_bert)
    assert "tied to the output (Linear)" in str(sparse_embedding(tied, few))
    assert "tied to the output" in str(sparse_embedding(transformers.T5ForConditionalGeneration.from_pretrained(tiny_t5), few))
    model = transformers.AutoModel.from_pretrained(tiny_bert)
    rows = len(model.get_input_embeddings().weight)
    assert f"{rows // 2 + 1:,} of its {rows:,} rows occur" in str(sparse_embedding(model, [np.arange(rows // 2 + 1)]))
    model.get_input_embeddings().weight.requires_grad_(False)
    assert "does not learn" in str(sparse_embedding(model, few))
    scaled = transformers.BartConfig(
        vocab_size=30, d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=1, decoder_attention_heads=1
    )
    assert "a way of its own" in str(sparse_embedding(transformers.BartModel(scaled), few))


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ({"selective": {"l2": 0.1}}, "penalties"),
        ({"selective": {"l2_sp": {}}}, "penalties"),
        ({"optimizer": {"name": "adafactor"}}, "adafactor moves a weight by what others are"),
        ({"optimizer": {"name": "adam", "weight_decay": 0.1}}, "adam takes weight decay for a gradient"),
        ({"model": {"dtype": "bfloat16"}}, "rounding of 16 bits"),
    ],
)
def test_reasons_of_the_recipe_are_told(models: dict[str, Path], tmp_path: Path, sections: dict[str, Any], reason: str) -> None:
    made = {**recipe_of("classify", models["classify"], tmp_path, train=TRAIN), **sections}
    checked = recipes.load({**made, "model": {"name": str(models["classify"]), **sections.get("model", {})}})
    parts = build.assemble(checked, build.gather(checked), lambda message: None)
    make_step(parts, Course(2, 8))
    assert len(parts.savings) == 1 and reason in parts.savings[0]
    assert len(parts.model.get_input_embeddings().weight) == VOCABULARY  # type: ignore[operator]


def test_nothing_is_said_where_the_embeddings_do_not_learn(make: Make) -> None:
    assert make("classify", method="lora")[0].savings == []
