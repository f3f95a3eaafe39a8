"""Training above frozen blocks: the same losses, gradients and weights as through them, and only where that is so."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from burnish import build, recipe
from burnish.core.protocols import Batch
from burnish.engine.batches import Budget
from burnish.engine.memory import recompute_blocks, uncaching
from burnish.engine.step import Step
from burnish.models.blocks import anatomy
from burnish.models.dropout import Dropout, place_dropout
from burnish.models.fast import prefix as prefixes
from burnish.models.fast.passing import Passage
from burnish.models.fast.prefix import Feed, Prefix, Terms, frozen_prefix
from burnish.models.fast.store import Store
from burnish.models.frozen import frozen_blocks
from burnish.optim.groups import parameter_groups
from cases import recipe_of

pytestmark = pytest.mark.usefixtures("quick")
TERMS = Terms(redrawn=False, epochs=3.0, form="fp32")
EPOCHS, ROWS, BATCH = 3, 12, 4
THREES = Budget(3, "ex")
PADDED = {"engine": {"savings": {"unpadded": False, "trimmed": False}}}
WHOLE = {"engine": {"savings": {"trimmed": False}}}
CASES: dict[str, tuple[str, dict[str, Any], int, dict[str, Any]]] = {
    "bert freeze": ("classify", {"name": "freeze", "blocks": 2}, 2, {}),
    "bert freeze padded": ("classify", {"name": "freeze", "blocks": 2}, 2, PADDED),
    "bert head": ("classify", {"name": "head"}, 4, {}),
    "bert head padded": ("classify", {"name": "head"}, 4, PADDED),
    "bert head whole": ("classify", {"name": "head"}, 4, WHOLE),
    "bert words head": ("tag", {"name": "head"}, 4, {}),
    "bert lora": ("classify", {"name": "lora", "r": 4, "target": ["layer.2.attention.self.query", "layer.3.output.dense"]}, 2, {}),
    "llama freeze": ("chat", {"name": "freeze", "blocks": 3}, 3, {}),
    "llama freeze padded": ("continue", {"name": "freeze", "blocks": 1}, 1, PADDED),
    "t5 encoder": ("rewrite", {"name": "freeze", "blocks": 2}, 2, {}),
}


@pytest.fixture(autouse=True)
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "prefixes"


@pytest.fixture(scope="session")
def deep_models(tiny_bert: Path, tiny_llama: Path, tiny_t5: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models of four blocks that drop values, with weights of every size."""
    found = {"tiny_t5": tiny_t5}
    sizes = {"num_hidden_layers": 4, "hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.1, "attention_dropout": 0.1}
    for name, source in (("tiny_bert", tiny_bert), ("tiny_llama", tiny_llama)):
        folder = found[name] = tmp_path_factory.mktemp("deep") / name
        config = transformers.AutoConfig.from_pretrained(source)
        config.update({key: value for key, value in sizes.items() if hasattr(config, key)})
        torch.manual_seed(1)
        kind = transformers.AutoModel if name == "tiny_bert" else transformers.AutoModelForCausalLM
        model = kind.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        model.save_pretrained(folder)
        transformers.AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return found


@pytest.fixture
def make_parts(deep_models: dict[str, Path], tmp_path: Path) -> Callable[..., build.Parts]:
    def make(task: str, method: dict[str, Any], **sections: Any) -> build.Parts:
        model = deep_models[{"chat": "tiny_llama", "continue": "tiny_llama", "rewrite": "tiny_t5"}.get(task, "tiny_bert")]
        checked = recipe.load({**recipe_of(task, model, tmp_path), "method": method, **sections})
        return build.assemble(checked, build.gather(checked), lambda message: None)

    return make


def feed_of(parts: build.Parts) -> Feed:
    learner, examples = parts.learner, parts.examples["train"]

    def losses(batch: Batch) -> torch.Tensor:
        with uncaching(parts.model):
            return learner.losses(parts.model, batch)

    def forward(batch: Batch) -> Any:
        with uncaching(parts.model):
            return learner.forward(parts.model, batch)

    return Feed(examples, lambda indices: learner.collate(examples, indices, (0, 0)), forward, losses)


def found(parts: build.Parts, terms: Terms = TERMS) -> Prefix | str:
    return frozen_prefix(parts.model, parts.anatomy, parts.fast.passage, feed_of(parts), terms)


def prefixed(parts: build.Parts, terms: Terms = TERMS) -> Prefix:
    made = found(parts, terms)
    assert isinstance(made, Prefix), made
    made.fill()
    return made


def trained(parts: build.Parts, budget: Budget = THREES) -> tuple[list[float], Any]:
    """Losses and gradient norms of three epochs, each in another order, and the weights after them."""
    optimizer = parts.recipe.optimizer.build(parameter_groups(parts.model, 3e-3, 0.01))
    step = Step(
        parts.model,
        parts.learner,
        parts.examples["train"],
        optimizer,
        parts.runtime,
        budget,
        passing=parts.fast.passage.of,
        max_grad_norm=1.0,
    )
    numbers = []
    for number in range(EPOCHS * ROWS // BATCH):
        epoch, place = divmod(number, ROWS // BATCH)
        order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(epoch)).tolist()
        outcome = step(order[place * BATCH : (place + 1) * BATCH], number, 1.0)
        numbers += [outcome.loss, outcome.grad_norm]
    return numbers, {name: parameter.detach().clone() for name, parameter in parts.model.named_parameters()}


def assert_same(got: tuple[list[float], Any], wanted: tuple[list[float], Any], tolerance: float = 2e-5) -> None:
    assert got[0] == pytest.approx(wanted[0], rel=tolerance)
    for name, weight in wanted[1].items():
        torch.testing.assert_close(got[1][name], weight, rtol=tolerance, atol=tolerance)


def runs(parts: build.Parts, block: int) -> list[int]:
    """Counts what goes through the first linear layer of a block."""
    inner: Any = parts.model
    inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
    module = inner.get_submodule(parts.anatomy.block_modules[block])
    linear = next(child for child in module.modules() if isinstance(child, torch.nn.Linear))
    calls: list[int] = []
    linear.register_forward_hook(lambda *arguments: calls.append(1))
    return calls


@pytest.mark.parametrize("case", CASES)
def test_three_epochs_above_frozen_blocks_are_those_through_them(make_parts: Callable[..., build.Parts], case: str) -> None:
    task, method, blocks, sections = CASES[case]
    wanted = trained(make_parts(task, method, **sections))
    parts = make_parts(task, method, **sections)
    made = prefixed(parts)
    below, above = runs(parts, 0), runs(parts, blocks) if blocks < len(parts.anatomy.block_modules) else [1]
    got = trained(parts)
    assert_same(got, wanted)
    assert not below and above, "frozen blocks are not computed, others are"
    assert made.notes()[0].startswith("all blocks" if made.replay.whole else f"blocks 1 to {blocks} of {len(parts.anatomy.blocks)}")


@pytest.mark.parametrize("budget", [Budget(1, "ex"), Budget(4, "ex"), Budget(40)])
def test_it_does_not_matter_how_a_batch_is_cut(make_parts: Callable[..., build.Parts], budget: Budget) -> None:
    settings = {"dropout": {"all": 0.0}}
    wanted = trained(make_parts("classify", {"name": "freeze", "blocks": 2}, **settings))
    parts = make_parts("classify", {"name": "freeze", "blocks": 2}, **settings)
    prefixed(parts)
    assert_same(trained(parts, budget), wanted)


def test_blocks_that_are_computed_again_in_backward_stand_above_it(make_parts: Callable[..., build.Parts]) -> None:
    method = {"name": "freeze", "blocks": 2}
    wanted = trained(make_parts("classify", method))
    parts = make_parts("classify", method)
    recompute_blocks(parts.model, parts.anatomy.block_modules, 1)
    prefixed(parts)
    assert_same(trained(parts), wanted)


def test_evaluation_goes_through_all_blocks(make_parts: Callable[..., build.Parts]) -> None:
    parts = make_parts("classify", {"name": "freeze", "blocks": 2})
    batch = feed_of(parts).collate([0, 1, 2])

    def outputs(training: bool) -> torch.Tensor:
        parts.model.train(training)
        with torch.no_grad(), parts.fast.passage.of(batch, [0, 1, 2], (0, 0)):
            torch.manual_seed(0)
            return parts.learner.forward(parts.model, batch).logits.clone()

    evaluated, trained_ = outputs(False), outputs(True)
    made = prefixed(parts)
    assert made.replay.store is not None
    made.replay.store = replace(made.replay.store, rows=made.replay.store.rows.detach().clone() + 1)
    assert torch.equal(outputs(False), evaluated)
    assert not torch.allclose(outputs(True), trained_), "what was kept is what training sees"


def test_only_rows_that_the_head_reads_are_kept_and_serve_passes_with_room_for_all(make_parts: Callable[..., build.Parts]) -> None:
    parts = make_parts("classify", {"name": "head"})
    store = prefixed(parts).replay.store
    assert store is not None and len(store.rows) == ROWS and store.counts.tolist() == [1] * ROWS
    plain = make_parts("classify", {"name": "head"}, **PADDED)
    made = found(plain)
    assert isinstance(made, Prefix)
    made.replay.store = store
    assert_same(trained(plain), trained(make_parts("classify", {"name": "head"}, **PADDED)))


def test_what_is_kept_is_the_same_whoever_computes_it(
    make_parts: Callable[..., build.Parts], shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later runs and seeds begin above it; where the disk refuses, memory holds the same bits."""
    method = {"name": "freeze", "blocks": 2}
    first = prefixed(make_parts("classify", method)).replay.store
    other = make_parts("classify", method, train={"seed": 7, "batch_size": 4, "device": "cpu"})
    below = runs(other, 0)
    again = found(other)
    assert isinstance(again, Prefix)
    below.clear()
    told: list[Any] = []
    again.fill(lambda *what: told.append(what))
    assert not below and not told and "earlier run" in again.notes()[0]
    monkeypatch.setattr(prefixes.shelf, "making", lambda *arguments: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    (shelf / again.folder.name / "rows.bin").unlink()
    third = found(make_parts("classify", method))
    assert isinstance(third, Prefix)
    third.fill(lambda *what: told.append(what))
    assert told[-1] == ("examples through the frozen blocks", ROWS, ROWS)
    for store in (again.replay.store, third.replay.store):
        assert first is not None and store is not None
        assert torch.equal(store.taken([5, 0, 3])[0], first.taken([5, 0, 3])[0])
    assert isinstance(third, Prefix) and "once" in third.notes()[0]


def test_the_name_of_what_is_kept_holds_all_that_it_depends_on(make_parts: Callable[..., build.Parts]) -> None:
    def name(method: dict[str, Any] | None = None, form: str = "fp32", change: Callable[[build.Parts], Any] = lambda parts: None) -> str:
        parts = make_parts("classify", method or {"name": "freeze", "blocks": 2})
        change(parts)
        made = found(parts, replace(TERMS, form=form))
        assert isinstance(made, Prefix), made
        return made.folder.name

    def shift(parameter: str) -> Callable[[build.Parts], Any]:
        return lambda parts: parts.model.get_parameter(parameter).data.add_(0.01)

    def reword(parts: build.Parts) -> None:
        ids = parts.examples["train"].inputs["input_ids"]
        values = ids.values.copy()
        values[1] += 1
        parts.examples["train"].inputs["input_ids"] = replace(ids, values=values)

    layer = "bert.encoder.layer.{}.output.dense.weight"
    assert name() == name() == name(change=shift(layer.format(3))), "what stands above does not matter"
    others = [name(form="bf16"), name({"name": "freeze", "blocks": 1}), name({"name": "head"}), name(change=reword)]
    others += [name(change=shift(layer.format(1))), name(change=shift("bert.embeddings.LayerNorm.bias"))]
    assert len({name(), *others}) == 1 + len(others)


def test_a_damaged_store_is_made_again(make_parts: Callable[..., build.Parts]) -> None:
    made = prefixed(make_parts("classify", {"name": "freeze", "blocks": 2}))
    for victim in ("rows.bin", "index.npz", "meta.json"):
        os.truncate(made.folder / victim, (made.folder / victim).stat().st_size // 2)
        assert Store.opened(made.folder) is None
        again = prefixed(make_parts("classify", {"name": "freeze", "blocks": 2}))
        assert not again.before and Store.opened(made.folder) is not None


def test_what_has_no_room_is_not_kept(make_parts: Callable[..., build.Parts], monkeypatch: pytest.MonkeyPatch) -> None:
    method = {"name": "freeze", "blocks": 2}
    made = found(make_parts("classify", method))
    assert isinstance(made, Prefix)
    monkeypatch.setattr(prefixes, "room_on_disk", lambda folder: 10)
    monkeypatch.setattr(prefixes, "free_memory", lambda: 40)
    reason = found(make_parts("classify", method))
    assert isinstance(reason, str) and "room for 0 MB" in reason
    made.fill()
    assert made.replay.store is None and "no room" in made.notes()[0]


REFUSED: dict[str, tuple[str, dict[str, Any], dict[str, Any], Terms, str]] = {
    "all learns": ("classify", {"name": "full"}, {}, TERMS, "no block at the bottom is frozen"),
    "adapters everywhere": ("classify", {"name": "lora", "r": 2}, {}, TERMS, "no block at the bottom is frozen"),
    "unfreezing": ("classify", {"name": "unfreeze"}, {}, TERMS, "no block at the bottom is frozen"),
    "other words": ("fill", {"name": "freeze", "blocks": 2}, {}, replace(TERMS, redrawn=True), "change from step to step"),
    "dropout": ("classify", {"name": "freeze", "blocks": 2}, {"dropout": {"frozen": True}}, TERMS, "dropout.frozen"),
    "short run": ("classify", {"name": "freeze", "blocks": 2}, {}, replace(TERMS, epochs=0.5), "less than all rows once"),
    "half an encoder of t5": ("rewrite", {"name": "freeze", "blocks": 1}, {}, TERMS, "more than"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_reason_is_given_where_it_would_be_wrong_and_nothing_is_left(make_parts: Callable[..., build.Parts], case: str) -> None:
    task, method, sections, terms, reason = REFUSED[case]
    parts = make_parts(task, method, **sections)
    said = found(parts, terms)
    assert isinstance(said, str) and reason in said
    assert "Kept" not in {type(vars(module).get("forward")).__name__ for module in parts.model.modules()}


def test_losses_that_look_into_frozen_blocks_refuse_it(make_parts: Callable[..., build.Parts]) -> None:
    parts = make_parts("classify", {"name": "freeze", "blocks": 3})

    def losses(batch: Batch) -> torch.Tensor:
        hidden = parts.learner.forward(parts.model, batch, output_hidden_states=True).hidden_states
        return hidden[looked_at].square().mean(dim=(1, 2))

    feed = replace(feed_of(parts), losses=losses)
    looked_at = 1
    said = frozen_prefix(parts.model, parts.anatomy, parts.fast.passage, feed, TERMS)
    assert isinstance(said, str) and "looks at more" in said


def test_noise_that_nothing_names_refuses_it(make_parts: Callable[..., build.Parts]) -> None:
    parts = make_parts("classify", {"name": "freeze", "blocks": 2})
    embeddings = parts.model.get_submodule("bert.embeddings")
    embeddings.register_forward_hook(lambda module, inputs, output: output + 0.1 * torch.randn_like(output))
    assert "at random" in str(found(parts))


def test_blocks_that_share_their_weights_refuse_it(
    deep_models: dict[str, Path], make_parts: Callable[..., build.Parts], tmp_path: Path
) -> None:
    """ALBERT runs one and the same block again and again."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(deep_models["tiny_bert"])
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64, "embedding_size": 16}
    transformers.AlbertModel(transformers.AlbertConfig(vocab_size=len(tokenizer), pad_token_id=0, **sizes)).save_pretrained(
        tmp_path / "albert"
    )
    tokenizer.save_pretrained(tmp_path / "albert")
    parts = make_parts("classify", {"name": "head"}, model=str(tmp_path / "albert"))
    assert frozen_blocks(parts.model, parts.anatomy) == 1 and "ran 3 times" in str(found(parts))


def test_layers_left_out_at_random_refuse_it(make_parts: Callable[..., build.Parts]) -> None:
    parts = make_parts("classify", {"name": "freeze", "blocks": 2})
    config: Any = parts.model.config
    config.layerdrop = 0.1
    assert "layerdrop" in str(found(parts))


# Dropout where nothing learns


def switches(parts: build.Parts) -> set[tuple[str, int | None]]:
    return {(switch.place, switch.block) for switch in parts.dropouts.switches}


def test_frozen_blocks_drop_nothing_unless_the_recipe_says_so(make_parts: Callable[..., build.Parts]) -> None:
    def prefix_rows(**sections: Any) -> list[torch.Tensor]:
        parts = make_parts("classify", {"name": "freeze", "blocks": 2}, **sections)
        rows: list[torch.Tensor] = []
        parts.model.get_submodule("bert.encoder.layer.1").register_forward_hook(lambda module, inputs, output: rows.append(output))
        batch = feed_of(parts).collate([0, 1])
        for mode, seed in ((False, 0), (True, 0), (True, 1)):
            parts.model.train(mode)
            torch.manual_seed(seed)
            parts.model(**batch.inputs)
        return rows

    evaluated, one, another = prefix_rows()
    assert torch.equal(one, evaluated) and torch.equal(another, evaluated)
    evaluated, one, another = prefix_rows(dropout={"frozen": True})
    assert not torch.equal(one, evaluated) and not torch.equal(one, another)


def test_what_turns_dropout_finds_that_of_what_learns_alone(make_parts: Callable[..., build.Parts]) -> None:
    learning = switches(make_parts("classify", {"name": "freeze", "blocks": 2}))
    everywhere = switches(make_parts("classify", {"name": "freeze", "blocks": 2}, dropout={"frozen": True}))
    assert {block for _, block in learning} == {2, 3, None} and ("embeddings", None) not in learning
    assert {block for _, block in everywhere} == {0, 1, 2, 3, None} and ("embeddings", None) in everywhere
    assert switches(make_parts("classify", {"name": "full"})) == everywhere
    assert switches(make_parts("classify", {"name": "freeze", "blocks": 2, "embeddings": False})) == everywhere
    assert switches(make_parts("classify", {"name": "unfreeze"})) == everywhere


def test_a_decoder_above_a_frozen_encoder_keeps_its_dropout() -> None:
    sizes = {
        f"{stack}_{field}": value
        for stack in ("encoder", "decoder")
        for field, value in {"layers": 2, "attention_heads": 2, "ffn_dim": 32}.items()
    }
    model = transformers.BartForConditionalGeneration(transformers.BartConfig(d_model=16, vocab_size=40, dropout=0.3, **sizes))
    parts = anatomy(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("model.decoder.layers"))
    assert frozen_blocks(model, parts) == 2
    left = place_dropout(model, parts, Dropout()).switches
    model.train()
    assert model.model.encoder.dropout == 0.0 and model.model.decoder.dropout == 0.3
    assert not model.model.encoder.layers[0].training and model.model.decoder.layers[0].training
    assert {switch.block for switch in left} == {2, 3, None}


def test_a_pass_that_is_not_announced_goes_through_all_blocks(make_parts: Callable[..., build.Parts]) -> None:
    parts = make_parts("classify", {"name": "freeze", "blocks": 2})
    prefixed(parts)
    below = runs(parts, 0)
    parts.model.train()
    parts.model(**feed_of(parts).collate([0, 1]).inputs)
    assert below and isinstance(parts.fast.passage, Passage)
