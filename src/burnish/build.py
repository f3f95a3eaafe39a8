"""Recipe -> Parts: the only place where data, task, model, method and optimizer meet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from burnish.core.errors import DataError, count
from burnish.core.protocols import Anatomy, Examples, Learner, Row
from burnish.data import audit, sources
from burnish.data.spec import held_out
from burnish.data.split import limited, stratified
from burnish.recipe import Recipe

if TYPE_CHECKING:
    import torch

    from burnish.engine.runtime import Runtime

WATCHED = ("validation", "test")


@dataclass
class Gathered:
    """Rows of each part, where they came from, and what the user should know. A test *file* is not among them: it stays closed."""

    rows: dict[str, list[Row]]
    facts: dict[str, dict[str, Any]]
    warnings: list[str] = field(default_factory=list)


@dataclass
class Parts:
    """Everything that a run consists of."""

    recipe: Recipe
    learner: Learner
    gathered: Gathered
    examples: dict[str, Any]
    tokenizer: Any
    model: torch.nn.Module
    anatomy: Anatomy
    runtime: Runtime
    max_length: int
    base_files: list[Path] | None


def gather(recipe: Recipe) -> Gathered:
    """Reads, checks and splits the rows. Raises DataError naming file and row."""
    data, task = recipe.data, recipe.task
    warnings: list[str] = []
    rows = {"train": usable_rows(recipe, data.train, warnings)}
    facts = {"train": {"source": data.train, "sha256": sources.fingerprint(data.train)}}
    total = len(rows["train"])
    for part in reversed(WATCHED):
        wanted = getattr(data, part)
        size = held_out(wanted, total)
        if size is not None:
            strata = [task.stratum(row) for row in rows["train"]]
            kept, held = stratified(strata, size, data.seed + WATCHED.index(part))
            rows[part] = [rows["train"][index] for index in held]
            rows["train"] = [rows["train"][index] for index in kept]
            facts[part] = {"source": f"{wanted} of {data.train}", "sha256": facts["train"]["sha256"]}
        elif wanted is not None and part != "test":
            rows[part] = usable_rows(recipe, wanted, warnings)
            facts[part] = {"source": wanted, "sha256": sources.fingerprint(wanted)}
    rows["train"] = limited(rows["train"], data.limit, data.seed)
    if "validation" in rows:
        note = audit.overlap_warning(rows["validation"], rows["train"], task.columns(False), "validation")
        warnings += [note] if note else []
    return Gathered(rows, facts, warnings)


def usable_rows(recipe: Recipe, source: str, warnings: list[str], labelled: bool = True) -> list[Row]:
    """The rows of a source that the task can use; how many were dropped is added to `warnings`."""
    rows = sources.read(source)
    audit.require_columns(rows, recipe.task.columns(labelled))
    kept, problems = audit.usable(rows, lambda row: recipe.task.fault(row, labelled), recipe.data.bad_rows == "drop")
    if problems:
        first = "; ".join(problems[:3])
        warnings.append(
            f"{count(len(problems), 'row')} of {rows[0].file} left out, as the recipe says ({first}{'; ...' if len(problems) > 3 else ''})"
        )
    return kept


def bind(recipe: Recipe, gathered: Gathered) -> Learner:
    """The task with its labels. Rows set aside for the test are checked too, for they are no file of their own."""
    watched = [row for part in WATCHED for row in gathered.rows.get(part, [])]
    return recipe.task.bind(gathered.rows["train"], watched)


def assemble(recipe: Recipe, gathered: Gathered, note: Callable[[str], None]) -> Parts:
    """Loads tokenizer and model, applies the method, and encodes the rows that training reads."""
    from burnish.engine.runtime import Runtime
    from burnish.models import load
    from burnish.models.blocks import anatomy

    runtime = Runtime(recipe.train.device, recipe.train.precision)
    learner = bind(recipe, gathered)
    recipe = recipe.model_copy(update={"task": learner.task})
    note(f"loading {recipe.model.name}")
    tokenizer = load.load_tokenizer(recipe.model)
    model, fresh = load.load_model(recipe.model, learner.auto_class, tokenizer, recipe.train.seed, **learner.config)
    max_length = allowed_length(recipe, tokenizer, model)
    tokenizer.model_max_length = max_length
    anatomy_ = anatomy(model)
    in_files = not recipe.model.from_scratch and set(fresh) <= set(anatomy_.head)
    base_files = load.weight_files(recipe.model) if in_files else None
    with load.quiet():
        model = recipe.method.apply(model, anatomy_)
    model.to(runtime.device)
    examples = {}
    for part, rows in gathered.rows.items():
        note(f"encoding {count(len(rows), f'{part} row')}")
        examples[part] = encoded(learner, rows, tokenizer, max_length)
        gathered.facts[part] |= {"rows": len(rows), "truncated": examples[part].truncated}
    gathered.warnings += fresh_warnings(recipe, fresh, anatomy_) + truncation_warnings(gathered, max_length)
    return Parts(recipe, learner, gathered, examples, tokenizer, model, anatomy_, runtime, max_length, base_files)


def open_test(parts: Parts) -> None:
    """Reads the test file, for the first time, and adds its rows to the parts. Raises DataError where they cannot be used."""
    recipe, gathered = parts.recipe, parts.gathered
    if "test" not in gathered.rows:
        source = str(recipe.data.test)
        rows = usable_rows(recipe, source, gathered.warnings)
        examples = encoded(parts.learner, rows, parts.tokenizer, parts.max_length)
        gathered.rows["test"], parts.examples["test"] = rows, examples
        facts = {"source": source, "sha256": sources.fingerprint(source), "rows": len(rows), "truncated": examples.truncated}
        gathered.facts["test"] = facts
    note = audit.overlap_warning(gathered.rows["test"], gathered.rows["train"], recipe.task.columns(False), "test")
    gathered.warnings += [note] if note else []


def encoded(learner: Learner, rows: Sequence[Row], tokenizer: Any, max_length: int, labelled: bool = True) -> Examples:
    """Encoded rows. Raises DataError naming rows in which nothing is left to learn from."""
    examples = learner.encode(rows, tokenizer, max_length, labelled)
    empty = [row.place for row, weight in zip(rows, examples.weights, strict=True) if weight == 0]
    if empty and labelled:
        raise DataError(f"nothing is supervised in {count(len(empty), 'row')}: {', '.join(empty[:8])}")
    return examples


def allowed_length(recipe: Recipe, tokenizer: Any, model: Any) -> int:
    """Tokens a row may have. Raises DataError where the recipe asks for more than the model can read."""
    from burnish.models.load import length_limit

    limit, wanted = length_limit(tokenizer, model), recipe.data.max_length
    if wanted is not None and wanted > limit:
        raise DataError(f"`data.max_length`: {wanted} tokens are more than {recipe.model.name} can read, {limit}.")
    return wanted or limit


def fresh_warnings(recipe: Recipe, fresh: Sequence[str], anatomy: Anatomy) -> list[str]:
    """A sentence where parameters below the head start at random although weights were loaded."""
    lost = [] if recipe.model.from_scratch else [name for name in fresh if name not in anatomy.head]
    if not lost:
        return []
    return [
        f"{count(len(lost), 'parameter')} below the head are not in the weights of {recipe.model.name} and start at random ({lost[0]}, ...)"
    ]


def truncation_warnings(gathered: Gathered, max_length: int) -> list[str]:
    return [
        f"{count(facts['truncated'], f'{part} row')} of {facts['rows']:,} longer than {max_length} tokens: cut at the end"
        for part, facts in gathered.facts.items()
        if facts.get("truncated")
    ]


def label_counts(recipe: Recipe, gathered: Gathered) -> dict[str, dict[str, int]] | None:
    """How many rows of each part have each label, or None where a task has no few labels to count."""
    counts = {part: Counter(str(recipe.task.stratum(row)) for row in rows) for part, rows in gathered.rows.items()}
    if len(counts["train"]) < 2:
        return None
    return {part: dict(sorted(found.items())) for part, found in counts.items()}
