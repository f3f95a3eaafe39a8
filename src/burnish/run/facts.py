"""What a run tells of itself: what it is made of, for plan.json, and what it came to, for summary.json."""

from __future__ import annotations

from typing import Any

from burnish import build
from burnish.core.sizes import elements
from burnish.engine.batches import Order
from burnish.engine.progress import Plan, Progress
from burnish.engine.step import Step
from burnish.optim.groups import summary as group_summary
from burnish.plan.parameters import by_role
from burnish.run.drawing import drawing
from burnish.run.savings import saving_notes
from burnish.run.stepping import memory_notes, turning_notes


def facts(parts: build.Parts, plan: Plan, order: Order, step: Step) -> dict[str, Any]:
    """What the header of a run says: parameters, steps, groups, and what is saved and turned, in sentences."""
    recipe, drawn = parts.recipe, drawing(parts)
    roles = by_role(parts.model.named_parameters(), parts.anatomy)
    return {
        **drawn,
        "model": recipe.model.title,
        "method": recipe.method.name,
        "task": recipe.task.name,
        "parameters": {"total": sum(role[1] for role in roles), "trainable": sum(role[2] for role in roles), "roles": roles},
        "steps": plan.total_steps,
        "steps_per_epoch": order.steps_per_epoch,
        "duration": str(plan.duration),
        "batch_size": recipe.train.batch_size,
        "micro_batch": str(step.budget),
        "max_length": parts.max_length,
        "device": str(parts.runtime.device),
        "precision": recipe.train.precision,
        "plain_loss": step.objective is parts.learner,
        "weights": parts.weights,
        "quantize": recipe.model.quantize.name if recipe.model.quantize else None,
        "groups": group_summary(step.optimizer.param_groups),
        "gradient_places": step.mover.places.names if step.mover.places else [],
        "notes": [*saving_notes(parts, order, step), *drawn["notes"], *told(parts, step)],
    }


def told(parts: build.Parts, step: Step) -> list[str]:
    """What differs between parameters, what spares memory, and what a teacher does, in sentences."""
    return [
        *parts.recipe.selective.notes(step.optimizer.param_groups),
        *memory_notes(parts),
        *turning_notes(parts),
        *(parts.teaching.notes if parts.teaching else []),
    ]


def summary(parts: build.Parts, progress: Progress, order: Order, ended: str, kept: int) -> dict[str, Any]:
    """The figures that people know from Trainer, and how the run ended."""
    seconds, best = max(progress.seconds, 1e-9), parts.recipe.train.keep_best
    return {
        "steps": progress.step,
        "epochs": progress.step / order.steps_per_epoch,
        "seconds": progress.seconds,
        "samples_per_second": progress.examples / seconds,
        "steps_per_second": progress.step / seconds,
        "tokens_per_second": progress.tokens / seconds,
        "flos": 6.0 * progress.slots * computing_parameters(parts),
        "mean_loss": progress.loss_sum / max(progress.step, 1),
        "padding_share": 1 - progress.tokens / max(progress.slots, 1),
        "peak_memory": parts.runtime.peak_memory(),
        "ended": ended,
        "kept_step": kept,
        "best": {"metric": best, "value": progress.best_value, "step": kept} if best else None,
    }


def computing_parameters(parts: build.Parts) -> int:
    """Parameters that take part in matrix products: all but the embeddings, as Trainer counts for its FLOPs (6 N a token)."""
    embeddings = set(parts.anatomy.embeddings)
    return sum(elements(p) for name, p in parts.model.named_parameters() if parts.anatomy.own_name(name) not in embeddings)
