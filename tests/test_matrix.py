"""Every method under every technique on every task: each combination runs, or is refused with the reason.

A combination that runs has trained two steps to finite losses, kept its model, and predicts after loading it. One that is refused says
so in a BurnishError that `REFUSED` expects; anything else is a fault. The quick suite takes a sample in which each pair of task and
method and each pair of task and technique comes up in time; `make matrix` takes them all and counts.
"""

from __future__ import annotations

import copy
import itertools
import math
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

import burnish
from burnish.core import registry
from burnish.core.errors import BurnishError
from burnish.recipe import Recipe
from cases import CASES, recipe_of

pytestmark = pytest.mark.usefixtures("quick")

Sections = dict[str, Any]

assert Recipe.model_fields, "the recipe's import is what fills the registry"

METHODS: dict[str, Any] = {name: {"name": name} for name in registry.specs("method")} | {
    "freeze": {"name": "freeze", "blocks": 1},
    "pfeiffer": {"name": "adapters", "kind": "pfeiffer"},
}

TECHNIQUES: dict[str, Sections] = {
    "none": {},
    **{f"optimizer {name}": {"optimizer": {"name": name, "lr": 1e-3}} for name in registry.specs("optimizer")},
    **{f"schedule {name}": {"schedule": {"name": name}} for name in ("cosine", "wsd", "plateau")},
    "smoothing": {"loss": {"smoothing": 0.1}},
    "focal": {"loss": {"name": "focal"}},
    "class weights": {"loss": {"class_weights": "balanced"}},
    "oversampling": {"data": {"balance": "oversample"}},
    "undersampling": {"data": {"balance": "undersample"}},
    "even batches": {"data": {"balance": "batches"}},
    "like lengths": {"data": {"order": "length"}},
    "curriculum": {"data": {"order": {"name": "curriculum", "by": "length"}}},
    "augmentation": {"data": {"augment": {"share": 1.0, "steps": ["swap", "delete"]}}},
    "layer decay": {"selective": {"layer_decay": 0.9}},
    "penalties": {"selective": {"l1": 1e-4, "l2": 1e-4}},
    "starting point": {"selective": {"l2_sp": {"alpha": 0.01, "beta": 0.01}}},
    "dropout": {"dropout": {"head": 0.2, "attention": 0.1, "feed_forward": 0.1}},
    "control": {"control": {"name": "dynamic"}},
    "average": {"train": {"ema": 0.9}},
    "bf16": {"train": {"precision": "bf16"}},
    "pure bf16": {"model": {"dtype": "bfloat16"}},
    "fp16": {"train": {"precision": "fp16"}},
    "recomputed blocks": {"train": {"checkpoint_blocks": 1}},
    "offload": {"train": {"offload": ["activations", "optimizer"]}},
    "in backward": {"train": {"in_backward": True, "max_grad_norm": None, "micro_batch": 64}},
    "nf4": {"model": {"quantize": "nf4"}},
    "int8": {"model": {"quantize": "int8"}},
    "fewer layers": {"model": {"layers": 1}},
    "distillation": {"distill": {"temperature": 2.0, "weight": 0.5}},
}

OWN = "full|freeze|bitfit|norms|unfreeze"
"""Methods that train some of the model's own parameters below its head."""
PRETRAINED = "full|freeze|bitfit|norms|unfreeze|head"
"""Methods under which pretrained values learn in place, where the task puts no fresh head on the model."""
VIRTUAL = "prompt_tuning|p_tuning|prefix_tuning"

REFUSED: list[tuple[str, str, str, str]] = [
    ("(?!chat).*", "tokens", ".*", "this task adds nothing"),
    ("continue|chat|rewrite", "bitfit", ".*", "has none"),
    ("fill", VIRTUAL, ".*", "no virtual tokens"),
    ("(?!classify|tag).*", ".*", "class weights", "class_weights"),
    ("(?!classify).*", ".*", "oversampling|undersampling|even batches", "balanced by their label"),
    (".*", f"{OWN}|pissa", "nf4|int8", "changes the pretrained weights"),
    (".*", "dora", "int8", "computes with them"),
    (".*", "loha|lokr", "nf4", "computes with them"),
    ("(?!classify).*", f"(?!{PRETRAINED}).*", "starting point", "no pretrained parameter learns"),
    ("tag|answer|fill", "head", "starting point", "no pretrained parameter learns"),
    ("continue|chat|rewrite", "norms|ln_tuning", "penalties", "only biases and norms learn"),
    ("continue|chat|rewrite", "head", "penalties", "only biases and norms learn"),
    (".*", "prefix_tuning", "recomputed blocks", "a cache that is written once"),
    ("chat", "tokens", "distillation", "into other tokens than the student"),
    (".*", "adalora", "in backward", "needs them all"),
]
"""(task, method, technique, what the refusal says), each but the last a pattern of the whole name."""

TEMPLATE = "{% for m in messages %}{{ m.content }}{{ eos_token if m.role == 'assistant' else ':' }}{% endfor %}"

Combination = tuple[str, str, str]


def expected(combination: Combination) -> list[str]:
    """What a refusal of the combination may say; nothing where it has to run."""
    return [line[3] for line in REFUSED if all(re.fullmatch(pattern, name) for pattern, name in zip(line, combination, strict=False))]


class Bench:
    """Makes and runs combinations in a folder, with one teacher a task."""

    def __init__(self, models: dict[str, Path], folder: Path) -> None:
        self.models, self.folder = models, folder
        self.teachers: dict[str, str] = {}

    def recipe(self, combination: Combination, run: str) -> Sections:
        task, method, technique = combination
        recipe = recipe_of(task, self.models[CASES[task].model], self.folder, method=copy.deepcopy(METHODS[method]))
        recipe |= {"model": {"name": recipe["model"]}, "run": str(self.folder / run)}
        if task == "chat" and method != "tokens":  # a template of its own spares it added tokens, which few methods can train
            recipe["model"]["name"] = str(self.models["templated"])
        recipe["train"] |= {"duration": "2st", "batch_size": 4, "save_every": "9st"}
        recipe["data"] |= {"limit": 8, "max_length": 40}
        if "generation" in recipe["task"]:
            recipe["task"] |= {"generation": {"samples": 1, "max_new_tokens": 2}}
        for section, fields in TECHNIQUES[technique].items():
            recipe[section] = {**recipe.get(section, {}), **fields} if isinstance(fields, dict) and section != "optimizer" else fields
        if technique == "distillation":
            recipe["distill"]["teacher"] = self.teacher(task)
        return recipe

    def teacher(self, task: str) -> str:
        if task not in self.teachers:
            run = burnish.train(self.recipe((task, "full", "none"), f"teacher-{task}"), overwrite=True)
            self.teachers[task] = str(run.path)
        return self.teachers[task]

    def outcome(self, combination: Combination) -> str:
        """`ran`, or why it was refused. Raises AssertionError for whatever is neither."""
        try:
            run = burnish.train(self.recipe(combination, "run"), overwrite=True)
        except BurnishError as error:
            said = str(error)
            assert any(re.search(pattern, said) for pattern in expected(combination)), f"{combination} was refused: {said}"
            return said
        assert not expected(combination), f"{combination} ran, although it should be refused"
        losses = [line["loss"] for line in run.folder.read_metrics() if line["kind"] == "step"]
        assert len(losses) == 2 and all(map(math.isfinite, losses)), f"{combination}: losses {losses}"
        assert len(burnish.load(run.path).predict([CASES[combination[0]].asked])) == 1, f"{combination} predicts"
        return "ran"


@pytest.fixture(scope="session")
def bench(tiny_bert: Path, tiny_llama: Path, tiny_t5: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("matrix")
    tokenizer = AutoTokenizer.from_pretrained(shutil.copytree(tiny_llama, folder / "templated"))
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder / "templated")
    return Bench({"tiny_bert": tiny_bert, "tiny_llama": tiny_llama, "tiny_t5": tiny_t5, "templated": folder / "templated"}, folder)


def sample() -> Iterator[Combination]:
    """Each method once and each technique twice, the tasks in turn."""
    tasks = itertools.cycle(sorted(CASES))
    for method in METHODS:
        yield next(tasks), method, "none"
    methods = itertools.cycle(["full", "lora", "adapters", "freeze"])
    for technique in TECHNIQUES:
        yield next(tasks), next(methods), technique
        yield next(tasks), "lora", technique


@pytest.mark.parametrize("combination", list(dict.fromkeys(sample())), ids="-".join)
def test_a_combination_runs_or_is_refused_with_the_reason(combination: Combination, bench: Bench) -> None:
    bench.outcome(combination)


@pytest.mark.slow
@pytest.mark.parametrize("task", sorted(CASES))
def test_every_combination_runs_or_is_refused_with_the_reason(task: str, bench: Bench) -> None:
    faults, outcomes = [], Counter[str]()
    for method, technique in itertools.product(METHODS, TECHNIQUES):
        try:
            said = bench.outcome((task, method, technique))
        except Exception as error:  # every fault of the table is wanted, not the first
            faults.append(f"{task}, {method}, {technique}: {type(error).__name__}: {error}")
        else:
            outcomes["ran" if said == "ran" else "refused"] += 1
    print(f"\n{task}: {outcomes['ran']} ran, {outcomes['refused']} refused, {len(faults)} faults")
    assert not faults, "\n".join(faults)
