"""Logits that are not there yet: the same losses, gradients and weights as with whole logits, which are never made."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from burnish.core import deferred
from burnish.core.deferred import Deferred, DeferredGrid, through, whole
from burnish.core.errors import BurnishError
from burnish.losses.distillation import fitted, softened
from burnish.losses.likelihood import by_example, cross_entropy, of_tokens
from burnish.losses.weighted import cross_entropy as weighed_cross_entropy
from burnish.losses.weighted import focal

ROWS, WIDTH, CLASSES = 23, 8, 11
WEIGHTS = torch.linspace(0.5, 2.0, CLASSES)
LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    "plain": cross_entropy,
    "smoothed": weighed_cross_entropy(0.1, None),
    "smoothed, weighed": weighed_cross_entropy(0.2, WEIGHTS),
    "focal, weighed": focal(1.5, WEIGHTS),
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(params=["kept", "recomputed", "row by row"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Logits few enough to be kept, or computed again in chunks, of several rows or of one."""
    if request.param != "kept":
        cut(monkeypatch, 5 if request.param == "recomputed" else 1)
    return request.param


def cut(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Chunks of `rows` rows or some more, of which nothing is kept."""
    for name, value in (("KEPT", 0), ("CHUNK", 1), ("FEWEST", rows), ("MOST", 10**6)):
        monkeypatch.setattr(deferred, name, value)


class Watched(nn.Linear):
    """A head that writes down how large the logits are that it gives."""

    def __init__(self, width: int, size: int, bias: bool = True) -> None:
        super().__init__(width, size, bias)
        self.sizes: list[int] = []

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        logits = super().forward(hidden)
        self.sizes.append(logits.numel())
        return logits


def problem() -> tuple[torch.Tensor, Watched, torch.Tensor]:
    """Rows (S, D) that want a gradient, a head, and targets (S,)."""
    return torch.randn(ROWS, WIDTH, requires_grad=True), Watched(WIDTH, CLASSES), torch.randint(CLASSES, (ROWS,))


def gradients(values: torch.Tensor, hidden: torch.Tensor, head: nn.Module) -> list[torch.Tensor]:
    """Of a sum that counts each row otherwise, so that none may be taken for another."""
    return list(torch.autograd.grad((values.movedim(0, -1) * torch.linspace(1, 2, len(values))).sum(), [hidden, *head.parameters()]))


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_gradients_are_those_of_whole_logits(name: str, way: str) -> None:
    hidden, head, targets = problem()
    loss = LOSSES[name]
    found, plain = through(loss, Deferred(hidden, head, CLASSES), targets), loss(head(hidden), targets)
    torch.testing.assert_close(found, plain)
    torch.testing.assert_close(gradients(found, hidden, head), gradients(plain, hidden, head))
    if name == "plain":
        torch.testing.assert_close(found, F.cross_entropy(head(hidden), targets, reduction="none"))


@pytest.mark.parametrize("taught", ["there", "deferred"])
def test_a_teachers_rows_go_beside(taught: str, way: str) -> None:
    """Rows narrower than the student's, which may be deferred too: they get no gradient, and are nowhere whole."""
    hidden, head, targets = problem()
    teacher = Watched(WIDTH, CLASSES - 2).requires_grad_(False)
    rows = Deferred(torch.randn(ROWS, WIDTH), teacher, CLASSES - 2)

    def both(logits: torch.Tensor, targets: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        soft = softened(logits, fitted(wanted, logits.shape[1]), 2.0)
        return torch.stack([cross_entropy(logits, targets), soft], dim=1)

    plain = both(head(hidden), targets, rows.whole())
    teacher.sizes.clear()
    found = through(both, Deferred(hidden, head, CLASSES), targets, rows if taught == "deferred" else rows.whole())
    torch.testing.assert_close(found, plain)
    torch.testing.assert_close(gradients(found, hidden, head), gradients(plain, hidden, head))
    if way != "kept" and taught == "deferred":
        assert max(teacher.sizes) <= 6 * (CLASSES - 2)
    torch.testing.assert_close(through(both, head(hidden), targets, rows), plain)


def test_weights_after_some_steps_with_a_tied_head(way: str) -> None:
    """The table gets its gradient from the tokens that are read and from those that are foretold."""

    def trained(put_off: bool) -> nn.Module:
        torch.manual_seed(3)
        model = nn.ModuleDict({"table": nn.Embedding(CLASSES, WIDTH), "mixed": nn.Linear(WIDTH, WIDTH)})
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)

        def head(hidden: torch.Tensor) -> torch.Tensor:
            return F.linear(hidden, model["table"].weight)  # type: ignore[arg-type]

        for step in range(4):
            ids = torch.randint(CLASSES, (4, 6), generator=torch.Generator().manual_seed(step))
            labels = ids.roll(-1, dims=1).masked_fill(torch.arange(6) % 3 == 2, -100)
            hidden, read = torch.tanh(model["mixed"](model["table"](ids))), labels != -100
            logits = DeferredGrid(read, Deferred(hidden[read], head, CLASSES)) if put_off else head(hidden)
            loss = by_example([of_tokens(logits, labels, read)], 4).sum() / 16
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return model

    found, plain = trained(True), trained(False)
    for one, other in zip(found.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


class Largest(TorchDispatchMode):
    """The most elements of any tensor that is made within, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        for one in found if isinstance(found, tuple | list) else [found]:
            self.elements = max(self.elements, one.numel() if isinstance(one, torch.Tensor) else 0)
        return found


@pytest.mark.parametrize("learning", [True, False])
def test_no_tensor_is_as_large_as_the_logits(learning: bool) -> None:
    """1,000 rows over a vocabulary of 50,000: a fifth of the 50 million logits is there at a time, and nothing that is larger."""
    rows, size = 1000, 50_000
    head = Watched(2, size, bias=False)
    hidden, targets = torch.randn(rows, 2, requires_grad=learning), torch.randint(size, (rows,))
    with Largest() as largest, torch.set_grad_enabled(learning):
        losses = through(cross_entropy, Deferred(hidden, head, size), targets)
        assert sum(head.sizes) == (rows + learning) * size  # one row more, to see what the head learns by
        if learning:
            losses.sum().backward()
            assert sum(head.sizes) == (rows + 1) * size
    assert max(head.sizes) == largest.elements == rows // 5 * size
    assert losses.mean().item() == pytest.approx(math.log(size), rel=0.1)


@pytest.mark.parametrize("rows", [0, 1, 127, 129, 500, 5000])
@pytest.mark.parametrize("size", [50, 30_000, 10**7])
def test_chunks_are_few_and_about_equally_large(rows: int, size: int) -> None:
    logits = Deferred(torch.zeros(rows, 1), nn.Identity(), size)
    chunk = logits.chunk()
    parts = [len(part) for part in logits.split(chunk)]
    assert sum(parts) == rows and len(parts) <= deferred.MOST and parts[-1] >= chunk - len(parts)
    least = max(deferred.FEWEST, rows / deferred.MOST, deferred.CHUNK / size)
    assert chunk <= 2 * math.ceil(least) and (len(parts) == 1 or chunk >= least)


@pytest.mark.parametrize("narrow", [False, True])
def test_rows_that_count_differently_are_computed_again(narrow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient is computed along with the losses for rows that count alike, and for others (and in fp16) in backward."""
    precision = {"rtol": 2e-2, "atol": 2e-3} if narrow else {}
    cut(monkeypatch, 5)
    counts = torch.linspace(0.5, 2.0, ROWS)
    for count in (torch.ones(ROWS), counts):
        hidden, head, targets = problem()
        with torch.autocast("cpu", torch.float16) if narrow else nullcontext():
            losses = through(cross_entropy, Deferred(hidden, head, CLASSES), targets)
        (losses * count).sum().backward()
        found = [hidden.grad, *(parameter.grad for parameter in head.parameters())]
        other, plain, _ = problem()
        plain.load_state_dict(head.state_dict())
        other.data.copy_(hidden.data)
        (cross_entropy(plain(other), targets) * count).sum().backward()
        torch.testing.assert_close(found, [other.grad, *(parameter.grad for parameter in plain.parameters())], **precision)
        assert sum(head.sizes) == (ROWS * (1 + (narrow or count is counts)) + 1) * CLASSES


def test_few_logits_are_computed_once() -> None:
    hidden, head, targets = problem()
    through(cross_entropy, Deferred(hidden, head, CLASSES), targets).sum().backward()
    assert head.sizes == [ROWS * CLASSES]


def test_nothing_supervised_costs_nothing_and_has_a_gradient_of_zero(way: str) -> None:
    hidden, head, _ = problem()
    grid = DeferredGrid(torch.zeros(2, 4, dtype=torch.bool), Deferred(hidden[:0], head, CLASSES))
    losses = by_example([of_tokens(grid, torch.full((2, 4), -100))], 2)
    assert losses.tolist() == [0.0, 0.0]
    losses.sum().backward()
    assert head.weight.grad is not None and not head.weight.grad.any() and hidden.grad is not None and not hidden.grad.any()


def test_a_head_that_draws_draws_the_same_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout before the head: the gradient is that of the loss which was seen."""
    cut(monkeypatch, 5)
    hidden, head, targets = problem()
    drawing = nn.Sequential(nn.Dropout(0.5), head)
    torch.manual_seed(7)
    found = through(cross_entropy, Deferred(hidden, drawing, CLASSES), targets)
    torch.rand(9)  # backward begins at another place of the generator
    again = gradients(found, hidden, head)
    torch.manual_seed(7)
    plain = torch.cat([cross_entropy(drawing(part), wanted) for part, wanted in zip(hidden.split(6), targets.split(6), strict=True)])
    torch.testing.assert_close(found, plain)
    torch.testing.assert_close(again, gradients(plain, hidden, head))


@pytest.mark.parametrize("half", [False, True])
def test_backward_computes_in_the_same_number_format(half: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    cut(monkeypatch, 5)
    hidden, head, targets = problem()
    formats = set()

    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        formats.add(logits.dtype)
        return cross_entropy(logits, targets)

    with torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
        found, plain = through(loss, Deferred(hidden, head, CLASSES), targets), cross_entropy(head(hidden), targets)
    assert found.dtype == torch.float32 and torch.equal(found, plain)
    apart = 2e-2 if half else 1e-6
    torch.testing.assert_close(gradients(found, hidden, head), gradients(plain, hidden, head), rtol=apart, atol=apart)
    assert formats == {torch.bfloat16 if half else torch.float32}


@pytest.fixture
def grid() -> Iterator[tuple[torch.Tensor, DeferredGrid]]:
    logits, read = torch.randn(3, 5, CLASSES), torch.rand(3, 5) < 0.6
    yield logits, DeferredGrid(read, Deferred(logits[read], nn.Identity(), CLASSES))


def test_a_grid_is_asked_like_a_tensor(grid: tuple[torch.Tensor, DeferredGrid]) -> None:
    logits, some = grid
    asked = some.read & (torch.rand(3, 5) < 0.7)
    assert 0 < asked.sum() < some.read.sum() and some.shape == logits.shape and some.device == logits.device
    assert torch.equal(some[asked].whole(), logits[asked]) and torch.equal(some[some.read.clone()].whole(), logits[some.read])
    assert some[some.read] is some.rows and some.rows.shape == logits[some.read].shape
    assert torch.equal(whole(some.rows[torch.tensor([2, 0])]), logits[some.read][[2, 0]])


def test_positions_that_no_task_had_marked_are_refused(grid: tuple[torch.Tensor, DeferredGrid]) -> None:
    _, some = grid
    with pytest.raises(BurnishError, match=r"looks at \d+ of 15 positions that it had not marked.*Batch.read"):
        some[torch.ones(3, 5, dtype=torch.bool)]
