"""Trackers follow whole runs: what they hold at the end, after an interruption, an error, a failure of their own; and no secret is left."""

from __future__ import annotations

import json
import os
import signal
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from burnish.core.errors import BurnishError, Interrupted, RecipeError
from burnish.engine.events import Event, Noted, Stepped
from burnish.run import resume
from burnish.run.training import train

Made = dict[str, Any]
PLANTED = "5ecret-0f-the-h0use"


@pytest.fixture
def made(quick: None, tiny_bert: Path, rows_csv: Path, tmp_path: Path) -> Callable[..., Made]:
    def make(*trackers: Any, **train: Any) -> Made:
        return {
            "model": str(tiny_bert),
            "task": "classify",
            "data": {"train": str(rows_csv), "validation": "25%"},
            "train": {"duration": "6st", "batch_size": 8, "save_every": "2st", "evaluate_every": "2st", "device": "cpu", **train},
            "track": list(trackers),
            "run": str(tmp_path / "run"),
        }

    return make


def stopping(step: int) -> Callable[[Event], None]:
    def stop(event: Event) -> None:
        if isinstance(event, Stepped) and event.step == step:
            os.kill(os.getpid(), signal.SIGINT)

    return stop


def killed(step: int) -> Callable[[Event], None]:
    """As if the process were gone: what stands after it never runs, so that the run goes on from an earlier checkpoint."""

    def die(event: Event) -> None:
        if isinstance(event, Stepped) and event.step == step:
            raise BurnishError("the lights went out")

    return die


def losses(run: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if line["kind"] == "step"}


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    found: dict[str, list[tuple[int, float]]] = {}
    for file in folder.glob("events*"):
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "scalars":
                    found.setdefault(value.tag, []).append((event.step, value.tensor.float_val[0]))
    return found


@pytest.mark.parametrize("ending", [stopping(3), killed(3)], ids=["stopped", "killed"])
def test_tensorboard_holds_each_step_once_after_an_interruption(made: Callable[..., Made], ending: Callable[[Event], None]) -> None:
    recipe = made("tensorboard")
    with pytest.raises((Interrupted, BurnishError)):
        train(recipe, listeners=[ending])
    run = resume(recipe["run"])
    found, expected = scalars(run.path / "tracking" / "tensorboard"), losses(run.path)
    assert found["train/loss"] == [(step, pytest.approx(loss, rel=1e-6)) for step, loss in expected.items()] and len(expected) == 6
    assert [step for step, _ in found["validation/accuracy"]] == [2, 4, 6]
    assert set(found) >= {"train/lr", "train/grad_norm", "train/memory", "train/tokens_per_second", "gradient/block 1", "final/seconds"}
    assert found["final/validation/loss"][0][1] == pytest.approx(run.metrics["validation"]["loss"], rel=1e-6)


@pytest.mark.slow
def test_mlflow_goes_on_with_the_same_run(made: Callable[..., Made], monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    plant(monkeypatch)
    recipe = made({"name": "mlflow", "experiment": "books"})
    with pytest.raises(BurnishError):
        train(recipe, listeners=[killed(3)])
    path = Path(recipe["run"])
    client = MlflowClient(tracking_uri=f"sqlite:///{path}/tracking/mlflow.db")
    (first,) = client.search_runs([client.get_experiment_by_name("books").experiment_id])
    assert first.info.status == "FAILED" and [m.step for m in client.get_metric_history(first.info.run_id, "train/loss")] == [1, 2, 3]
    resume(path)
    (run,) = client.search_runs([first.info.experiment_id])
    assert run.info.run_id == first.info.run_id and run.info.status == "FINISHED" and run.info.run_name == "run"
    history = {m.step: m.value for m in client.get_metric_history(run.info.run_id, "train/loss")}
    assert history == pytest.approx(losses(path)) and len(client.get_metric_history(run.info.run_id, "train/loss")) == 6
    assert [m.step for m in client.get_metric_history(run.info.run_id, "validation/loss")] == [2, 4, 6]
    assert run.data.params["train.batch_size"] == "8" and run.data.params["data.train"] == "rows.csv"
    assert "final/validation/accuracy" in run.data.metrics
    assert_nothing_planted_is_left(path)


def plant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets where a person may have them: in the environment, and on the command line."""
    monkeypatch.setenv("WANDB_API_KEY", PLANTED * 3)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PLANTED)
    monkeypatch.setattr("sys.argv", ["burnish", "train", "x.yaml", f"--storage=postgresql://ada:{PLANTED}@db/x", f"token={PLANTED}"])


def assert_nothing_planted_is_left(run: Path) -> None:
    files = [file for file in run.rglob("*") if file.is_file()]
    assert len(files) > 10 and [file for file in files if PLANTED.encode() in file.read_bytes()] == []
    assert "postgresql://***@db/x" in json.loads((run / "environment.json").read_text())["command"]


def records(content: bytes) -> Iterator[bytes]:
    """Those of a file in LevelDB's log format, after its header of 7 bytes: blocks of 32 KiB, pieces of (crc, length, kind, data)."""
    at, held = 7, b""
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack_from("<HB", content, at + 4)
        held += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or its last piece
            yield held
            held = b""


def test_wandb_offline_tells_no_step_twice_and_no_secret_is_left(made: Callable[..., Made], monkeypatch: pytest.MonkeyPatch) -> None:
    from wandb.proto import wandb_internal_pb2

    plant(monkeypatch)
    recipe = made({"name": "wandb", "project": "books", "offline": True}, "tensorboard")
    with pytest.raises(BurnishError):
        train(recipe, listeners=[killed(3)])
    run = resume(recipe["run"])
    told, ids = Counter[int](), set()
    for file in sorted((run.path / "tracking" / "wandb").glob("offline-run-*/*.wandb")):
        for data in records(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            ids |= {record.run.run_id} - {""}
            items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            told.update([int(items["_step"])] if "train/loss" in items else [])
    assert told == Counter(range(1, 7)) and len(ids) == 1
    assert_nothing_planted_is_left(run.path)


class Breaking:
    """A sink that fails at a step."""

    known = (-1, -1)

    def log(self, values: Any, step: int, seconds: float) -> None:
        if step >= 2:
            raise ConnectionError(f"no route to https://ada:{PLANTED}@host\nand more")

    def conclude(self, values: Any, step: int) -> None:
        raise AssertionError("it was left out")

    def close(self, ending: str) -> None:
        raise AssertionError("it was left out")


def test_a_tracker_that_fails_is_told_once_and_the_run_goes_on(made: Callable[..., Made], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("burnish.tracking.wandb.Wandb.open", lambda self, start: Breaking())
    notes: list[str] = []
    run = train(
        made({"name": "wandb", "offline": True}),
        listeners=[lambda event: notes.append(event.message) if isinstance(event, Noted) else None],
    )
    told = [note for note in notes if "wandb" in note]
    assert told == ["wandb is left out from here on, the run goes on: no route to https://***@host"]
    assert run.folder.finished


def test_what_cannot_be_used_is_refused_before_an_earlier_run_is_touched(
    made: Callable[..., Made], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text("kept")
    monkeypatch.setattr("burnish.tracking.spec.importlib.util.find_spec", lambda name: None)
    with pytest.raises(BurnishError, match=r"tensorboard needs the package tensorboard: pip install 'burnish\[track\]'"):
        train(made("tensorboard"), overwrite=True)
    assert (tmp_path / "run" / "recipe.yaml").read_text() == "kept"


def test_wandb_without_a_key_is_refused_with_the_ways_out(
    made: Callable[..., Made], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(BurnishError, match="set WANDB_API_KEY in the environment"):
        train(made("wandb"))


@pytest.mark.parametrize(
    "tracker, key",
    [
        ({"name": "wandb", "api_key": PLANTED}, "track.0.api_key"),
        ({"name": "mlflow", "uri": f"https://ada:{PLANTED}@host"}, "track.0.uri"),
    ],
)
def test_secrets_in_a_recipe_are_refused_by_name(made: Callable[..., Made], tmp_path: Path, tracker: Any, key: str) -> None:
    with pytest.raises(RecipeError) as refused:
        train(made(tracker))
    assert f"`{key}` is" in str(refused.value) and PLANTED not in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_a_tracker_is_written_as_a_bare_name_a_mapping_or_a_list(made: Callable[..., Made]) -> None:
    from burnish.recipe import load

    assert [one.name for one in load({**made(), "track": "mlflow"}).track] == ["mlflow"]
    assert [one.name for one in load(made("tensorboard", {"name": "mlflow", "experiment": "x"})).track] == ["tensorboard", "mlflow"]
    assert load(made(), ["track=[tensorboard, {name: wandb, offline: true}]"]).track[1].offline
    with pytest.raises(RecipeError, match=r"`track.0`: there is no `tensorbord` - did you mean `tensorboard`"):
        load(made("tensorbord"))
