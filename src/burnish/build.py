"""Recipe -> Parts: the only place where data, task, model, method and optimizer meet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from burnish.core.errors import DataError, count, listing, nearest
from burnish.core.protocols import Anatomy, Course, Examples, Learner, Objective, Row, Technique
from burnish.data import audit, cache, mixture, sources, workers
from burnish.data.augment.rows import Rewording, texts_of
from burnish.data.encode import Encoded, class_counts
from burnish.data.spec import held_out
from burnish.data.split import limited, stratified
from burnish.engine import sampling
from burnish.engine.batches import Order
from burnish.engine.control import Control, Dynamic, Panel
from burnish.engine.sampling import Strata
from burnish.losses import classes
from burnish.losses.spec import CrossEntropy
from burnish.models.dropout import Dropouts, place_dropout
from burnish.optim.plateau import Plateau
from burnish.recipe import Recipe

if TYPE_CHECKING:
    import torch

    from burnish.engine.runtime import Runtime
    from burnish.losses.likelihood import Pointwise
    from burnish.models.fast.install import Fast
    from burnish.teaching import Teaching

WATCHED = ("validation", "test")
Note = Callable[[str], None]
Tell = Callable[[str, int, int], None]


@dataclass
class Gathered:
    """Rows of each part, where they came from, and what the user should know. A test *file* is not among them: it stays closed."""

    rows: dict[str, list[Row]]
    facts: dict[str, dict[str, Any]]
    warnings: list[str] = field(default_factory=list)


@dataclass
class Taught:
    """A task that has met its rows: what decides which examples make each step."""

    recipe: Recipe
    learner: Learner
    gathered: Gathered
    examples: dict[str, Any]


@dataclass
class Parts(Taught):
    """Everything that a run consists of; `savings` tells what of the work is left out, and what could not be, in sentences; `ahead` is how
    many blocks were computed before the first step."""

    tokenizer: Any
    model: torch.nn.Module
    anatomy: Anatomy
    runtime: Runtime
    max_length: int
    base_files: list[Path] | None
    weights: dict[str, int]
    dropouts: Dropouts
    fast: Fast
    teaching: Teaching | None = None
    savings: list[str] = field(default_factory=list)
    ahead: int = 0


def gather(recipe: Recipe) -> Gathered:
    """Reads, checks and splits the rows. Raises DataError naming file and row."""
    data, task = recipe.data, recipe.task
    warnings: list[str] = []
    rows = {"train": [row for source in mixture.each(data.train) for row in usable_rows(recipe, source, warnings)]}
    origin = mixture.titled(data.train)
    facts: dict[str, dict[str, Any]] = {"train": {"source": origin, "sha256": mixture.fingerprint(data.train)}}
    total = len(rows["train"])
    for part in reversed(WATCHED):
        wanted = getattr(data, part)
        size = held_out(wanted, total)
        if size is not None:
            strata = [mixture.stratum(row, task, data.train) for row in rows["train"]]
            kept, held = stratified(strata, size, data.seed + WATCHED.index(part))
            rows[part] = [rows["train"][index] for index in held]
            rows["train"] = [rows["train"][index] for index in kept]
            facts[part] = {"source": f"{wanted} of {origin}", "sha256": facts["train"]["sha256"]}
        elif wanted is not None and part != "test":
            rows[part] = usable_rows(recipe, wanted, warnings)
            facts[part] = {"source": wanted, "sha256": sources.fingerprint(wanted)}
    rows["train"] = limited(rows["train"], data.limit, data.seed)
    if not isinstance(data.train, str):
        facts["train"]["sources"] = mixture.facts(data.train, rows["train"])
    if "validation" in rows:
        note = audit.overlap_warning(rows["validation"], rows["train"], task.columns(False), "validation")
        warnings += [note] if note else []
    return Gathered(rows, facts, warnings)


def usable_rows(recipe: Recipe, source: str, warnings: list[str], labelled: bool = True) -> list[Row]:
    """The rows of a source that the task can use; how many were dropped is added to `warnings`."""
    rows = mixture.marked(sources.read(source), recipe.data.train, source)
    audit.require_columns(rows, recipe.task.columns(labelled))
    kept, problems = audit.usable(rows, lambda row: recipe.task.fault(row, labelled), recipe.data.bad_rows == "drop")
    if problems:
        first = "; ".join(problems[:3])
        warnings.append(
            f"{count(len(problems), 'row')} of {rows[0].file} left out, as the recipe says ({first}{'; ...' if len(problems) > 3 else ''})"
        )
    return kept


def bind(recipe: Recipe, gathered: Gathered, tokenizer: Any) -> Learner:
    """The task with its labels. Rows set aside for the test are checked too, for they are no file of their own."""
    watched = [row for part in WATCHED for row in gathered.rows.get(part, [])]
    return recipe.task.bind(gathered.rows["train"], watched, tokenizer)


def assemble(recipe: Recipe, gathered: Gathered, note: Note, tell: Tell = lambda what, done, total: None) -> Parts:
    """Loads tokenizer and model, applies the method, and encodes the rows that training reads."""
    from burnish.engine.runtime import Runtime
    from burnish.models import load
    from burnish.models.blocks import anatomy
    from burnish.models.fast.install import quicken
    from burnish.models.quantized import footprint

    runtime = Runtime(recipe.train.device, recipe.train.precision)
    tokenizer = load.load_tokenizer(recipe.model)
    known = len(tokenizer)
    learner = bind(recipe, gathered, tokenizer)
    new_tokens = range(known, len(tokenizer))
    recipe = recipe.model_copy(update={"task": learner.task})
    require_metric(recipe)
    require_rewording(recipe)
    note(f"loading {recipe.model.name}")
    device = runtime.device.type
    model, fresh = load.load_model(
        recipe.model, learner.auto_class, tokenizer, recipe.train.seed, len(new_tokens), device, **learner.config
    )
    weights = footprint(model)
    for name, value in learner.generation.items():
        setattr(model.generation_config, name, value)
    tokenizer.model_max_length = max_length = allowed_length(recipe, tokenizer, model)
    anatomy_ = replace(anatomy(model), fresh=fresh, new_tokens=new_tokens)
    in_files = not (recipe.model.fresh or new_tokens or recipe.model.layers) and set(fresh) <= set(anatomy_.head)
    base_files = load.weight_files(recipe.model) if in_files else None
    with load.quiet():
        model = recipe.method.apply(model, anatomy_)
    dropouts = place_dropout(model, anatomy_, recipe.dropout)
    model.to(runtime.device)
    fast = quicken(model, anatomy_, recipe.engine, recipe.method.positions)
    parts = Parts(recipe, learner, gathered, {}, tokenizer, model, anatomy_, runtime, max_length, base_files, weights, dropouts, fast)
    for part in list(gathered.rows):
        encode_part(parts, part, note, tell)
    gathered.warnings += fresh_warnings(recipe, fresh, anatomy_) + new_token_warnings(parts)
    return parts


def strata(parts: Taught) -> Strata | None:
    """What an epoch draws of each label or source, where the recipe says so; None where it holds every example once."""
    data, task, seed = parts.recipe.data, parts.recipe.task, parts.recipe.train.seed
    rows = [parts.gathered.rows["train"][row] for row in parts.examples["train"].rows]
    if data.balance is not None:
        return sampling.balanced([task.stratum(row) for row in rows], data.balance, seed)
    if isinstance(data.train, str):
        return None
    names = mixture.names_of(data.train)
    weights = {names[source]: weight for source, weight in data.train.items()}
    return sampling.mixed([row.file for row in rows], weights, data.epoch_rows or len(rows), seed)


def order(parts: Taught) -> Order:
    """Which examples make each step. Raises DataError where the rows do not give what the recipe wants to draw or to order by."""
    settings, data, examples, found = parts.recipe.train, parts.recipe.data, parts.examples["train"], strata(parts)
    plain = Order(
        num_examples=found.size if found else len(examples),
        batch_size=settings.batch_size,
        seed=settings.seed,
        arrange=data.order.arrange(examples, parts.gathered.rows["train"], settings.batch_size),
    )
    if found is None:
        return plain
    return replace(plain, draw=found.draw, arrange=found.alternate if data.balance == "batches" else plain.arrange)


def class_weights(parts: Parts) -> dict[str, tuple[float, float]] | None:
    """Label -> how many units of it an epoch holds, and what each counts in the loss; None where all count the same."""
    loss, examples = parts.recipe.loss, parts.examples["train"]
    if loss.class_weights is None:
        return None
    labels, found = parts.recipe.task.labels, strata(parts)
    times = np.ones(len(examples)) if found is None else found.frequencies
    counts = class_counts(examples.targets["labels"], times, len(labels))
    weights = classes.weights(loss.class_weights, loss.beta, labels, counts)
    return {label: (float(number), float(weight)) for label, number, weight in zip(labels, counts, weights, strict=True)}


def require_rewording(recipe: Recipe) -> None:
    """Raises DataError where the rows are to be put in words that their labels do not fit."""
    reason = recipe.data.augment.fault(recipe.task.word_for_word) if recipe.data.augment is not None else None
    if reason:
        raise DataError(f"`data.augment`: {reason}.")


def rewording(parts: Taught, device: str, tell: Tell) -> Rewording | None:
    """What makes the examples of a step of rows in other words, where the recipe says so."""
    augment, rows, reword = parts.recipe.data.augment, parts.gathered.rows["train"], parts.recipe.task.reworded
    if augment is None:
        return None
    encode: Any = parts.learner.encode
    changes = augment.build(lambda: texts_of(rows, reword), device, tell)
    return Rewording(parts.examples["train"], rows, reword, encode, changes, augment.share, (augment.seed, parts.recipe.train.seed))


def call_teacher(parts: Parts, note: Note, tell: Tell) -> None:
    """Opens the recipe's teacher, where it names one, and lets it answer. Raises ModelError where it does not fit the student."""
    if parts.recipe.distill is None:
        return
    from burnish.teaching import Pupil, teaching

    pupil = Pupil(parts.model, parts.learner, parts.tokenizer, parts.examples["train"], parts.runtime)
    parts.teaching = teaching(parts.recipe.distill, parts.recipe, pupil, note, tell)


def objective(parts: Parts) -> Objective:
    """What training makes smaller: the loss against the labels, and what a teacher adds to it."""
    from burnish.losses.likelihood import cross_entropy
    from burnish.losses.objective import Reshaped

    assert parts.recipe.distill is None or parts.teaching is not None, "the teacher is called first"
    loss = loss_of_choices(parts)
    if parts.teaching is not None:
        return parts.teaching.objective(parts.learner, loss)
    return parts.learner if loss is cross_entropy else Reshaped(parts.learner, loss)


def loss_of_choices(parts: Parts) -> Pointwise:
    """What a choice costs against its label: its cross-entropy, or what the recipe says. Raises DataError where that does not suit the labels."""
    import torch

    from burnish.losses.likelihood import cross_entropy

    loss, weighed = parts.recipe.loss, class_weights(parts)
    if loss == CrossEntropy():
        return cross_entropy
    return loss.build(torch.tensor([weight for _, weight in weighed.values()]) if weighed else None)


def techniques(parts: Parts, course: Course, optimizer: torch.optim.Optimizer) -> list[Technique]:
    """What takes part in every step, in this order."""
    from burnish.engine.averaging import Average

    taking_part = list(parts.recipe.method.techniques(parts.model, parts.anatomy, course))
    taking_part += parts.recipe.selective.techniques(parts.model, parts.anatomy)
    taking_part += controls(parts, optimizer)
    decay = parts.recipe.train.ema
    return [*taking_part, *([Average(optimizer, decay)] if decay is not None else [])]


def controls(parts: Parts, optimizer: torch.optim.Optimizer) -> list[Technique]:
    """What turns learning rate, dropout and weight decay on the way. Raises DataError where a metric is none of these rows."""
    chosen, metrics = control_of(parts.recipe), parts.recipe.task.metrics
    if chosen is None:
        return []
    if faults := chosen.faults(list(metrics), None):
        raise DataError(f"these rows do not suit what is to be watched: {'; '.join(faults)}.")
    return [chosen.technique(Panel(optimizer, parts.dropouts), metrics)]


def control_of(recipe: Recipe) -> Control | None:
    """The recipe's control; a schedule that waits for a plateau is one, which turns the learning rate alone."""
    if not isinstance(recipe.schedule, Plateau):
        return recipe.control
    watched = recipe.schedule.model_dump(include={"metric", "patience", "min_delta", "lr_factor", "lr_min"})
    return Dynamic(**watched, dropout_step=0.0, weight_decay_factor=1.0)


def require_metric(recipe: Recipe) -> None:
    """Raises DataError where the metric to choose by is not one that these rows can be measured with."""
    best, known = recipe.train.keep_best, recipe.task.metrics
    if best is not None and best not in known:
        raise DataError(f"`train.keep_best`: these rows have no metric `{best}`{nearest(best, known)} (they have: {', '.join(known)}).")


def encode_part(parts: Parts, part: str, note: Note, tell: Tell) -> None:
    """Encodes the rows of a part, drops those that teach nothing if the recipe says so, and enters what came of it into the facts."""
    gathered = parts.gathered
    examples, rows = encoded(parts.recipe, parts.learner, gathered.rows[part], note, tell)
    left_out = len(gathered.rows[part]) - len(rows)
    if left_out:
        gathered.warnings.append(f"{count(left_out, f'{part} row')} left out, as the recipe says: nothing is supervised in them")
    gathered.rows[part], parts.examples[part] = rows, examples
    gathered.facts[part] |= {"rows": len(rows), "examples": len(examples), "truncated": sum(examples.cut.values())}
    gathered.warnings += [
        f"{count(rows_cut, f'{part} row')} of {len(rows):,} longer than {parts.max_length} tokens: {how}"
        for how, rows_cut in examples.cut.items()
    ]


def open_test(parts: Parts, note: Note, tell: Tell) -> None:
    """Reads the test file, for the first time, and adds its rows to the parts. Raises DataError where they cannot be used."""
    recipe, gathered = parts.recipe, parts.gathered
    if "test" not in gathered.rows:
        source = str(recipe.data.test)
        rows = usable_rows(recipe, source, gathered.warnings)
        gathered.facts["test"] = {"source": source, "sha256": sources.fingerprint(source)}
        try:
            gathered.rows["test"] = rows
            encode_part(parts, "test", note, tell)
        except DataError:
            del gathered.rows["test"], gathered.facts["test"]
            raise
    warning = audit.overlap_warning(gathered.rows["test"], gathered.rows["train"], recipe.task.columns(False), "test")
    gathered.warnings += [warning] if warning else []


def encoded(recipe: Recipe, learner: Learner, rows: Sequence[Row], note: Note, tell: Tell) -> tuple[Examples, list[Row]]:
    """Encoded rows, from the cache where they were encoded before, and the rows that they are of.

    Raises DataError naming the rows in which nothing is supervised, unless the recipe drops such rows and some are left.
    """
    examples = tokens(recipe, learner, rows, note, tell)
    units = np.bincount(examples.rows, weights=examples.weights, minlength=len(rows))
    empty = np.flatnonzero(units == 0)
    if not len(empty):
        return examples, list(rows)
    title = f"nothing is supervised in {count(len(empty), 'row')} of {len(rows):,}, so that nothing can be learned from"
    hint = "Look at them with `burnish data show RECIPE`; a larger data.max_length may help"
    problems = [rows[int(index)].place for index in empty]
    if len(empty) == len(rows):
        raise DataError(f"{listing(f'{title} any of them', problems)}\n{hint}.")
    if recipe.data.bad_rows != "drop":
        raise DataError(f"{listing(f'{title} them', problems)}\n{hint}, or leave them out with data.bad_rows=drop.")
    kept = [row for row, learned in zip(rows, units, strict=True) if learned]
    return tokens(recipe, learner, kept, note, tell), kept


def tokens(recipe: Recipe, learner: Learner, rows: Sequence[Row], note: Note, tell: Tell) -> Examples:
    """The examples of rows: those that the cache holds, or newly made ones."""
    name = cache.key(rows, learner.tokenizer, learner.task, True)
    encode: Any = learner.encode

    def make() -> Encoded:
        return workers.encode(rows, encode, recipe.data.processes, lambda done, total: tell("rows encoded", done, total))

    return cache.remembered(name, make, note)


def allowed_length(recipe: Recipe, tokenizer: Any, model: Any) -> int:
    """Tokens a row may have. Raises DataError where the recipe asks for more than the model can read."""
    from burnish.models.load import length_limit

    limit, wanted = length_limit(tokenizer, model) - recipe.method.positions, recipe.data.max_length
    if limit < 1 and recipe.method.positions:
        room = limit + recipe.method.positions
        raise DataError(
            f"`method.virtual_tokens`: {recipe.method.positions} leave no room for a text, since {recipe.model.name} reads {room} tokens at once."
        )
    if limit < 1 or (wanted is not None and wanted > limit):
        taken = f" beside the {recipe.method.positions} virtual tokens of method={recipe.method.name}" if recipe.method.positions else ""
        raise DataError(f"`data.max_length`: {wanted or 1} tokens are more than {recipe.model.name} can read{taken}, {limit}.")
    return wanted or limit


def fresh_warnings(recipe: Recipe, fresh: Sequence[str], anatomy: Anatomy) -> list[str]:
    """A sentence where parameters below the head start at random although weights were loaded."""
    lost = [] if recipe.model.fresh else [name for name in fresh if name not in anatomy.head]
    if not lost:
        return []
    return [
        f"{count(len(lost), 'parameter')} below the head are not in the weights of {recipe.model.name} and start at random ({lost[0]}, ...)"
    ]


def new_token_warnings(parts: Parts) -> list[str]:
    """A sentence where the task added tokens whose embeddings the method holds fixed."""
    tokens = [parts.tokenizer.convert_ids_to_tokens(token) for token in parts.anatomy.new_tokens]
    table = set(parts.anatomy.embeddings)
    learning = [name for name, parameter in parts.model.named_parameters() if parameter.requires_grad]
    if not tokens or any(name in table or "trainable_tokens" in name for name in learning):
        return []
    return [f"the embeddings of the added tokens ({', '.join(tokens)}) do not learn under method={parts.recipe.method.name}"]


def label_counts(recipe: Recipe, gathered: Gathered) -> dict[str, dict[str, int]] | None:
    """How many rows of each part have each label, or None where a task has no few labels to count."""
    counts = {part: Counter(str(recipe.task.stratum(row)) for row in rows) for part, rows in gathered.rows.items()}
    if len(counts["train"]) < 2:
        return None
    return {part: dict(sorted(found.items())) for part, found in counts.items()}
