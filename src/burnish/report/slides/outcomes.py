"""The results of a comparison as slides: tables, charts, examples, those for which there is something to show."""

from __future__ import annotations

from collections.abc import Sequence

from burnish.report.sections import TableView
from burnish.report.slides import telling
from burnish.report.slides.outline import RESULTS, Cloud, Curves, Grid, Slide, Spots
from burnish.report.slides.palette import SERIES
from burnish.report.versus import charts, courses, rows, tables, words
from burnish.report.versus.page import written
from burnish.report.versus.reading import Estimate, Versus
from burnish.report.wording import NONE, spoken

MOST_CURVES = len(SERIES)
MOST_EXAMPLES = 5
MOST_CLASSES = 10
MOST_COLUMNS = 5


def results(versus: Versus) -> list[Slide]:
    """Tables and charts, those for which there is something."""
    made = [Slide("results", RESULTS, "What came out", ["{summary}"], results_grid(versus) if versus.counted else None)]
    if versus.counted:
        made.append(
            Slide("runs", RESULTS, "Every run", ["A dot for each run; the diamond is the mean, the line its interval."], runs_spots(versus))
        )
    if any(system.difference for system in versus.others):
        text = "Each minus {baseline}, with intervals at {level}. Where one crosses the line at 0, no difference is shown."
        made.append(Slide("differences", RESULTS, "Differences to the baseline", [text], differences_spots(versus)))
    made += cost_slides(versus)
    followed = watched(versus)
    if followed:
        chart = curves(versus, courses.courses(versus, followed), followed)
        made.append(Slide("curves", RESULTS, "Learning curves", ["{curves}, mean over seeds."], chart))
    table = tables.metrics_table(versus)
    if table and len(table.columns) > 2:
        grid = Grid([column.name for column in table.columns], table.rows, numbers=frozenset(range(1, len(table.columns))))
        made.append(Slide("metrics", RESULTS, "Every metric", ["Mean over runs ± standard deviation."], grid))
    classes = tables.classes_table(versus)
    if classes:
        made.append(classes_slide(versus, classes))
    return made + examples(versus)


def results_grid(versus: Versus) -> Grid:
    """Mean, interval, difference, verdict."""
    lines = tables.results(versus)
    unit = tables.difference_unit(versus)
    rows_ = [
        [line.name, f"{line.mean}{f' ± {line.sd}' if line.sd != NONE else ''}", line.interval or NONE,
         f"{line.difference}{f' ({line.difference_interval})' if line.difference_interval else ''}", line.verdict]
        for line in lines
    ]  # fmt: skip
    tones = {(place, 4): line.tone for place, line in enumerate(lines) if line.tone != "muted"}
    strong = frozenset(place for place, line in enumerate(lines) if line.baseline)
    columns = ["system", spoken(versus.metric), f"interval ({words.level(versus)})", f"difference ({unit})", "verdict"]
    return Grid(columns, rows_, numbers=frozenset({1, 2, 3}), tones=tones, strong=strong)


def runs_spots(versus: Versus) -> Spots:
    """Every run of every system that has one."""
    systems = [system for system in versus.systems if system.done]
    estimates = [system.metrics.get(versus.metric, Estimate()) for system in systems]
    seeds = list(dict.fromkeys(cell.seed for system in systems for cell in system.done))
    singles = [
        (f"seed {seed}", [next((cell.metrics.get(versus.metric) for cell in system.done if cell.seed == seed), None) for system in systems])
        for seed in seeds
    ]
    means, lows, highs = ([getattr(estimate, name) for estimate in estimates] for name in ("mean", "low", "high"))
    return Spots([system.name for system in systems], means, lows, highs, singles, spoken(versus.metric))


def differences_spots(versus: Versus) -> Spots:
    """Each system minus the baseline."""
    scale = 100 if versus.points else 1
    known = [(system, system.difference) for system in versus.others if system.difference]

    def scaled(name: str) -> list[float | None]:
        ends = [getattr(difference, name) for _, difference in known]
        return [None if end is None else scale * end for end in ends]

    tones = ["gray" if tone == "muted" else tone for tone in (words.tone_of(words.verdict_of(difference)) for _, difference in known)]
    axis = f"{tables.difference_unit(versus)}{f' of {spoken(versus.metric)}' if versus.points else ''}, minus {versus.baseline}"
    return Spots([system.name for system, _ in known], scaled("mean"), scaled("low"), scaled("high"), (), axis, True, tones)


COSTS = {"time": (1.0, "seconds", "#,##0"), "memory": (1024.0**2, "MiB", "#,##0"), "parameters": (1e6, "millions", "General")}


def cost_slides(versus: Versus) -> list[Slide]:
    """Quality against each cost that differs."""
    made = []
    for cost, (unit, unit_name, form) in COSTS.items():
        known = charts.priced(versus, cost)
        if len({paid for _, paid, _ in known}) < 2:
            continue
        best = charts.front(versus, cost)
        points = [(system.name, paid / unit, quality, "accent" if system.name in best else "gray") for system, paid, quality in known]
        estimates = [system.metrics.get(versus.metric, Estimate()) for system, _, _ in known]
        ends = [(one.low, one.high) if one.low is not None and one.high is not None else None for one in estimates]
        paids = [x for _, x, _, _ in points]
        name = charts.COSTS[cost][0]
        wide = min(paids) > 0 and max(paids) > 8 * min(paids)
        cloud = Cloud(points, ends, f"{name} ({unit_name})", spoken(versus.metric), wide, "General" if wide else form)
        text = f"On the front, where none is both better and cheaper: {{front_{cost}}}."
        made.append(Slide(f"cost_{cost}", RESULTS, f"Quality against {name}", [text], cloud))
    return made


def fronts(versus: Versus) -> dict[str, str]:
    """`front_time` and its like: the systems that no other beats in quality and that cost."""
    found = {cost: sorted(charts.front(versus, cost)) for cost in COSTS}
    return {f"front_{cost}": words.listed(names, 5) if names else NONE for cost, names in found.items()}


def watched(versus: Versus) -> str:
    """What of the course of training is shown: the metric on validation rows, else their loss, else that of training; empty without any."""
    return next((name for name in (versus.metric, "loss", courses.TRAINING) if courses.courses(versus, name)), "")


def curves(versus: Versus, found: dict[str, courses.Course], metric: str) -> Curves:
    """The means over seeds; of more systems than there are colors the best ones in color, and the others gray."""
    ranked = [system.name for system in versus.measured if system.name in found]
    chosen = list(found) if len(found) <= MOST_CURVES else [*dict.fromkeys([versus.baseline, *ranked])][:MOST_CURVES]
    tones = dict(zip((name for name in chosen if name in found), SERIES, strict=False))
    lines = [(name, mean, tones.get(name, "gray")) for name, (mean, _) in found.items()]
    lines.sort(key=lambda line: line[2] == "gray")
    return Curves(lines, "step", courses.title_of(metric).lower())


def classes_slide(versus: Versus, classes: TableView) -> Slide:
    """The score of each class by system; of many classes those on which systems differ most, of many systems the baseline and the best."""
    columns = [column.name for column in classes.columns]
    first = list(dict.fromkeys([versus.baseline, *(system.name for system in versus.measured)]))[:MOST_COLUMNS]
    kept = [place for place, name in enumerate(columns) if place == 0 or len(columns) <= MOST_COLUMNS + 1 or name in first]
    lines = [[line[place] for place in kept] for line in classes.rows]
    text = "Mean over runs."
    if len(lines) > MOST_CLASSES:
        lines = sorted(lines, key=lambda line: -apart(line[1:]))[:MOST_CLASSES]
        text = f"Mean over runs. The {MOST_CLASSES} classes on which these systems differ most."
    grid = Grid([columns[place] for place in kept], lines, numbers=frozenset(range(1, len(kept))))
    return Slide("classes", RESULTS, classes.title, [text], grid)


def apart(scores: Sequence[str]) -> float:
    """How far the scores of a class lie apart."""
    known = [float(score) for score in scores if score != NONE]
    return max(known) - min(known) if known else 0.0


def examples(versus: Versus) -> list[Slide]:
    """Rows on which systems disagree, and texts that they wrote."""
    made = []
    found = rows.disagreements(versus)
    if found and found.rows:
        names = found.systems[:3]
        lines = [
            [telling.facing(row.text or row.place, 120), telling.facing(row.truth, 40),
             *(f"{'✓' if answer.mostly else '✗'} {telling.facing(answer.said, 40)}" for answer in row.answers[:3])]
            for row in found.rows[:MOST_EXAMPLES]
        ]  # fmt: skip
        tones = {
            (line, 2 + place): "accent" if answer.mostly else "contrast"
            for line, row in enumerate(found.rows[:MOST_EXAMPLES])
            for place, answer in enumerate(row.answers[:3])
        }
        heads = ["text", "truth", *(telling.facing(name, 40) for name in names)]
        grid = Grid(heads, lines, tones=tones, whole=False)
        made.append(Slide("examples", RESULTS, "Where they disagree", ["What most runs of a system say; ✓ is right."], grid))
    texts = written(versus)
    if texts and texts.cards:
        one = texts.cards[0]
        lines = [
            ["prompt", telling.both_ends(one.prompt.start + one.prompt.end)],
            *([answer.title, telling.facing(answer.passage.start, 260)] for answer in one.answers[:5]),
        ]
        lines += [["reference", telling.facing(one.reference.start, 260)]] if one.reference.start else []
        made.append(
            Slide(
                "written",
                RESULTS,
                "What they write",
                ["One prompt, answered by the first run of each."],
                Grid(["", "text"], lines, widths=(1.7, 5), whole=False),
            )
        )
    return made
