"""Slides: sections in order, native tables and charts with the runs' numbers, texts that a person edits, and room for all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_comparisons import make_comparison
from made_runs import make_run

from burnish.core.errors import RunError
from burnish.report import page, slides
from burnish.report.slides import fitting, telling
from burnish.report.slides.outline import SECTIONS, Grid
from burnish.report.slides.places import label_sides, overlap
from burnish.report.slides.scales import Scale, linear, powers
from burnish.report.slides.tables import column_widths, pages, room, row_heights

EMU = 914_400


def opened(folder: Path) -> Any:
    from pptx import Presentation

    return Presentation(str(slides.write(folder)))


def texts(deck: Any) -> list[str]:
    """All texts of each slide in one, tables too."""
    found = []
    for slide in deck.slides:
        told = [shape.text_frame.text for shape in slide.shapes if shape.has_text_frame]
        told += [cell.text for shape in slide.shapes if shape.has_table for row in shape.table.rows for cell in row.cells]
        found.append("\n".join(told))
    return found


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "report" / "slides.yaml"
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump({**found, **changes}, allow_unicode=True), encoding="utf-8")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_comparison(tmp_path_factory.mktemp("decks") / "two", {"full": 0.9, "lora <b>&": 0.5}, seeds=[0, 1])


@pytest.fixture(scope="module")
def deck(two: Path) -> Any:
    return opened(two)


def test_sections_stand_in_their_order(deck: Any) -> None:
    found = [next((section for section in SECTIONS if section.upper() in text.split("\n")), "") for text in texts(deck)[1:]]
    assert list(dict.fromkeys(found)) == list(SECTIONS)
    assert [found.index(section) for section in SECTIONS] == sorted(found.index(section) for section in SECTIONS)
    listed = deck.part._element.xpath("//*[local-name()='section']")
    assert [section.get("name") for section in listed] == list(SECTIONS)
    assert sum(len(section.xpath(".//*[local-name()='sldId']")) for section in listed) == len(deck.slides)


def test_tables_and_charts_are_native_and_hold_the_numbers(deck: Any, two: Path) -> None:
    content = json.loads((two / "comparison.json").read_text())
    everything = "\n".join(texts(deck))
    for system in content["systems"]:
        assert f"{system['metrics']['accuracy']['mean']:.3f}" in everything and system["name"] in everything
    shapes = [shape for slide in deck.slides for shape in slide.shapes]
    assert not [shape for shape in shapes if shape.shape_type == 13], "no picture is needed"
    assert sum(shape.has_table for shape in shapes) >= 5
    charts = [shape.chart for shape in shapes if shape.has_chart]
    drawn = next(chart for chart in charts if any(series.name == "mean" for series in chart.plots[0].series))
    means = next(series for series in drawn.plots[0].series if series.name == "mean")
    xs = [float(value.text) for value in means._element.xpath("./c:xVal//c:v")]
    assert xs == [pytest.approx(system["metrics"]["accuracy"]["mean"]) for system in content["systems"]]


def test_nothing_leaves_its_slide(tmp_path: Path) -> None:
    names = [f"a system number {place} with a name that goes on and on 微調整 مقارنة" for place in range(12)]
    labels = [f"class {place} {'long ' * (place % 5)}" for place in range(30)]
    qualities = {name: 0.95 - 0.05 * place for place, name in enumerate(names)}
    deck = opened(make_comparison(tmp_path / ("many " * 12), qualities, labels=labels, text="包裹在哪里？" * 60, failed=[(names[2], 0)]))
    for number, slide in enumerate(deck.slides, start=1):
        for shape in slide.shapes:
            assert shape.left >= 0 and shape.left + shape.width <= deck.slide_width, (number, shape.name)
            assert shape.top >= 0 and shape.top + shape.height <= deck.slide_height, (number, shape.name)
            sizes = [run.font.size.pt for paragraph in paragraphs(shape) for run in paragraph.runs if run.font.size]
            assert all(size >= 12 for size in sizes), (number, sizes)


def paragraphs(shape: Any) -> list[Any]:
    cells = [cell for row in shape.table.rows for cell in row.cells] if shape.has_table else []
    frames = [cell.text_frame for cell in cells] + ([shape.text_frame] if shape.has_text_frame else [])
    return [paragraph for frame in frames for paragraph in frame.paragraphs]


def test_speaker_notes_hold_the_command(deck: Any) -> None:
    assert "burnish compare 'a b.yaml'" in deck.slides[0].notes_slide.notes_text_frame.text


def test_edited_texts_are_kept_and_their_numbers_filled_in_again(tmp_path: Path) -> None:
    folder = make_comparison(tmp_path / "two", {"full": 0.9, "lora": 0.5})
    slides.write(folder)
    edit(folder, context={"title": "Mein Titel {{so}}", "text": ["{best} kam auf {best_value}"]}, limits={"show": False})
    before = (folder / "report" / "slides.yaml").read_text(encoding="utf-8")
    told = "\n".join(texts(opened(folder)))
    value = json.loads((folder / "comparison.json").read_text())["systems"][0]["metrics"]["accuracy"]["mean"]
    assert "Mein Titel {so}" in told and f"full kam auf {value:.3f}" in told and "Limits" not in told
    assert (folder / "report" / "slides.yaml").read_text(encoding="utf-8") == before
    content = json.loads((folder / "comparison.json").read_text())
    content["systems"][0]["metrics"]["accuracy"]["mean"] = 0.987
    (folder / "comparison.json").write_text(json.dumps(content))
    assert "full kam auf 0.987" in "\n".join(texts(opened(folder)))


def test_slides_that_come_later_are_added_to_the_texts(tmp_path: Path) -> None:
    cells = [(name, seed) for name in ("full", "lora") for seed in range(3)]
    folder = make_comparison(tmp_path / "grows", {"full": 0.9, "lora": 0.5}, missing=cells)
    slides.write(folder)
    edit(folder, context={"title": "Mine"})
    assert "differences" not in yaml.safe_load((folder / "report" / "slides.yaml").read_text())
    make_comparison(folder, {"full": 0.9, "lora": 0.5})
    told = texts(opened(folder))
    known = yaml.safe_load((folder / "report" / "slides.yaml").read_text())
    assert known["context"]["title"] == "Mine" and "differences" in known and any("Mine" in text for text in told)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"contxt": {"title": "x"}}, "there is no slide `contxt` - did you mean `context`"),
        ({"context": {"titel": "x"}}, "`context` has no field `titel` - did you mean `title`"),
        ({"context": {"text": ["{bast}"]}}, "{bast} is not known - did you mean `best`"),
        ({"context": {"show": "maybe"}}, "`context.show` is true or false"),
        ({"context": {"text": [{"a": 1}]}}, "`context.text` is a text or a list of texts"),
        ({"context": ["x"]}, "below `context` stand fields"),
    ],
)
def test_faulty_texts_are_told(two: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    (tmp_path / "slides.yaml").write_text(yaml.safe_dump(changes))
    with pytest.raises(RunError) as told:
        slides.write(two, tmp_path)
    assert message in str(told.value) and "slides.yaml" in str(told.value)
    assert not (tmp_path / "slides.pptx").exists()


def test_texts_that_are_no_yaml(two: Path, tmp_path: Path) -> None:
    (tmp_path / "slides.yaml").write_text("context: {title: [")
    with pytest.raises(RunError, match="is no YAML"):
        slides.write(two, tmp_path)


@pytest.mark.parametrize("finished", [True, False])
def test_slides_of_a_run(tmp_path: Path, finished: bool) -> None:
    told = texts(opened(make_run(tmp_path / "run", finished=finished)))
    whole = "\n".join(told)
    assert "give each text its label" in whole and "400 rows of training" in whole
    assert ("0.876" in whole and "28" in whole) is finished
    assert ("The run is not finished." in whole) is not finished
    assert [section for section in SECTIONS if any(section.upper() in text for text in told)] == list(SECTIONS)


def test_a_text_is_given_at_least_the_room_it_takes() -> None:
    assert fitting.lines("one two three four", 20, fitting.width("one two three four", 20) + 0.01) == 1
    assert fitting.lines("one two three four", 20, fitting.width("one two ", 20) + 0.01) >= 2
    assert fitting.lines("包" * 40, 20, fitting.width("包" * 10, 20) + 0.01) == 4
    assert fitting.width("é", 20) == pytest.approx(fitting.width("e\N{COMBINING ACUTE ACCENT}", 20))
    size, kept = fitting.fitted(["word " * 400], (24, 16), (5.0, 2.0))
    assert size == 16 and kept[0].endswith("…") and fitting.height(kept, 16, 5.0, 0.5) <= 2.0
    size, kept = fitting.fitted([f"line {place}" for place in range(50)], (24, 16), (5.0, 2.0))
    assert kept[-1].startswith("… and ") and fitting.height(kept, size, 5.0, 0.5) <= 2.0


def test_long_tables_go_on_and_lose_no_row() -> None:
    grid = Grid(["name", "value"], [[f"row {place} " + "word " * (place % 9), str(place)] for place in range(70)], numbers=frozenset({1}))
    parts = pages(grid, 6.0, 4.0)
    assert [row for part in parts for row in part.rows] == list(grid.rows) and len(parts) > 2
    assert all(sum(row_heights(part, 14, 6.0)) <= 4.0 for part in parts)


LONG = "delivery_window_outside_of_the_agreed_upon_time_frame_for_business_customers"


def test_numbers_are_never_broken_and_long_words_leave_them_room() -> None:
    labels = [LONG, "Zurück an den Absender: Rücksendung nicht angenommen", *(f"label {place}" for place in range(8))]
    rows = [[label, *("12" for _ in labels), "120"] for label in labels]
    grid = Grid(["", *labels, "rows"], rows, numbers=frozenset(range(1, 12)))
    widths = column_widths(grid, 14, 11.7)
    assert sum(widths) == pytest.approx(11.7)
    assert all(fitting.lines(row[place], 14, room(widths[place])) == 1 for row in rows for place in range(1, 12))


@pytest.mark.parametrize("kind", ["classes", "confusion"])
def test_long_labels_leave_tables_on_one_slide(tmp_path: Path, kind: str) -> None:
    """Each table is drawn in the width at which it was found to fit."""
    folder = make_run(tmp_path / "run")
    path = folder / "evaluations" / "test.json"
    content = json.loads(path.read_text())
    labels = [LONG, "شكوى بخصوص الطلب", *(f"a label of some length, {place}" for place in range(8))]
    classes, matrix = (next(s for s in content["sections"] if s["title"] == title) for title in ("Classes", "Confusion"))
    classes["rows"] = [[label, 0.5, 0.25, 0.333, 16] for label in labels]
    matrix |= {"labels": labels, "counts": [[12 if row == column else 0 for column in range(10)] for row in range(10)]}
    path.write_text(json.dumps(content))
    deck = opened(folder)
    title = kind.capitalize()
    found = [slide for slide in deck.slides if slide.shapes.title.text_frame.text == title]
    assert len(found) == 1, [slide.shapes.title.text_frame.text for slide in deck.slides]
    shape = next(shape for shape in found[0].shapes if shape.has_table)
    assert shape.top + sum(row.height for row in shape.table.rows) <= 7.0 * EMU
    cells = [[cell.text for cell in row.cells] for row in shape.table.rows]
    assert [row[-1] for row in cells[1:]] == ["16" if kind == "classes" else "12"] * 10
    if kind == "confusion":
        assert cells[0][1:-1] == [str(number) for number in range(1, 11)] and cells[1][0].startswith("1 · delivery_window")
        assert "by their numbers" in "\n".join(texts(deck))


def test_a_matrix_of_many_labels_becomes_its_most_frequent_confusions(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    path = folder / "evaluations" / "test.json"
    content = json.loads(path.read_text())
    matrix = next(section for section in content["sections"] if section["title"] == "Confusion")
    labels = [f"label {place}" for place in range(15)]
    counts = [[8 if row == column else 0 for column in range(15)] for row in range(15)]
    counts[3][7] = 5
    matrix |= {"labels": labels, "counts": counts}
    path.write_text(json.dumps(content))
    told = next(text for text in texts(opened(folder)) if "most frequent pairs" in text)
    assert "label 3\nlabel 7\n5" in told


def test_weights_and_forecast_of_a_run(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    cells = [{"place": "embeddings", "role": "tokens", "parameters": 9, "learning": 0, "before": None, "after": None, "change": 0.0}]
    blocks = [(f"block {number + 1}", 0.1 * (number + 1)) for number in range(40)]
    cells += [
        {"place": place, "role": "attention", "parameters": 9, "learning": 9, "before": 10.0, "after": 10.0, "change": change}
        for place, change in blocks
    ]
    updates = [
        {"module": f"m.{place}.q", "place": f"block {place}", "rank": 8, "values": [1.0], "effective_rank": 3.0 + place} for place in (1, 2)
    ]
    (folder / "movement.json").write_text(json.dumps({"cells": cells, "updates": updates}))
    summary = json.loads((folder / "summary.json").read_text())
    pair = {"predicted": 10.0, "measured": 8.0, "ratio": 1.25}
    summary["forecast"] = {"seconds": {"steps": pair}, "total": pair, "memory": {"predicted": 2**30, "measured": 2**30, "ratio": 1.0}}
    (folder / "summary.json").write_text(json.dumps(summary))
    told = texts(opened(folder))
    moved = next(text for text in told if "How far the weights moved" in text)
    assert "block 1\n" in moved and "block 40\n" in moved and "block 2\n" not in moved, "blocks evenly chosen, the ends among them"
    assert "1%" in moved and "40%" in moved and "rank 8" in moved and "4.0 to 5.0 directions" in moved and "4.5 on average" in moved
    foretold = next(text for text in told if "Foretold and measured" in text)
    assert "1.25 of the time" in foretold and "1.00 of the memory" in foretold and "10 s" in foretold and "1 GiB" in foretold


def test_what_the_rows_leave_open_is_told_where_it_is_known(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    assert "leave open" not in "\n".join(texts(opened(folder)))
    errors = {"test": {"loss": 0.1, "accuracy": 0.02, "macro_f1": None}, "validation": {"accuracy": 0.9}}
    (folder / "uncertainty.json").write_text(json.dumps(errors))
    told = texts(opened(folder))
    said = "Rows alone leave open: accuracy ± 0.039, loss ± 0.196 (95%, 160 test rows)."
    assert [said in text for text in told if "What came out" in text or "What can be said" in text] == [True, True]
    page.write(folder)
    assert said in (folder / "report" / "index.html").read_text(encoding="utf-8")


def test_training_is_told_as_it_was_configured(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    recipe = {
        "optimizer": {"name": "adamw", "lr": 2e-4, "betas": [0.9, 0.98]}, "schedule": {"name": "cosine", "warmup": "6%"},
        "method": {"name": "lora", "r": 4, "targets": None}, "selective": {"layer_decay": 0.9, "head": 1.0, "l2": 0.0},
        "dropout": {"head": 0.2, "all": None}, "train": {"seed": 3, "in_backward": True, "ema": None},
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    told = next(text for text in texts(opened(folder)) if "as configured" in text)
    for text in ("lora, r 4", "adamw, lr 0.0002, betas 0.9 0.98", "cosine, warmup 6%", "layer decay 0.9; dropout head 0.2; in backward"):
        assert text in told, told
    assert "Seed\n3" in told and "ema" not in told and "l2" not in told
    (folder / "recipe.yaml").write_text("a: [")
    assert any("as configured" in text for text in texts(opened(folder)))


def test_a_run_that_stopped_before_it_knew_itself_is_told_from_its_recipe(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text("model: starter:minilm\ntask: {name: tag, text: words, tags: tags}\nmethod: {name: lora, r: 4}\n")
    told = texts(opened(run))
    whole = "\n".join(told)
    assert "starter:minilm, trained to give each word of a text its tag" in told[0] and "How: lora." in whole
    assert "Nothing has been measured yet." in whole and "On –" not in whole and "– of its" not in whole and "no test rows" not in whole


def test_systems_tell_how_far_they_moved_and_what_was_foretold(tmp_path: Path) -> None:
    folder = make_comparison(tmp_path / "two", {"full": 0.9, "lora": 0.5}, seeds=[0, 1])
    for place, ratios in enumerate(((0.9, 1.1), (0.75, 0.75))):
        for seed, ratio in enumerate(ratios):
            run = folder / "runs" / f"system-{place}" / f"seed-{seed}"
            cells = [
                {
                    "place": f"block {block}",
                    "role": "attention",
                    "parameters": 4,
                    "learning": 4,
                    "before": 30.0,
                    "change": 3.0 * (1 + place),
                }
                for block in (1, 2)
            ]
            added = {"place": "block 1", "role": "added by the method", "parameters": 4, "learning": 4, "before": 0.0, "change": 1.0}
            (run / "movement.json").write_text(json.dumps({"cells": [*cells, *([added] if place else [])]}))
            summary = json.loads((run / "summary.json").read_text())
            summary["forecast"] = {"total": {"ratio": ratio}, "memory": {"ratio": 1.02}}
            (run / "summary.json").write_text(json.dumps(summary))
    told = texts(opened(folder))
    moved = next(text for text in told if "How far the weights moved" in text)
    assert "full\n10%\n\n" in moved + "\n\n" and "lora\n20%\nfrom 0" in moved, moved
    foretold = next(text for text in told if "Foretold and measured" in text)
    assert "full\n1.00\n1.02" in foretold and "lora\n0.75\n1.02" in foretold


def test_examples_take_as_many_rows_as_stand_on_a_slide() -> None:
    grid = Grid(["text", "said"], [["word " * 30, "x" * 200] for _ in range(9)], whole=False)
    (shown,) = pages(grid, 11.5, 4.5)
    assert 3 <= len(shown.rows) < 9 and sum(row_heights(shown, 14, 11.5)) <= 4.5


def test_a_long_prompt_keeps_its_end() -> None:
    told = telling.both_ends("You are an assistant. " * 40 + "Is iDEAL accepted?")
    assert told.endswith("Is iDEAL accepted?") and told.startswith("You are") and " … " in told and len(told) <= 240
    assert telling.both_ends("short\n one") == "short one"


def test_costs_that_lie_close_together_have_ticks_that_differ(tmp_path: Path) -> None:
    folder = make_comparison(tmp_path / "close", {"full": 0.9, "lora": 0.5}, seeds=[0])
    for place, seconds in enumerate((4.3, 4.7)):
        path = folder / "runs" / f"system-{place}" / "seed-0" / "summary.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "seconds": seconds}))
    content = json.loads((folder / "comparison.json").read_text())
    for system, seconds in zip(content["systems"], (4.3, 4.7), strict=True):
        system["seconds"] |= {"mean": seconds}
        system["runs"][0]["seconds"] = seconds
    (folder / "comparison.json").write_text(json.dumps(content))
    slide = next(slide for slide in opened(folder).slides if slide.shapes.title.text_frame.text == "Quality against training time")
    axis = next(shape.chart for shape in slide.shapes if shape.has_chart).category_axis
    assert axis.major_unit < 1 and axis.tick_labels.number_format == "0.0"


def test_nothing_is_said_to_be_showable_without_intervals(tmp_path: Path) -> None:
    folder = make_comparison(tmp_path / "one", {"full": 0.9, "lora": 0.5}, seeds=[0])
    assert "begins at about ± 5.0 points" in "\n".join(texts(opened(folder)))
    content = json.loads((folder / "comparison.json").read_text())
    for system in content["systems"][1:]:
        system["difference"] |= {"low": None, "high": None}
    (folder / "comparison.json").write_text(json.dumps(content))
    assert "begins at about" not in "\n".join(texts(opened(folder)))


def test_names_beside_points_cover_nothing() -> None:
    points = [(1.0 + 0.05 * place, 2.0 + 0.04 * place, place % 2 == 0) for place in range(12)]
    sides = label_sides(points, [1.2] * 12, (10.0, 4.0))
    assert sides[0] and "" in sides, "a crowd leaves some without a name"
    apart = [(1.0 + 0.8 * place, 0.5 + 0.3 * place, True) for place in range(10)]
    assert all(label_sides(apart, [0.5] * 10, (12.0, 4.0)))
    assert overlap((0, 0, 2, 2), (1, 1, 3, 3)) and not overlap((0, 0, 1, 1), (1, 0, 2, 1))


@pytest.mark.parametrize("values", [[0.2, 0.97], [0.5], [-25.0, 0.0], [1e-5, 3e-5], [0.0, 0.0], [120.0, 99_000.0], [0.871, 0.8713]])
def test_scales_hold_all_values_between_round_ends(values: list[float]) -> None:
    scale = linear(values)
    assert scale.low <= min(values) and scale.high >= max(values) and scale.low < scale.high
    assert 2 <= (scale.high - scale.low) / scale.step <= 9
    assert all(0 <= scale.share(value) <= 1 for value in values)


def test_forms_tell_neighboring_ticks_apart() -> None:
    assert linear([0.0, 13.0], spare=0, least=1).step == 5, "there is no step 2.5"
    assert linear([0.0, 3.0], spare=0, least=1).step == 1 and linear([1.0, 400.0], spare=0, least=1).step == 100
    assert [Scale(0, 1, step).form for step in (0.25, 0.2, 5, 2.5, 2000, 0.005)] == ["0.00", "0.0", "0", "0.0", "#,##0", "0.000"]
    assert powers([21.0, 240.0]) == Scale(10.0, 1000.0, 10.0, True)
