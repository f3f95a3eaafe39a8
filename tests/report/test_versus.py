"""The page of a comparison: what the headline allows itself to say, numbers, escaping, figures, and whatever is missing."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import unquote

import pytest
from made_comparisons import make_comparison
from made_runs import Page, dump

from burnish.core.errors import RunError
from burnish.report import versus
from burnish.report.versus import charts, courses, rows, words
from burnish.report.versus.reading import Versus, read
from burnish.report.wording import parameters

MARKUP = "norms & <script>alert(1)</script>"


def shown(folder: Path) -> Page:
    return Page(versus.write(folder))


def changed(folder: Path, **values: object) -> Versus:
    """The comparison with some values of its file changed."""
    path = folder / "comparison.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return read(folder)


def with_difference(folder: Path, mean: float, low: float, high: float, verdict: str) -> Versus:
    """The comparison with the difference of its second system set."""
    systems = json.loads((folder / "comparison.json").read_text())["systems"]
    systems[1]["difference"] = {"mean": mean, "low": low, "high": high, "verdict": verdict}
    return changed(folder, systems=systems)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("versus") / "three"
    return make_comparison(folder, {"full": 0.9, "lora": 0.85, MARKUP: 0.4})


@pytest.fixture(scope="module")
def page(three: Path) -> Page:
    return shown(three)


def test_the_headline_says_what_intervals_allow(tmp_path: Path) -> None:
    folder = make_comparison(tmp_path / "two", {"full": 0.8, "lora": 0.8})
    better = words.headline(with_difference(folder, 0.012, 0.003, 0.021, "better"))
    assert better == ["lora is 1.2 points better than full (95%: 0.3 to 2.1)."]
    worse = words.headline(with_difference(folder, -0.012, -0.021, -0.003, "worse"))
    assert worse == ["lora is 1.2 points worse than full (95%: 0.3 to 2.1)."]
    nothing = words.headline(with_difference(folder, 0.004, -0.01, 0.018, "no difference shown"))
    assert nothing == ["No difference is shown between full and lora (+0.4 points; 95%: −1.0 to +1.8)."]


def test_a_metric_of_which_less_is_better_is_told_in_its_own_unit(tmp_path: Path) -> None:
    folder = make_comparison(tmp_path / "loss", {"full": 0.8, "lora": 0.8})
    with_difference(folder, -0.25, -0.4, -0.1, "better")
    found = changed(folder, metric="loss", higher_is_better=False)
    assert words.headline(found) == ["lora is 0.25 loss better than full (95%: 0.1 to 0.4)."]
    assert [system.name for system in found.measured] == sorted(
        ["full", "lora"], key=lambda name: next(s.metrics["loss"].mean or 0 for s in found.systems if s.name == name)
    )


def test_one_seed_and_one_system(tmp_path: Path) -> None:
    found = shown(make_comparison(tmp_path / "one", {"full": 0.8}, seeds=[0]))
    assert "full comes to accuracy" in found.text and "There is one seed only" in found.text
    assert "With one seed, chance in training is left out" in found.text
    assert "Where they disagree" not in found.text and "Quality against" not in found.text


def test_numbers_stand_in_the_table(page: Page, three: Path) -> None:
    content = json.loads((three / "comparison.json").read_text())
    for system in content["systems"]:
        mean = system["metrics"]["accuracy"]["mean"]
        assert f'<td class="number">{mean:.3f}' in page.html
        if system["difference"]:
            assert f"{'+' if system['difference']['mean'] > 0 else '−'}{abs(100 * system['difference']['mean']):.1f}" in page.text
    assert "McNemar p = 0.042" in page.text and "22,716,296" in page.text and "20.0 s" not in page.text
    assert "7 rows of train also stand in test." in page.text


def test_names_and_texts_of_users_stay_texts(page: Page) -> None:
    assert MARKUP in page.text and "Where is my parcel <script>alert(1)</script>?" in page.text
    assert "script" not in page.tags and "<script" not in page.html


def test_the_page_needs_nothing_else_and_links_to_its_runs(page: Page, three: Path) -> None:
    inner = [link for link in page.links if link.startswith("#")]
    outer = [link for link in page.links if not link.startswith("#")]
    assert {link[1:] for link in inner} <= set(page.ids) and len(page.ids) == len(set(page.ids))
    assert len(outer) == 9
    assert all((three / "report" / unquote(link)).resolve().is_file() for link in outer)


def test_links_hold_from_another_folder(three: Path, tmp_path: Path) -> None:
    target = versus.write(three, tmp_path / "elsewhere")
    assert target == tmp_path / "elsewhere" / "index.html"
    outer = [link for link in Page(target).links if not link.startswith("#")]
    assert outer and all((target.parent / unquote(link)).resolve().is_file() for link in outer)


def test_every_figure_is_told_to_those_who_cannot_see_it(page: Page) -> None:
    for told in (
        "accuracy of each run by system. full: mean",
        "Differences to full. lora:",
        "accuracy over training time.",
        "Validation accuracy over steps",
    ):
        assert told in page.html, told
    assert "#0505" not in page.html


def test_the_front_is_what_none_beats(three: Path) -> None:
    found = read(three)
    assert charts.front(found, "time") == {"full"}
    assert "full" in charts.front(found, "parameters") and len(charts.front(found, "parameters")) == 3


def test_rows_on_which_systems_disagree(three: Path) -> None:
    found = rows.disagreements(read(three))
    assert found is not None and found.systems[0] == "full" and found.rows
    first = found.rows[0]
    assert len({answers.mostly for answers in first.answers}) == 2 and first.truth and "parcel" in first.text
    assert found.counts is not None
    for line in found.counts.rows:
        assert sum(int(number) for number in line[1:5]) == 60


@pytest.mark.parametrize(
    ("record", "verdict"),
    [
        ({"truth": "a", "label": "a"}, (True, "a")),
        ({"truth": ["b", "a"], "labels": ["a", "b"]}, (True, "a, b")),
        ({"truth": ["a"], "labels": []}, (False, "(none)")),
        ({"references": ["x"], "prediction": "y", "exact_match": 0.0}, (False, "y")),
        ({"truth": ["O", "B"], "predicted": ["O", "O"]}, (False, "1 of 2 tags wrong")),
        ({"truth": 3.5, "value": 3.4}, None),
        ({"prompt": "x", "answer": "y", "reference": "z"}, None),
    ],
)
def test_what_is_right_is_read_off_a_record(record: dict[str, object], verdict: tuple[bool, str] | None) -> None:
    assert rows.judged_record(record) == verdict


def test_courses_are_means_with_their_range(three: Path) -> None:
    mean, band = courses.courses(read(three), "accuracy")["full"]
    assert [step for step, _ in mean] == [6, 12, 18, 24] and len(band) == 4
    assert all(low - 1e-9 <= value <= high + 1e-9 for (_, value), (_, low, high) in zip(mean, band, strict=True))


def test_failures_and_what_is_not_there_yet(tmp_path: Path) -> None:
    folder = make_comparison(tmp_path / "half", {"full": 0.8, "lora": 0.85}, failed=[("lora", 1)], missing=[("lora", 2)])
    found = shown(folder)
    assert "This comparison is not complete: 4 of 6 runs are there, 1 failed." in found.text
    assert "lora, seed 1 failed: The loss is NaN at step 3: lower the learning rate." in found.text
    assert "1 run is not there yet: the same command goes on where it stopped." in found.text


def test_nothing_is_there_yet(tmp_path: Path) -> None:
    cells = [(name, seed) for name in ("full", "lora") for seed in range(3)]
    found = shown(make_comparison(tmp_path / "none", {"full": 0.8, "lora": 0.85}, missing=cells))
    assert "No run of this comparison has given a result yet (0 of 6 runs are there)." in found.text and "svg" not in found.tags


def test_many_systems_with_long_names_and_many_classes(tmp_path: Path) -> None:
    names = [f"system {place} with quite a long name and ünïcode 微調整" for place in range(8)]
    labels = [f"class {place}" for place in range(30)]
    folder = make_comparison(tmp_path / "many", {name: 0.9 - 0.05 * place for place, name in enumerate(names)}, seeds=[0], labels=labels)
    found = shown(folder)
    assert found.html.count('<div><p title="system') == 8, "a small panel for each system"
    assert "class 29" in found.text and all(name in found.text for name in names)
    assert words.summary(read(folder))[0].startswith("Against system 0 with quite a long name and ünïcode 微調整, of 7 systems:")


def test_what_is_no_comparison_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a comparison"):
        versus.write(tmp_path)
    (tmp_path / "comparison.json").write_text('{"kind": ')
    with pytest.raises(RunError, match="is damaged"):
        versus.write(tmp_path)
    odd = {
        "name": None,
        "metric": 3,
        "systems": [None, {"runs": [None], "metrics": {"x": None}, "difference": 4}],
        "seeds": None,
        "level": "a",
    }
    dump(tmp_path, "comparison.json", odd)
    assert "No run of this comparison has given a result yet" in shown(tmp_path).text


def test_ticks_have_room_beside_each_other() -> None:
    ticks = [1e5, 3e5, 1e6, 3e6, 1e7, 3e7]
    assert charts.apart(ticks, parameters, 900) == ticks
    assert charts.apart(ticks, parameters, 420) == [1e5, 1e6, 1e7]
