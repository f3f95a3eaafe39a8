"""The time of a run on a machine where nothing was measured: counted operations at a share of its peak, and bytes at its bandwidth."""

from __future__ import annotations

from burnish.plan.machines import Machine
from burnish.plan.time import UTILISATION, Counted, Forecast, Rates, Texts, forecast
from burnish.plan.work import Work

READING = 0.5
"""Share of the peak that a forward pass without gradients reaches."""

KERNELS, LAUNCH = 150, 5e-6
"""Kernels of a block in forward and backward, and the seconds that a program needs to launch one: what small models wait for on a GPU."""

DISK = 1e-9
"""Seconds a byte of a checkpoint: a gigabyte a second, as a fast local disk writes."""


def forecast_on(work: Work, machine: Machine, utilisation: float = UTILISATION) -> Forecast | None:
    """None for a machine whose rates are not known, of which only the memory was named.

    An update reads and writes weights, gradients and moments once, at the bandwidth of the memory; a token that is written reads all
    weights. `utilisation` is the share of the peak that steps reach.
    """
    half = work.precision != "fp32" or work.itemsize == 2
    peak = (machine.bf16 if half else machine.fp32) * machine.devices
    if not peak:
        return None
    weights, writing = work.weights, work.writing
    moved = 2 * weights.learning * work.itemsize + weights.gradients + 2 * weights.moments
    spread = machine.bandwidth * machine.devices
    rates = Rates(
        operation=max(1 / (peak * utilisation), waiting(work, machine) / max(work.operations, 1.0)),
        update=moved / spread if spread else 0.0,
        reading=1 / (peak * READING),
        round=weights.held / machine.bandwidth if machine.bandwidth and writing else 0.0,
        byte=DISK,
        moments=weights.moments / max(1, weights.learning * work.itemsize),
    )
    validation, test = work.parts.get("validation"), work.parts.get("test")
    texts = Texts([writing.new_tokens] * writing.texts, writing.texts) if writing else Texts()
    counted = Counted(
        operations=work.operations,
        steps=work.steps,
        steps_per_epoch=work.steps_per_epoch,
        reading=work.reading,
        evaluations=work.evaluations,
        texts=texts,
        before=texts if writing else None,
        learning=weights.learning * work.itemsize,
        model=weights.held,
        saves=work.saves,
        test=test.rows / validation.rows if test and validation else 0.0,
        limit=work.limit,
    )
    kind = "16-bit" if half else "fp32"
    whose = f"{peak / 1e12:,.4g} TFLOP/s"
    if machine.kind == "cpu":
        how = f"at {utilisation:.0%} of the {whose} at which this machine multiplies large matrices; no step was tried"
    else:
        how = f"at {utilisation:.0%} of the {whose} ({kind}) of {machine.name}, as wide models reach; nothing was measured there"
    asked = {} if work.teacher is None or work.teacher.anew else {"loading": work.teacher.operations / (peak * READING)}
    return forecast(counted, rates, asked, how)


def waiting(work: Work, machine: Machine) -> float:
    """Seconds of a step in which kernels are launched, one after another; none on a CPU."""
    blocks = work.shape.layers + work.shape.decoder_layers
    return 0.0 if machine.kind == "cpu" else work.micro_batches / machine.devices * blocks * KERNELS * LAUNCH
