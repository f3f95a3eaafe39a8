"""SST-2 with Burnish and with transformers' Trainer: the same rows, model, batch size, optimizer and schedule; one table.

    python benchmarks/sst2_quality.py DATA [--rows 6400] [--epochs 2] [--seeds 0 1 2] [--systems burnish trainer grouped scratch]

DATA is a folder with train.jsonl.gz and validation.jsonl.gz (columns text, label). Runs alternate seed by seed. Trainer gets its
fused AdamW and no accumulation, `grouped` also batches grouped by length (its fastest option here, which changes what a batch
holds). Results go to benchmarks/results/sst2_quality.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "sst2_quality.json"


def recipe(arguments: argparse.Namespace, seed: int, run: str, from_scratch: bool = False) -> dict[str, Any]:
    """The issue of the comparison, as a recipe."""
    return {
        "model": {"name": "starter:minilm", "from_scratch": from_scratch},
        "task": {"name": "classify", "text": "text", "label": "label"},
        "data": {
            "train": str(arguments.data / "train.jsonl.gz"),
            "validation": str(arguments.data / "validation.jsonl.gz"),
            "limit": arguments.rows,
        },
        "optimizer": {"name": "adamw", "lr": 5e-5, "weight_decay": 0.01},
        "schedule": {"name": "linear", "warmup": "6%"},
        "train": {"duration": f"{arguments.epochs}ep", "batch_size": 32, "save_every": "1000000st", "seed": seed},
        "run": run,
    }


def with_burnish(arguments: argparse.Namespace, seed: int, from_scratch: bool = False) -> dict[str, float]:
    import burnish

    with tempfile.TemporaryDirectory() as folder:
        run = burnish.train(recipe(arguments, seed, f"{folder}/run", from_scratch))
        curve = [line for line in run.folder.read_metrics() if line["kind"] == "step"]
        return {
            "accuracy": run.metrics["validation"]["accuracy"],
            "seconds": run.summary["seconds"],
            "mean_loss": run.summary["mean_loss"],
            "median_grad_norm": statistics.median(line["grad_norm"] for line in curve),
            "padding_share": run.summary["padding_share"],
        }


def with_trainer(arguments: argparse.Namespace, seed: int, sampling: str = "random") -> dict[str, float]:
    import numpy as np
    import torch
    import transformers

    from burnish import build
    from burnish.models import load as loading
    from burnish.recipe import load

    checked = load(recipe(arguments, seed, "unused"))
    gathered = build.gather(checked)
    tokenizer = loading.load_tokenizer(checked.model)
    tokenizer.model_max_length = 512
    learner = build.bind(checked, gathered, tokenizer)
    model, _ = loading.load_model(checked.model, learner.auto_class, tokenizer, seed, **learner.config)
    encoded = {part: learner.encode(rows) for part, rows in gathered.rows.items()}
    datasets = {
        part: [
            {"input_ids": examples.inputs["input_ids"][index].tolist(), "labels": int(examples.targets["labels"][index])}
            for index in range(len(examples))
        ]
        for part, examples in encoded.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        steps = -(-len(datasets["train"]) // 32) * arguments.epochs
        trainer = transformers.Trainer(
            model=model,
            args=transformers.TrainingArguments(
                output_dir=folder,
                num_train_epochs=arguments.epochs,
                per_device_train_batch_size=32,
                per_device_eval_batch_size=64,
                learning_rate=5e-5,
                weight_decay=0.01,
                warmup_steps=-(-steps * 6 // 100),
                lr_scheduler_type="linear",
                train_sampling_strategy=sampling,
                optim="adamw_torch_fused",
                save_strategy="no",
                logging_steps=10,
                report_to="none",
                disable_tqdm=True,
                use_cpu=True,
                seed=seed,
            ),
            train_dataset=datasets["train"],
            data_collator=transformers.DataCollatorWithPadding(tokenizer),
        )
        torch.manual_seed(seed)
        began = time.monotonic()
        result = trainer.train()
        seconds = time.monotonic() - began
        found = trainer.predict(datasets["validation"])  # in an order of its own
        norms = [line["grad_norm"] for line in trainer.state.log_history if "grad_norm" in line]
        return {
            "accuracy": float(np.mean(found.predictions.argmax(axis=1) == found.label_ids)),
            "seconds": seconds,
            "mean_loss": result.training_loss,
            "median_grad_norm": statistics.median(norms),
        }


SYSTEMS = {
    "burnish": with_burnish,
    "trainer": with_trainer,
    "grouped": lambda arguments, seed: with_trainer(arguments, seed, "group_by_length"),
    "scratch": lambda arguments, seed: with_burnish(arguments, seed, from_scratch=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=6400)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=["burnish", "trainer"])
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        for name in arguments.systems:
            found = SYSTEMS[name](arguments, seed)
            print(json.dumps({"system": name, "seed": seed, **{key: round(value, 4) for key, value in found.items()}}), flush=True)
            keep(
                {"system": name, "seed": seed, "rows": arguments.rows, "epochs": arguments.epochs, "machine": platform.processor(), **found}
            )


def keep(record: dict[str, Any]) -> None:
    """Adds a result to the file, in the place of an earlier one of the same settings."""
    RESULTS.parent.mkdir(exist_ok=True)
    earlier = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
    same = ("system", "seed", "rows", "epochs")
    others = [line for line in earlier if any(line[key] != record[key] for key in same)]
    RESULTS.write_text(json.dumps([*others, record], indent=1) + "\n")


if __name__ == "__main__":
    main()
