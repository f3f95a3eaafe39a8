"""The report page: numbers, escaping, every kind of section, unfinished and empty runs; the functions on series, exactly."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from made_runs import EVIL, Page, dump, make_run

from burnish.core.errors import RunError
from burnish.report import curves, figures, page, sections, series, wording
from burnish.report.collect import collect, finite


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Page:
    run = make_run(tmp_path_factory.mktemp("runs") / "shop-<i>1</i>".replace("/", "-"))
    target = page.write(run)
    assert target == run / "report" / "index.html"
    assert [entry.name for entry in target.parent.iterdir()] == ["index.html"]
    return Page(target)


def test_main_result_stands_first_and_is_the_tests(finished: Page) -> None:
    head = finished.text[: finished.text.index("Curves")]
    assert "macro F1" in head and "0.876" in head and "0.865" in head and "0.432" in head
    assert head.index("0.876") < head.index("0.865") < head.index("0.432")
    assert "Measured on 160 test rows, with the weights of step 104." in head
    assert finished.text.index("160 test rows", len(head)) < finished.text.index("80 validation rows", len(head))


def test_story_facts_and_warnings(finished: Page) -> None:
    assert "starter:minilm learned to classify from 400 rows in 125 steps, 9.62 epochs, 1 min 40 s" in finished.text
    for told in (
        "24.1% of its 22.7 million parameters were trained",
        "early stopping: no gain in 3 evaluations",
        "step 104 (best macro F1: 0.871)",
        "32.1 TFLOP",
        "900 MiB",
        "7.7 GiB",
        "4.7%",
        "761",
        "7 rows of train also stand in test",
        "unpadded: 31% of the tokens",
        "11,917,824",
        "/home/ada/shop/messages-train.jsonl",
        "data.train='a & b.jsonl'",
        "seed: 17",
    ):
        assert told in finished.text, told
    assert "train0000000" in finished.text and "train0000000f" not in finished.text


def test_texts_of_users_stay_texts(finished: Page) -> None:
    assert "script" not in finished.tags and "b" not in finished.tags and "<script" not in finished.html
    assert EVIL in finished.text
    assert finished.text.count("<b>praise</b>") >= 5


def test_sections_of_each_kind(finished: Page) -> None:
    assert "The rows on which the model was surest and wrong." in finished.text
    assert '<td class="number">2.432</td>' in finished.html and '<td class="number">0.850</td>' in finished.html
    assert 'title="delivery → delivery: 28 of 32 (87.5%)"' in finished.html
    assert 'title="delivery → returns: 1 of 32 (3.12%)"' in finished.html
    assert re.search(r'<td class="hit strong" style="--o:0\.\d+" title="delivery → delivery', finished.html)


def test_every_curve_is_drawn_and_told(finished: Page) -> None:
    titles = re.findall(r"<figcaption><strong>([^<]*)</strong>", finished.html)
    assert titles == ["Loss", "Accuracy", "Macro F1", "Learning rate", "Gradient norm"]
    assert finished.tags.count("svg") == len(titles) + 1, "the loss is drawn for wide and narrow screens"
    assert finished.html.count('role="img" aria-label="') == len(titles) + 1
    assert "Accuracy over steps. validation: from 0.438 at step 13 to 0.883 at step 117" in finished.html
    assert "step (1 epoch = 13)" in finished.text
    assert not set(re.findall(r"#(?:0[1-9a]){3}\b", finished.html)), "a stand-in color was left in a figure"


def test_page_loads_nothing_and_ids_are_its_own(finished: Page) -> None:
    assert finished.links and all(link.startswith("#") for link in finished.links)
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org)", finished.html)
    assert len(finished.ids) == len(set(finished.ids))
    assert {link[1:] for link in finished.links} <= set(finished.ids)
    assert set(re.findall(r"url\(#([^)]+)\)", finished.html)) <= set(finished.ids)


def test_unfinished_run_says_so(tmp_path: Path) -> None:
    shown = Page(page.write(make_run(tmp_path / "half", finished=False, steps=60)))
    assert "This run is not finished: starter:minilm has done 60 of 125 steps of learning to classify from 400 rows." in shown.text
    assert "Measured on the validation part, so far at step 52." in shown.text
    assert "No evaluation of the trained model has been written yet." in shown.text
    assert "Ended not finished" in shown.text and "Time 48 s" in shown.text
    assert shown.tags.count("svg") == 6


def test_folder_with_nothing_but_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("task: classify\n", encoding="utf-8")
    (tmp_path / "metrics.jsonl").write_text("", encoding="utf-8")
    shown = Page(page.write(tmp_path))
    assert (
        "not finished" in shown.text and "Nothing has been evaluated yet." in shown.text and "No step has been recorded yet." in shown.text
    )
    assert "svg" not in shown.tags


def test_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run"):
        page.write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_missing_values_and_damaged_files(tmp_path: Path) -> None:
    run = make_run(tmp_path / "odd", steps=1)
    (run / "plan.json").write_text('{"model": ', encoding="utf-8")
    nothing = dict.fromkeys(("steps", "epochs", "seconds", "samples_per_second", "flos", "mean_loss", "peak_memory", "best", "kept_step"))
    dump(run, "summary.json", {**nothing, "ended": None})
    dump(run, "data.json", {"parts": {"train": None, "test": {"rows": None}}, "labels": {"train": None}, "warnings": None})
    dump(run, "environment.json", {"gpu": {"name": "H100", "memory": 80}, "command": ["burnish", "train", "a b"], "memory_bytes": "?"})
    odd_table = {"kind": "table", "title": None, "columns": ["a"], "rows": [[None, math.nan], [1.0], [], None, [{"x": [True]}, "\ud800"]]}
    odd_matrix = {"kind": "matrix", "labels": ["a", "b"], "counts": [[None, 0], [3]]}
    odd = [odd_table, odd_matrix, {"kind": "sound", "title": "Waves", "hertz": 440}, None]
    dump(run, "evaluations/test.json", {"metrics": {"loss": None, "accuracy": math.inf, "exact": 1}, "sections": odd})
    dump(run, "evaluations/validation.json", [])
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"kind": "step", "step": 2, "loss": null, "lr": NaN}\n3\n{"kind": "step", "loss": 1}\n{"kind": "evaluation", "st')
    shown = Page(page.write(run))
    assert "plan.json cannot be read and is left out" in shown.text
    assert "'a b'" in shown.text and '"hertz": 440' in shown.text and "1 warnings" not in shown.text
    assert shown.tags.count("svg") == 4, "loss twice, learning rate, gradient norm: a single step is a dot"


def test_thousands_of_steps_and_labels_keep_the_page_small(tmp_path: Path) -> None:
    run = make_run(tmp_path / "long", steps=20_000)
    labels = [f"intent_{place}" for place in range(150)]
    counts = [[9 if row == column else int((row + 1) % 150 == column) for column in range(150)] for row in range(150)]
    table = {"kind": "table", "title": "All", "columns": ["text"], "rows": [["word " * 2000]] * 1000, "note": ""}
    matrix = {"kind": "matrix", "title": "Confusion", "labels": labels, "counts": counts, "row_name": "truth", "column_name": "predicted"}
    dump(run, "evaluations/test.json", {"part": "test", "rows": 1500, "metrics": {"accuracy": 0.9}, "sections": [table, matrix]})
    shown = Page(page.write(run))
    assert len(shown.html.encode()) < 1_000_000
    assert "800 more rows are in the evaluation's JSON file." in shown.text
    assert "150 labels are too many for a readable matrix" in shown.text and "10%" in shown.text


def test_resumed_run_keeps_the_last_line_of_each_step(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("", encoding="utf-8")
    steps = [(1, 5.0), (2, 4.0), (3, 3.0), (2, 2.5), (3, 2.0)]
    text = "".join(json.dumps({"kind": "step", "step": step, "loss": loss}) + "\n" for step, loss in steps)
    (tmp_path / "metrics.jsonl").write_text(text, encoding="utf-8")
    record = collect(tmp_path)
    assert series.points_of(record.steps, "loss") == [(1, 5.0), (2, 2.5), (3, 2.0)]
    assert record.last_step == 3 and record.summary is None


def test_thinned_keeps_ends_and_extremes() -> None:
    points = [(float(step), 1.0) for step in range(100)]
    points[37] = (37.0, 50.0)
    points[61] = (61.0, -50.0)
    kept = series.thinned(points, 10)
    assert len(kept) <= 10 and kept[0] == points[0] and kept[-1] == points[-1]
    assert points[37] in kept and points[61] in kept
    assert kept == sorted(kept)
    assert series.thinned([(0, 5), (1, 4), (2, 9), (3, 4), (4, 3), (5, 2)], 4) == [(0, 5), (2, 9), (4, 3), (5, 2)]
    assert series.thinned(points, 100) == points


def test_smoothed_is_a_centered_mean() -> None:
    points = [(1.0, 3.0), (2.0, 6.0), (3.0, 0.0), (4.0, 9.0), (5.0, 3.0)]
    assert series.smoothed(points, 1) == points
    assert series.smoothed(points, 3) == [(1.0, 4.5), (2.0, 3.0), (3.0, 5.0), (4.0, 4.0), (5.0, 6.0)]
    assert series.smoothed(points, 3, limit=3) == [(1.0, 4.5), (3.0, 5.0), (5.0, 6.0)]
    assert [series.window_for(length) for length in (1, 11, 12, 100, 1000)] == [1, 1, 3, 5, 51]


def test_points_of_leaves_out_what_is_no_number() -> None:
    values = [1, None, math.nan, math.inf, True, "2", 10**400, 2.5]
    assert series.points_of([{"step": place, "x": value} for place, value in enumerate(values)], "x") == [(0.0, 1.0), (7.0, 2.5)]
    assert finite(-0.5) == -0.5


def test_logarithmic_axis_only_where_values_span_decades() -> None:
    assert series.spans_decades([(0, 900.0), (1, 2.0), (2, 1.0)])
    assert not series.spans_decades([(0, 900.0), (1, 2.0), (2, 0.0)])
    assert not series.spans_decades([(0, 3.0), (1, 2.0), (2, 1.0)])


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (wording.decimal(0.87), "0.870"),
        (wording.decimal(1234.56), "1,234.6"),
        (wording.decimal(0.0000213), "2.13e-5"),
        (wording.decimal(0.0), "0.000"),
        (wording.decimal(None), "–"),
        (wording.integer(1234567), "1,234,567"),
        (wording.short(9.6154), "9.62"),
        (wording.short(12345.6), "12,346"),
        (wording.short(2e-5), "2e-5"),
        (wording.percent(0.0123), "1.23%"),
        (wording.duration(0.42), "0.42 s"),
        (wording.duration(59.97), "1 min 0 s"),
        (wording.duration(3599.7), "1 h 0 min"),
        (wording.duration(7380), "2 h 3 min"),
        (wording.duration(200_000), "2 d 7 h"),
        (wording.duration(math.nan), "–"),
        (wording.memory(900_000_000), "858 MiB"),
        (wording.memory(0), "0 B"),
        (wording.flops(3.1e12), "3.1 TFLOP"),
        (wording.parameters(22_713_216), "22.7 million"),
        (wording.spoken("macro_f1"), "macro F1"),
        (wording.command_line(["a", "b c"]), "a 'b c'"),
        (wording.plain(True), "yes"),
    ],
)
def test_wording(written: str, expected: str) -> None:
    assert written == expected


def test_ticks_that_would_read_the_same_get_more_digits() -> None:
    write = figures.tick_wording([0.9971, 0.9972, 0.9973])
    assert [write(value, 0) for value in (0.9971, 0.9972)] == ["0.9971", "0.9972"]
    assert figures.tick_wording([-1.0, 1e-17, 1.0])(1e-17, 0) == "0"


def test_figure_names_cannot_inject_nor_break_the_drawing() -> None:
    line = figures.Line("x", [(1, 1.0), (2, 3.0)])
    drawn = figures.svg(figures.Panel("t", "step", "cost $ of </text><script>", [line], 'say "<b>"'), 300, 200, "p")
    assert "<script>" not in drawn and "&lt;script&gt;" in drawn and 'aria-label="say &quot;&lt;b&gt;&quot;"' in drawn
    assert drawn.startswith("<svg") and drawn.endswith("</svg>") and "font-family" not in drawn


def test_columns_line_up() -> None:
    assert sections.column_of([1, 2.5, None]) == ("number", ["1.000", "2.500", "–"])
    assert sections.column_of([1, 2000]) == ("number", ["1", "2,000"])
    assert sections.column_of(["a", 3]) == ("text", ["a", "3"])
    assert sections.column_of(["word " * 10, None])[0] == "prose"
    assert sections.column_of([None, None]) == ("text", ["–", "–"])


def test_curves_of_a_long_run_are_thinned(tmp_path: Path) -> None:
    panels = curves.panels(collect(make_run(tmp_path / "long", steps=3000)))
    raw, mean, validation = panels[0].lines
    assert len(raw.points) <= 600 and len(mean.points) == 600 and mean.name == "mean of 151 steps"
    assert raw.faint and validation.dots and len(validation.points) == 230
    assert panels[0].mark == 104
