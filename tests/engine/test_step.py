"""One update: clipping, memory that runs out, and numbers that are none; nothing of it may change what is learned."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from toy import ToyModel, ToyObjective, toy_examples

from burnish.core.errors import NonFiniteError
from burnish.core.protocols import Batch, Key
from burnish.engine.batches import Budget
from burnish.engine.runtime import Runtime
from burnish.engine.step import Step
from burnish.engine.update import Scaled
from burnish.optim.groups import parameter_groups

ALL = list(range(8))
MakeStep = Callable[..., Step]

SHORTAGES = {
    "torch": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "cpu allocator": lambda: RuntimeError(
        "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
    ),
    "python": MemoryError,
}


class Cramped(torch.nn.Module):
    """Fails as a machine with little memory does: for batches of more than `rows`, or at the calls in `at`."""

    def __init__(self, inner: torch.nn.Module, shortage: Callable[[], BaseException], rows: int = 99, at: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.inner, self.shortage, self.rows, self.at, self.calls = inner, shortage, rows, at, 0

    def forward(self, input_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if len(input_ids) > self.rows or self.calls in self.at:
            raise self.shortage()
        return self.inner(input_ids=input_ids, mask=mask)


def gradients(step: Step) -> list[torch.Tensor]:
    return [parameter.grad.clone() for parameter in step.parameters]  # type: ignore[union-attr]


def weights(step: Step) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in step.parameters]


def toy_model(dropout: float = 0.0) -> ToyModel:
    torch.manual_seed(8)
    return ToyModel(dropout=dropout)


# An update


def test_a_step_moves_every_weight_as_torch_would(make_step: MakeStep) -> None:
    step, other = make_step(toy_model()), toy_model()
    reference = torch.optim.AdamW(
        [
            {"params": [other.embedding.weight, other.head.weight], "weight_decay": 0.1},
            {"params": [other.norm.weight, other.norm.bias, other.head.bias], "weight_decay": 0.0},
        ],
        lr=0.005,
        fused=True,
    )
    batch = ToyObjective().collate(toy_examples(), ALL, (0, 0))
    for number in range(3):
        outcome = step(ALL, number, 0.5)
        loss = ((other(**batch.inputs)[:, 0] - batch.targets["labels"]) ** 2).mean()
        reference.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(other.parameters(), math.inf)
        reference.step()
        assert outcome.loss == pytest.approx(loss.item(), rel=1e-6)
        assert outcome.grad_norm == pytest.approx(norm.item(), rel=1e-5)
        assert (outcome.lr, outcome.examples, outcome.tokens, outcome.slots) == (0.005, 8, 68, 8 * 30)
    for name, tensor in other.named_parameters():
        torch.testing.assert_close(step.model.get_parameter(name), tensor, rtol=0, atol=1e-7)
    assert all(parameter.grad is None for parameter in step.parameters)


def test_slots_count_padding_and_tokens_do_not(make_step: MakeStep) -> None:
    step = make_step(budget=Budget(24))
    outcome = step(ALL, 0, 1.0)
    groups = step.objective.groups  # type: ignore[attr-defined]
    lengths = toy_examples().lengths
    assert outcome.tokens == 68
    assert outcome.slots == sum(len(group) * max(lengths[index] for index in group) for group in groups) == 30 + 24 + 21 + 4


def test_a_step_is_a_function_of_seed_and_number(make_step: MakeStep) -> None:
    """Dropout draws the same however the run came to the step, and differently in another step or run."""

    def loss(number: int, seed: int = 0, noise: int = 0) -> float:
        step = make_step(toy_model(dropout=0.5), seed=seed)
        torch.rand(noise)
        return step.accumulated(ALL, number).loss

    assert loss(3) == loss(3, noise=5)
    assert len({loss(3), loss(4), loss(3, seed=1)}) == 3


def test_the_model_trains_in_training_mode_even_after_someone_put_it_in_eval(make_step: MakeStep) -> None:
    step = make_step(toy_model(dropout=0.5))
    first = step.accumulated(ALL, 0).loss
    step.model.eval()
    assert step.accumulated(ALL, 0).loss == first


# Clipping


@pytest.mark.parametrize("limit", [1e-3, 0.3, 1e3, None])
def test_clipping_is_that_of_torch(make_step: MakeStep, limit: float | None) -> None:
    step = make_step(max_grad_norm=limit)
    step.accumulated(ALL, 0)
    copies = [torch.nn.Parameter(torch.empty_like(grad)) for grad in gradients(step)]
    for copy, grad in zip(copies, gradients(step), strict=True):
        copy.grad = grad
    expected = torch.nn.utils.clip_grad_norm_(copies, math.inf if limit is None else limit)
    assert step.clip() == pytest.approx(expected.item(), rel=1e-6)
    assert 0.3 < expected.item() < 1e3
    for copy, grad in zip(copies, gradients(step), strict=True):
        torch.testing.assert_close(grad, copy.grad, rtol=1e-6, atol=0)


def test_the_norm_told_is_that_before_clipping(make_step: MakeStep) -> None:
    assert make_step(max_grad_norm=1e-4)(ALL, 0, 1.0).grad_norm == make_step(max_grad_norm=None)(ALL, 0, 1.0).grad_norm > 0.3


# Memory


@pytest.mark.parametrize("shortage", SHORTAGES.values(), ids=SHORTAGES)
@pytest.mark.parametrize(("rows", "left"), [(4, "4ex"), (3, "2ex"), (1, "1ex")])
def test_out_of_memory_halves_the_micro_batch_and_changes_nothing(
    make_step: MakeStep, shortage: Callable[[], BaseException], rows: int, left: str
) -> None:
    plain = make_step(toy_model())
    plain.accumulated(ALL, 0)
    said: list[str] = []
    step = make_step(Cramped(toy_model(), shortage, rows), note=said.append)
    outcome = step.accumulated(ALL, 0)
    assert (outcome.examples, outcome.tokens, str(step.budget)) == (8, 68, left)
    assert said[-1] == f"out of memory at step 1: going on with micro-batches of {left}; the mathematics is the same"
    assert len(said) == {"4ex": 1, "2ex": 2, "1ex": 3}[left]
    for got, wanted in zip(gradients(step), gradients(plain), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-7)
    step.accumulated(ALL, 1)
    assert len(said) == {"4ex": 1, "2ex": 2, "1ex": 3}[left], "the smaller micro-batch is kept for the steps to come"


def test_out_of_memory_in_the_midst_forgets_the_gradient_so_far(make_step: MakeStep) -> None:
    plain = make_step(toy_model())
    plain.accumulated(ALL, 0)
    step = make_step(Cramped(toy_model(), SHORTAGES["torch"], at=(3,)), budget=Budget(2, "ex"))
    outcome = step.accumulated(ALL, 0)
    assert (outcome.tokens, str(step.budget)) == (68, "1ex")
    for got, wanted in zip(gradients(step), gradients(plain), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-7)


def test_out_of_memory_with_a_single_example_says_what_to_do(make_step: MakeStep) -> None:
    step = make_step(Cramped(toy_model(), SHORTAGES["torch"], rows=0))
    before = weights(step)
    with pytest.raises(MemoryError, match=r"step 7 with a single example.*data\.max_length"):
        step(ALL, 6, 1.0)
    assert all(torch.equal(now, then) for now, then in zip(weights(step), before, strict=True))
    assert all(parameter.grad is None for parameter in step.parameters)


def test_other_errors_are_not_taken_for_a_lack_of_memory(make_step: MakeStep) -> None:
    said: list[str] = []
    step = make_step(Cramped(toy_model(), lambda: RuntimeError("mat1 and mat2 shapes cannot be multiplied"), rows=2), note=said.append)
    with pytest.raises(RuntimeError, match="shapes"):
        step(ALL, 0, 1.0)
    assert said == []


# Numbers that are none


def places(error: NonFiniteError) -> list[str]:
    return [line.removeprefix("  - ") for line in str(error).splitlines() if line.startswith("  - ")]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("budget", [Budget(8, "ex"), Budget(2, "ex"), Budget(1, "ex")], ids=str)
def test_a_loss_that_is_no_number_names_step_and_examples(make_step: MakeStep, value: float, budget: Budget) -> None:
    examples = toy_examples()
    examples.targets[[1, 5]] = value
    step = make_step(examples=examples, budget=budget, place=lambda index: f"rows.csv row {index + 1}")
    before, state = weights(step), dict(step.optimizer.state)
    with pytest.raises(NonFiniteError, match=r"loss became (nan|inf) at step 7; the weights were not touched") as caught:
        step([2, 5, 3, 1], 6, 1.0)
    assert sorted(places(caught.value)) == ["rows.csv row 2", "rows.csv row 6"], "all of them, in whichever micro-batches they are"
    assert caught.value.exit_code == 2 and "optimizer.lr" in str(caught.value)
    assert all(torch.equal(now, then) for now, then in zip(weights(step), before, strict=True))
    assert state == dict(step.optimizer.state) == {}
    assert all(parameter.grad is None for parameter in step.parameters)


def test_a_gradient_that_is_no_number_names_the_step_and_all_its_examples(make_step: MakeStep) -> None:
    """The root of zero has a loss of zero and a slope without end."""
    objective = ToyObjective()
    objective.error = lambda outputs, targets: (outputs[:, 0] * 0).sqrt()
    step = make_step(objective=objective, place=lambda index: f"row {index}")
    before = weights(step)
    with pytest.raises(NonFiniteError, match=r"gradient became (nan|inf) at step 3; the weights were not touched") as caught:
        step([2, 4, 6], 2, 1.0)
    assert places(caught.value) == ["row 2", "row 4", "row 6"]
    assert all(torch.equal(now, then) for now, then in zip(weights(step), before, strict=True))
    assert not step.optimizer.state


def test_many_faulty_examples_are_counted_not_listed(make_step: MakeStep) -> None:
    examples = toy_examples([4] * 20)
    examples.targets[:] = math.nan
    with pytest.raises(NonFiniteError, match="and 12 more"):
        make_step(examples=examples, budget=Budget(99, "ex"))(list(range(20)), 0, 1.0)


# Precision


def test_bf16_computes_in_bf16_and_keeps_weights_and_losses_in_fp32(make_step: MakeStep) -> None:
    seen: list[torch.dtype] = []
    objective = ToyObjective()

    def error(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        seen.append(outputs.dtype)
        return (outputs[:, 0].float() - targets) ** 2

    objective.error = error
    half, full = make_step(toy_model(), objective=objective, precision="bf16"), make_step(toy_model())
    before = weights(half)
    outcome, exact = half(ALL, 0, 1.0), full(ALL, 0, 1.0)
    assert seen == [torch.bfloat16]
    assert outcome.loss != exact.loss and outcome.loss == pytest.approx(exact.loss, rel=0.02)
    assert all(now.dtype == torch.float32 and not torch.equal(now, then) for now, then in zip(weights(half), before, strict=True))
    assert Runtime("cpu", "bf16").precision == "bf16"


def test_frozen_parameters_stay(make_step: MakeStep) -> None:
    model: Any = toy_model()
    model.embedding.weight.requires_grad_(False)
    step = make_step(model)
    before = model.embedding.weight.clone()
    step(ALL, 0, 1.0)
    assert torch.equal(model.embedding.weight, before) and len(step.parameters) == 4


# What goes through the model


def test_a_micro_batch_is_announced_around_forward_and_backward(make_step: MakeStep) -> None:
    """With its places in the global batch, whatever its examples are called, and the key that its draws depend on."""
    told: list[tuple[list[int], list[int], Key, list[str]]] = []
    heard: list[str] = []

    @contextmanager
    def passing(batch: Batch, slots: Sequence[int], key: Key) -> Iterator[None]:
        heard.append("enter")
        yield
        told.append((list(batch.examples), list(slots), key, heard[heard.index("enter") :]))
        heard.clear()

    model = toy_model()
    model.register_forward_hook(lambda *parts: heard.append("forward"))
    model.embedding.weight.register_hook(lambda gradient: heard.append("backward"))
    step = make_step(model, passing=passing, seed=3, budget=Budget(2, "ex"))
    indices = [7, 2, 4, 0]  # 12, 1, 30, 3 tokens
    step(indices, 5, 1.0)
    assert [slots for _, slots, _, _ in told] == [[2, 0], [3, 1]]
    assert [[indices[slot] for slot in slots] for _, slots, _, _ in told] == [examples for examples, _, _, _ in told]
    assert [(key, order) for _, _, key, order in told] == [((3, 5), ["enter", "forward", "backward"])] * 2


class Reads(TorchDispatchMode):
    """Counts numbers that are read out of tensors one by one, for each of which a GPU would be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.number += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_no_micro_batch_is_waited_for(make_step: MakeStep) -> None:
    counts = []
    for budget in (Budget(8, "ex"), Budget(1, "ex")):
        step = make_step(budget=budget, max_grad_norm=1e-3)
        with Reads() as reads:
            step(ALL, 0, 1.0)
        counts.append(reads.number)
    assert counts == [0, 0], "norms and losses are read as one tensor each"


def test_in_fp16_too_a_loss_that_is_no_number_is_told_as_such(make_step: MakeStep) -> None:
    examples = toy_examples()
    examples.targets[3] = math.nan
    model = toy_model()
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.01, 0.1), lr=0.01)
    step = make_step(model, examples=examples, update=Scaled(optimizer, Runtime("cpu", "fp16")), precision="fp16", budget=Budget(2, "ex"))
    before = weights(step)
    with pytest.raises(NonFiniteError, match=r"loss became nan at step 2; the weights were not touched") as caught:
        step(ALL, 1, 1.0)
    assert places(caught.value) == ["3"]
    assert all(torch.equal(now, then) for now, then in zip(weights(step), before, strict=True))
