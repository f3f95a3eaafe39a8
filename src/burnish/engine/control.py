"""Training that turns its own knobs: learning rate, dropout and weight decay, by what the validation rows say.

Imports no torch, for the recipe does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import Field, model_validator

from burnish.core.errors import RunError, count
from burnish.core.protocols import Technique
from burnish.core.registry import register
from burnish.core.rundir import RunFolder
from burnish.core.spec import Spec
from burnish.engine.events import Moved

if TYPE_CHECKING:
    import torch

RATE, DROPOUT, DECAY = "learning rate", "dropout", "weight decay"


class Raised(Protocol):
    """The probabilities of dropout in a model: the smallest it began with, and a way to raise all of them."""

    @property
    def least(self) -> float | None: ...

    def raise_by(self, amount: float, most: float) -> None: ...


@dataclass(frozen=True)
class Knob:
    """How far something is turned, and the bound beyond which it never is."""

    value: float
    limit: float


@dataclass
class Panel:
    """What can be turned while a run goes on; what it began with stays in memory, so that each turn is counted from there."""

    optimizer: torch.optim.Optimizer
    dropouts: Raised
    decays: Sequence[float] = field(init=False)

    def __post_init__(self) -> None:
        self.decays = [group["weight_decay"] for group in self.optimizer.param_groups]

    def turn(self, knobs: Mapping[str, Knob]) -> None:
        """Sets everything for the next update; the learning rates are those of the schedule, just set."""
        for group, decay in zip(self.optimizer.param_groups, self.decays, strict=True):
            if RATE in knobs:
                group["lr"] *= knobs[RATE].value
            if DECAY in knobs:
                group["weight_decay"] = decay * knobs[DECAY].value
        if DROPOUT in knobs:
            self.dropouts.raise_by(knobs[DROPOUT].value, knobs[DROPOUT].limit)


@dataclass(frozen=True)
class Steps:
    """How far each knob is turned at once, and how far at most."""

    lr_factor: float = 1.0
    lr_min: float = 0.0
    dropout_step: float = 0.0
    dropout_max: float = 0.0
    weight_decay_factor: float = 1.0
    weight_decay_max: float = 0.0

    def after(self, knobs: Mapping[str, Knob], panel: Panel) -> dict[str, Knob]:
        """The knobs after one move. Those that are at their bound, or have nothing to turn, stay."""
        rate, dropout, decay = (knobs[name].value if name in knobs else start for name, start in STARTS.items())
        made = {}
        if (lower := max(rate * self.lr_factor, self.lr_min)) < rate:
            made[RATE] = Knob(lower, self.lr_min)
        least = panel.dropouts.least
        if least is not None and (more := min(dropout + self.dropout_step, self.dropout_max - least)) > dropout:
            made[DROPOUT] = Knob(more, self.dropout_max)
        largest = max(panel.decays)
        if largest > 0 and (stronger := min(decay * self.weight_decay_factor, self.weight_decay_max / largest)) > decay:
            made[DECAY] = Knob(stronger, self.weight_decay_max / largest)
        return made


STARTS = {RATE: 1.0, DROPOUT: 0.0, DECAY: 1.0}
"""Where each knob stands at first: two are factors, dropout is a probability added to every one."""


@dataclass
class Watch:
    """Sees when it is time for a move: a metric that gets no better, or a validation loss that leaves the training loss behind."""

    metric: str
    higher: bool
    patience: int | None = None
    min_delta: float = 0.0
    gap: float | None = None
    window: int = 1
    best: float | None = None
    waited: int = 0
    gaps: list[float] = field(default_factory=list)

    def see(self, metrics: Mapping[str, float], training: float) -> str | None:
        """Why a move is due after this evaluation, or None. After one, waiting begins anew."""
        reasons = [reason for reason in (self.stalled(metrics[self.metric]), self.apart(metrics, training)) if reason]
        if not reasons:
            return None
        self.waited, self.gaps = 0, self.gaps[-1:]
        return " and ".join(reasons)

    def stalled(self, value: float) -> str | None:
        """Whether a value comes after `patience` evaluations in which none was better than the best by more than `min_delta`."""
        gain = 0.0 if self.best is None else value - self.best if self.higher else self.best - value
        if value == value and (self.best is None or gain > self.min_delta):
            self.best, self.waited = value, 0
        else:
            self.waited += 1
        if self.patience is None or self.waited < self.patience:
            return None
        return f"{self.metric} no better than {self.best if self.best is not None else value:.4g} in {count(self.patience, 'evaluation')}"

    def apart(self, metrics: Mapping[str, float], training: float) -> str | None:
        """Whether validation loss minus training loss has grown by more than `gap` over the last `window` evaluations."""
        if self.gap is None:
            return None
        self.gaps = [*self.gaps, metrics["loss"] - training][-self.window - 1 :]
        grown = self.gaps[-1] - self.gaps[0]
        if len(self.gaps) <= self.window or not grown > self.gap:
            return None
        return f"validation loss grew {grown:.4g} away from training loss in {count(self.window, 'evaluation')}"


class Moving(Technique):
    """Moves knobs by what it sees: decided when the validation rows were scored, done and told as the next step begins."""

    def __init__(self, panel: Panel, steps: Steps, watch: Watch) -> None:
        self.panel, self.steps, self.watch = panel, steps, watch
        self.knobs: dict[str, Knob] = {}
        self.decided: list[Moved] = []
        self.tell: Callable[[Any], None] = lambda event: None

    def announce(self, tell: Callable[[Any], None]) -> None:
        self.tell = tell

    def evaluated(self, step: int, metrics: Mapping[str, float], training: float) -> None:
        why = self.watch.see(metrics, training)
        if why is None:
            return
        for what, knob in self.steps.after(self.knobs, self.panel).items():
            before = self.knobs[what].value if what in self.knobs else STARTS[what]
            self.decided.append(Moved(step, what, before, knob.value, knob.limit, why))
            self.knobs[what] = knob

    def before(self, step: int) -> None:
        for move in self.decided:
            self.tell(move)
        self.decided = []
        self.panel.turn(self.knobs)

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        knobs = {what: asdict(knob) for what, knob in self.knobs.items()}
        seen = {"best": self.watch.best, "waited": self.watch.waited, "gaps": list(self.watch.gaps)}
        return {}, {"knobs": knobs, "decided": [asdict(move) for move in self.decided], "seen": seen}

    def restore(self, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> None:
        self.knobs = {what: Knob(**knob) for what, knob in values["knobs"].items()}
        self.decided = [Moved(**move) for move in values["decided"]]
        self.watch.best, self.watch.waited = values["seen"]["best"], values["seen"]["waited"]
        self.watch.gaps = list(values["seen"]["gaps"])


class Replaying(Technique):
    """Makes moves that are known beforehand: a function of the step alone, so that there is nothing to keep."""

    def __init__(self, panel: Panel, moves: Sequence[Moved]) -> None:
        self.panel, self.moves = panel, moves
        self.tell: Callable[[Any], None] = lambda event: None

    def announce(self, tell: Callable[[Any], None]) -> None:
        self.tell = tell

    def before(self, step: int) -> None:
        for move in self.moves:
            if move.step == step:
                self.tell(move)
        self.panel.turn({move.what: Knob(move.after, move.limit) for move in self.moves if move.step <= step})


class Control(Protocol):
    """The recipe's side of a control."""

    def technique(self, panel: Panel, metrics: Mapping[str, bool]) -> Technique:
        """`metrics` are those of the task, with whether more is better."""
        ...

    def told(self) -> str:
        """What it does, in a sentence."""
        ...

    def faults(self, metrics: Sequence[str] | None, watched: bool | None) -> list[str]:
        """What does not go together with the task's metrics, and with whether there are validation rows; None where unknown."""
        ...


@register("control")
class Dynamic(Spec):
    """Where the validation rows show that training stalls or overfits, turns learning rate, dropout and weight decay.

    Each move multiplies the learning rates that the schedule gives, adds to every probability of dropout that the model (or
    `dropout:`) has, and multiplies weight decay; each knob stops at its bound. A falling rate settles what has been found, more dropout
    and decay hold back what is only learned by heart. Each move stands in metrics.jsonl and in the report, and can be replayed.
    After ReduceLROnPlateau of torch; Prechelt 1998, "Early Stopping - But When?", on telling overfitting from the two losses.
    """

    name: Literal["dynamic"] = "dynamic"

    metric: str = "loss"
    """The validation metric that is watched."""

    patience: int | None = Field(default=2, ge=1)
    """A move is made after so many evaluations without a better metric; 1 to 5, null not to watch it."""

    min_delta: float = Field(default=0.0, ge=0)
    """By how much a metric has to be better to count, in its own units; 0 to 0.01."""

    gap: float | None = Field(default=None, gt=0)
    """A move is made where validation loss minus training loss has grown by more than this, in nats; 0.05 to 0.5, null not to watch it."""

    window: int = Field(default=1, ge=1)
    """Over how many evaluations the gap has to have grown; 1 to 5."""

    lr_factor: float = Field(default=0.5, gt=0, le=1)
    """What a move multiplies the learning rates by; 0.1 to 0.7, 1 to leave them."""

    lr_min: float = Field(default=0.01, ge=0, le=1)
    """The least share of the schedule's learning rate that is left; 0.001 to 0.1."""

    dropout_step: float = Field(default=0.05, ge=0, lt=1)
    """What a move adds to each probability of dropout; 0.02 to 0.1, 0 to leave them."""

    dropout_max: float = Field(default=0.3, ge=0, lt=1)
    """The probability beyond which none is raised; 0.2 to 0.5."""

    weight_decay_factor: float = Field(default=1.5, ge=1)
    """What a move multiplies weight decay by; 1.2 to 3, 1 to leave it."""

    weight_decay_max: float = Field(default=0.1, ge=0)
    """The weight decay beyond which it is not raised; 0.05 to 0.3."""

    @model_validator(mode="after")
    def moves_something(self) -> Dynamic:
        """Refuses a control that sees nothing or turns nothing."""
        if self.patience is None and self.gap is None:
            raise ValueError("it watches nothing: give patience or gap")
        if self.lr_factor == 1 and self.dropout_step == 0 and self.weight_decay_factor == 1:
            raise ValueError("it turns nothing: give lr_factor below 1, dropout_step above 0 or weight_decay_factor above 1")
        return self

    def technique(self, panel: Panel, metrics: Mapping[str, bool]) -> Technique:
        steps = Steps(self.lr_factor, self.lr_min, self.dropout_step, self.dropout_max, self.weight_decay_factor, self.weight_decay_max)
        watch = Watch(self.metric, metrics[self.metric], self.patience, self.min_delta, self.gap, self.window)
        return Moving(panel, steps, watch)

    def told(self) -> str:
        stalls = f"after {count(self.patience, 'evaluation')} without a better {self.metric}" if self.patience else ""
        grows = f"where the gap between the losses grows by more than {self.gap:g}" if self.gap else ""
        moves = [
            f"learning rate ×{self.lr_factor:g} (to ×{self.lr_min:g})" if self.lr_factor < 1 else "",
            f"dropout +{self.dropout_step:g} (to {self.dropout_max:g})" if self.dropout_step else "",
            f"weight decay ×{self.weight_decay_factor:g} (to {self.weight_decay_max:g})" if self.weight_decay_factor > 1 else "",
        ]
        return f"{' and '.join(filter(None, (stalls, grows)))}: {', '.join(filter(None, moves))}"

    def faults(self, metrics: Sequence[str] | None, watched: bool | None) -> list[str]:
        return watching_faults("control", self.metric, metrics, watched)


@register("control")
class Replay(Spec):
    """Makes the moves of an earlier run at the same steps, whatever this run's validation rows say: with the same recipe, the same weights.

    To go without validation rows (all rows to learn from), or to see what the moves alone were worth.
    """

    name: Literal["replay"] = "replay"

    run: str = Field(min_length=1)
    """Folder of the finished run whose moves are made again."""

    def technique(self, panel: Panel, metrics: Mapping[str, bool]) -> Technique:
        return Replaying(panel, moves_of(self.run))

    def told(self) -> str:
        return f"{count(len(moves_of(self.run)), 'move')} of {self.run} made again"

    def faults(self, metrics: Sequence[str] | None, watched: bool | None) -> list[str]:
        try:
            moves_of(self.run)
        except RunError as error:
            return [f"`control.run`: {error}"]
        return []


def watching_faults(section: str, metric: str, metrics: Sequence[str] | None, watched: bool | None) -> list[str]:
    """Why a metric cannot be watched: it is not one of the task's, or there are no rows to measure it on."""
    from burnish.core.errors import nearest

    found = []
    if metrics is not None and metric not in metrics:
        found.append(f"`{section}.metric`: there is no metric `{metric}`{nearest(metric, metrics)} (known: {', '.join(metrics)})")
    if watched is False:
        found.append(f"`{section}` needs validation rows to watch: give data.validation a file or a share such as 10%")
    return found


def moves_of(path: str | Path) -> list[Moved]:
    """The moves of a finished run, in their order. Raises RunError where there is no such run, or it made none."""
    folder = RunFolder.open(Path(path).expanduser())
    if not folder.finished:
        raise RunError(f"the run {path} is not finished, so that not all of its moves are known: `burnish resume {path}` first")
    names = Moved.__dataclass_fields__
    lines = [line for line in folder.read_metrics() if line.get("kind") == "move"]
    if not lines:
        raise RunError(f"the run {path} made no moves, so that there are none to make again: leave `control` out")
    return [Moved(**{name: line[name] for name in names}) for line in lines]
