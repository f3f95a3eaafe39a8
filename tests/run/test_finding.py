"""`burnish find-lr`: on the training rows alone, with nothing left behind, as training would go."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

import burnish
from burnish.core.errors import BurnishError, RunError
from burnish.core.rates import RangeTest
from burnish.engine.step import Step
from burnish.run import find_lr
from burnish.terminal import show_rates
from burnish.terminal.plot import plot


def test_it_makes_the_updates_that_training_would_at_these_rates(recipe: Callable[..., dict[str, Any]]) -> None:
    """At one rate throughout, the losses are those of a run with a constant schedule."""
    run = burnish.train(recipe(schedule="constant", optimizer={"lr": 0.01}, train={"duration": "6st"}))
    trained = [line["loss"] for line in run.folder.read_metrics() if line["kind"] == "step"]
    found = find_lr(recipe("other", optimizer={"lr": 0.3}), lr_min=0.01, lr_max=0.010000001, steps=6)
    assert found.losses == pytest.approx(trained, rel=1e-5) and len(trained) == 6
    assert not Path(recipe("other")["run"]).exists()


def test_a_learnable_task_gets_a_suggestion_with_which_it_learns(recipe: Callable[..., dict[str, Any]]) -> None:
    found = find_lr(recipe(), lr_min=1e-5, lr_max=1.0, steps=60)
    assert found.suggestion is not None and 1e-4 < found.suggestion < 0.1
    run = burnish.train(recipe(optimizer={"lr": found.suggestion}, train={"duration": "12ep"}))
    assert run.metrics["validation"]["accuracy"] > 0.8


@pytest.mark.parametrize("method", ["lora", "head"])
def test_it_goes_with_methods_and_ways_to_spare_memory(method: str, recipe: Callable[..., dict[str, Any]]) -> None:
    spared = {"checkpoint_blocks": 1, "in_backward": True, "max_grad_norm": None}
    found = find_lr(recipe(method=method, train=spared), steps=8, lr_max=0.1)
    assert len(found.losses) == 8
    assert find_lr(recipe(method=method, train={"max_grad_norm": None, "micro_batch": 8}), steps=8, lr_max=0.1).losses == found.losses


def test_validation_and_test_take_no_part(recipe: Callable[..., dict[str, Any]], rows_csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = rows_csv.with_name("watched.csv")
    watched.write_text(rows_csv.read_text())
    opened: list[str] = []
    from burnish import build

    usable = build.usable_rows
    monkeypatch.setattr(build, "usable_rows", lambda recipe, source, *rest: opened.append(str(source)) or usable(recipe, source, *rest))
    files = {"validation": str(watched), "test": str(watched)}
    whole = find_lr(recipe(data=files, train={"keep_best": "accuracy"}), steps=5)
    assert opened == [str(rows_csv)]
    none = recipe()
    del none["data"]["validation"]
    assert find_lr(none, steps=5).losses == whole.losses
    assert find_lr(recipe(), steps=5).losses != whole.losses, "a share is cut from the rows, as in training"


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"lr_min": 0.0}, "positive"), ({"lr_min": 1e-2, "lr_max": 1e-3}, "does not"), ({"steps": 3}, "at least 5")],
)
def test_what_makes_no_curve_is_refused(options: dict[str, Any], reason: str, recipe: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(BurnishError, match=reason):
        find_lr(recipe(), **options)


def test_memory_that_runs_out_is_told_as_in_training(recipe: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*parts: Any) -> Any:
        raise MemoryError("Out of memory at step 1 with a single example in the model.")

    monkeypatch.setattr(Step, "accumulated", short)
    with pytest.raises(RunError, match="Out of memory at step 1 with a single example"):
        find_lr(recipe(), steps=5)


def test_the_command_draws_the_curve_and_writes_a_page(
    recipe: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from burnish.cli import app

    path, page = tmp_path / "tried.yaml", tmp_path / "pages" / "lr.html"
    path.write_text(yaml.safe_dump(recipe()))
    before = sorted(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    options = ["--min", "1e-5", "--max", "1", "--steps", "40", "--html", str(page)]
    app(["find-lr", str(path), "train.batch_size=4", *options], standalone_mode=False)
    said = capsys.readouterr().out
    assert "suggested: optimizer.lr=" in said and " |" in said and "1e-05" in said and f"page: {page}" in said
    text = page.read_text()
    assert (
        "<svg" in text and "Learning rates for tried" in text and "suggested: optimizer.lr=" in text and "http" not in text.split("<svg")[0]
    )
    assert sorted(tmp_path.iterdir()) == sorted([*before, page.parent]), "no run folder is left"


def test_a_curve_that_never_began_is_told_without_a_plot() -> None:
    console = Console(file=sys.stdout, width=100, record=True)
    show_rates(console, RangeTest([], [], [], None, "the loss or the gradient became infinite at 1.00e-07"))
    assert "nothing can be suggested" in console.export_text()


def test_a_plot_joins_its_points_and_marks_a_column() -> None:
    lines = plot([(0, 0.0), (4, 4.0), (8, 0.0)], ("0", "8"), mark=2, width=9, height=5)
    assert lines == ["4 |  | *", "  |  |* *", "  |  *   *", "  | *|    *", "0 |* |     *", "  +---------", "   0       8"]
    spike = plot([(0, 0.0), (1, 9.0), (2, 0.0)], ("0", "2"), width=3, height=4)
    assert [line[3:] for line in spike[:4]] == [" *", "**", "**", "* *"]
    assert plot([(0, 1.0), (1, 1.0)], ("0", "1"), width=4, height=2) == ["1 |", "1 |****", "  +----", "   0  1"]
