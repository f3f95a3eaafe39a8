"""Which systems a comparison has, what they are called, and when it is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from burnish.core.errors import BurnishError
from burnish.experiment.compare.plan import planned
from burnish.experiment.compare.systems import axis, files_of_test, seeds_of, systems

Write = Callable[..., Path]


@pytest.fixture
def write(tiny_bert: Path, rows_csv: Path, tmp_path: Path) -> Write:
    """Writes a recipe file; sections given replace single keys."""

    def made(name: str = "base", **sections: object) -> Path:
        raw: dict[str, object] = {
            "model": str(tiny_bert),
            "task": {"name": "classify"},
            "data": {"train": str(rows_csv), "validation": "25%"},
        }
        for key, value in sections.items():
            raw[key] = {**raw.get(key, {}), **value} if isinstance(value, dict) and isinstance(raw.get(key, {}), dict) else value  # type: ignore[dict-item]
        path = tmp_path / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(raw), encoding="utf-8")
        return path

    return made


def names(sources: list[Path], *vary: str) -> list[str]:
    return [system.name for system in systems(sources, vary)]


def test_values_are_cut_at_commas_outside_of_brackets_and_quotes() -> None:
    assert axis("method=full,{name: lora, r: 8}") == ("method", ["full", "{name: lora, r: 8}"])
    assert axis("train.seed=[1, 2],'a,b'") == ("train.seed", ["[1, 2]", "'a,b'"])
    for text in ("method", "method=", "=full", "method=full,", "method=full,full", "method=full,{name: lora"):
        with pytest.raises(BurnishError):
            axis(text)


def test_systems_are_named_by_what_varies(write: Write) -> None:
    base = write()
    assert names([base], "method=full,{name: lora, r: 4},freeze") == ["full", "lora r=4", "freeze"]
    assert names([base], "method=head,full", "model.from_scratch=true,false") == [
        "head from_scratch=true",
        "head from_scratch=false",
        "full from_scratch=true",
        "full from_scratch=false",
    ]
    assert names([base], "optimizer.lr=1e-3,1e-4") == ["lr=1e-3", "lr=1e-4"]


def test_several_recipes_are_named_by_their_files(write: Write) -> None:
    first, second = write("first"), write("second", method="head")
    assert names([first, second]) == ["first", "second"]
    assert names([first, second], "optimizer.lr=1e-3,1e-4")[2] == "second lr=1e-3"
    assert names([write("x/same"), write("y/same", method="head")]) == ["x/same", "y/same"]


def test_seeds() -> None:
    assert seeds_of("3") == [0, 1, 2] and seeds_of("0,3,7") == [0, 3, 7] and seeds_of("7,") == [7]
    for text in ("0", "x", "1,1", "", "-1", "2.5", ","):
        with pytest.raises(BurnishError, match="--seeds"):
            seeds_of(text)


@pytest.mark.parametrize(
    ("vary", "overrides", "said"),
    [
        ([], [], "needs two systems"),
        (["method=full"], [], "needs two systems"),
        (["method=full,lroa"], [], "there is no `lroa` - did you mean `lora`"),
        (["method=full,{name: full}"], [], "are the same"),
        (["train.seed=0,1"], [], "--seeds says which"),
        (["method=full,head"], ["run=x"], "its own folder"),
        (["method=full,head", "method=lora,ia3"], [], "twice"),
        (["method=full,head"], ["trian.seed=1"], "`trian` is unknown"),
    ],
)
def test_what_cannot_be_a_comparison_is_refused(write: Write, vary: list[str], overrides: list[str], said: str) -> None:
    with pytest.raises(BurnishError, match=said):
        systems([write()], vary, overrides)


def test_every_fault_of_every_recipe_is_told_at_once(write: Write) -> None:
    with pytest.raises(BurnishError) as caught:
        systems([write("a", train={"batch_size": 0}), write("b", optimizer={"name": "adma"})])
    assert "a: `train.batch_size`" in str(caught.value) and "b: `optimizer`" in str(caught.value)


def test_an_unfair_comparison_is_refused_or_told(write: Write, rows_csv: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text(rows_csv.read_text() + "One parcel more,praise\n", encoding="utf-8")
    copy = tmp_path / "copy.csv"
    copy.write_bytes(rows_csv.read_bytes())
    files = {"train": str(rows_csv), "validation": "25%"}
    base = write("base", data={**files, "test": str(rows_csv)})
    with pytest.raises(BurnishError, match="their test rows differ"):
        planned([base, write("b", data={**files, "test": str(other)})])
    with pytest.raises(BurnishError, match="their tasks differ"):
        planned([base, write("c", task={"name": "fill"})])
    with pytest.raises(BurnishError, match="neither test nor validation rows"):
        planned([write("d", data={"validation": None})], ["method=full,head"])
    with pytest.raises(BurnishError, match="by different metrics"):
        planned([write("e", train={"keep_best": "accuracy"}), write("f", train={"keep_best": "macro_f1"})])
    same = planned([base, write("g", method="head", data={**files, "test": str(copy)})])
    assert same.part == "test" and same.warnings == []
    assert files_of_test(same.systems) == [str(rows_csv), str(copy)]
    assert any("learn from different rows" in warning for warning in planned([base], ["data.limit=8,16"]).warnings)
    assert any("no test rows" in warning for warning in planned([write("h")], ["method=full,head"]).warnings)


def test_baseline_and_metric_have_to_be_known(write: Write) -> None:
    vary = ["method=full,head"]
    plan = planned([write()], vary, baseline="head", metric="macro_f1")
    assert (plan.baseline, plan.metric, plan.higher, plan.part) == ("head", "macro_f1", True, "validation")
    assert planned([write("b", train={"keep_best": "mcc"})], vary).metric == "mcc" and planned([write()], vary).metric == "accuracy"
    with pytest.raises(BurnishError, match="did you mean `head`"):
        planned([write()], vary, baseline="haed")
    with pytest.raises(BurnishError, match="did you mean `accuracy`"):
        planned([write()], vary, metric="acuracy")


def test_the_same_command_has_the_same_folder_with_more_seeds_too_and_another_has_another(write: Write, tmp_path: Path) -> None:
    from burnish.core.rundir import RunFolder

    plan = planned([write()], ["method=full,head"], seeds="1")
    folder = plan.folder(None, tmp_path / "runs")
    assert folder.name == "compare-base-method-1"
    folder.mkdir(parents=True)
    RunFolder(folder).write("comparison.json", {"key": plan.key})
    assert planned([write()], ["method=full,head"], seeds="5").folder(None, tmp_path / "runs") == folder
    assert planned([write()], ["method=full,bitfit"]).folder(None, tmp_path / "runs").name == "compare-base-method-2"
