"""The other side: transformers' Trainer, TRL's SFTTrainer and transformers' pipeline, as their own examples use them."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from typing import Any

from material import Material
from turns import Seat


def settings(material: Material, folder: str) -> dict[str, Any]:
    """Arguments of a training that differ from transformers' defaults; each step is logged, so that losses can be compared."""
    return {
        "output_dir": folder,
        "per_device_train_batch_size": material.batch_size,
        "num_train_epochs": 1,  # the examples stand in the order of all steps
        "train_sampling_strategy": "sequential",
        "learning_rate": material.recipe["optimizer"]["lr"],
        "weight_decay": 0.01,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 0,
    }


def model_of(material: Material) -> Any:
    """The first weights that Burnish has too, under the same method."""
    import peft
    import torch
    import transformers

    model = getattr(transformers, material.auto_class).from_pretrained(material.folder)
    if material.adapter is None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in material.learning)
        return model
    torch.manual_seed(0)
    return peft.get_peft_model(model, peft.PeftConfig.from_pretrained(material.adapter))


def in_turns(seat: Seat, sizes: Sequence[tuple[int, int]]) -> Any:
    """A callback that hands over after the turns; `sizes` are (examples, tokens) of each step of an epoch."""
    import transformers

    class Turns(transformers.TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            seat.ready(state.max_steps)

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
            if logs and "loss" in logs:
                examples, tokens = sizes[(state.global_step - 1) % len(sizes)]
                seat.stepped(examples, tokens, logs["loss"], logs["grad_norm"])

    return Turns()


def sizes_of(counts: Sequence[tuple[int, int]], batch_size: int) -> list[tuple[int, int]]:
    """(examples, tokens) of each batch, of those of each row of a data set."""
    batches = [counts[start : start + batch_size] for start in range(0, len(counts), batch_size)]
    return [(sum(examples for examples, _ in batch), sum(tokens for _, tokens in batch)) for batch in batches]


def train(seat: Seat, material: Material, order: str = "plain", pad_to: int | None = None) -> None:
    """transformers' Trainer. `order` is `plain` or `grouped`; every example is padded to `pad_to`, else to the longest of its batch."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(material.folder)
    indices: list[int] = getattr(material, order)
    examples = [material.examples[index] for index in indices]
    if pad_to is not None:
        examples = [padded(example, pad_to, tokenizer.pad_token_id) for example in examples]
    with tempfile.TemporaryDirectory() as folder:
        trainer = transformers.Trainer(
            model=model_of(material),
            args=transformers.TrainingArguments(**settings(material, folder)),
            train_dataset=examples,
            data_collator=collator(material, tokenizer, pad_to is not None),
            callbacks=[in_turns(seat, sizes_of([(1, material.lengths[index]) for index in indices], material.batch_size))],
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()


def collator(material: Material, tokenizer: Any, whole: bool) -> Any:
    """What transformers' example scripts put batches together with."""
    import transformers

    if whole:
        return transformers.default_data_collator
    if material.auto_class == "AutoModelForSequenceClassification" or "start_positions" in material.examples[0]:
        return transformers.DataCollatorWithPadding(tokenizer)
    if material.auto_class == "AutoModelForTokenClassification":
        return transformers.DataCollatorForTokenClassification(tokenizer)
    return transformers.DataCollatorForSeq2Seq(tokenizer)


def padded(example: dict[str, Any], size: int, pad_id: int) -> dict[str, Any]:
    """Every list of an example brought to one size, with a mask of what it held."""
    fill = {"input_ids": pad_id, "labels": -100}
    missing = size - len(example["input_ids"])
    lists = {name: [*value, *[fill.get(name, 0)] * missing] for name, value in example.items() if isinstance(value, list)}
    return {**example, **lists, "attention_mask": [1] * (size - missing) + [0] * missing}


def fine_tune(seat: Seat, material: Material, order: str = "plain", **options: Any) -> None:
    """TRL's SFTTrainer on the same tokens and labels. `options` are fields of SFTConfig; with packing, a batch has so many rows of
    max_length tokens as hold about what a batch of Burnish does, and there are as many steps.

    bf16, which TRL takes by default, is off: it is other mathematics, and slower on this CPU.
    """
    import datasets
    import trl

    tokenizer = tokenizer_of(material)
    indices: list[int] = getattr(material, order)
    columns = {name: [material.examples[index][name] for index in indices] for name in ("input_ids", "labels")}
    arguments = {**settings(material, tempfile.gettempdir()), "bf16": False, **options}
    if options.get("packing"):
        arguments["per_device_train_batch_size"] = max(1, round(material.tokens / options["max_length"]))
        arguments["max_steps"] = len(indices) // material.batch_size
    trainer = trl.SFTTrainer(
        model=model_of(material),
        args=trl.SFTConfig(**arguments),
        train_dataset=datasets.Dataset.from_dict(columns),
        processing_class=tokenizer,
    )
    held = trainer.train_dataset
    parts = held["seq_lengths"] if "seq_lengths" in held.column_names else [[len(ids)] for ids in held["input_ids"]]
    counts = [(len(lengths), sum(lengths)) for lengths in parts]
    trainer.add_callback(in_turns(seat, sizes_of(counts, arguments["per_device_train_batch_size"])))
    trainer.train()


def tokenizer_of(material: Material) -> Any:
    import transformers

    return transformers.AutoTokenizer.from_pretrained(material.folder)


def predict(
    seat: Seat, run: str, rows: Sequence[dict[str, Any]], tokens: int, batch_size: int | None = None, max_length: int = 512
) -> None:
    """transformers' pipeline: one text after another, or sorted by length in batches."""
    import transformers

    told = transformers.pipeline("text-classification", model=f"{run}/model", device="cpu")
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index]["text"])) if batch_size else range(len(rows))
    texts = [rows[index]["text"] for index in order]
    seat.ready(seat.rounds + seat.warm)
    while True:
        found = told(texts, batch_size=batch_size, truncation=True, max_length=max_length)
        right = [str(rows[index]["label"]) == one["label"] for index, one in zip(order, found, strict=True)]
        scores = [one["score"] if true else 1 - one["score"] for one, true in zip(found, right, strict=True)]
        seat.stepped(len(texts), tokens, -sum(map(math.log, scores)) / len(scores))
