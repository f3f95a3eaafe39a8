"""Run folders as training leaves them, made without training, and a reader of the page that is written from them."""

from __future__ import annotations

import json
import math
import random
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

LABELS = ["delivery", "returns", "payment", "account", "<b>praise</b>"]
EVIL = "<script>alert('x')</script> where is my parcel?"
VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """Checks that the elements nest, and gathers texts, ids and whatever would be loaded from elsewhere."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.texts: list[str] = []
        self.html = path.read_text(encoding="utf-8")
        self.feed(self.html)
        self.close()
        assert self.open == []
        self.text = re.sub(r"\s+", " ", " ".join(self.texts))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name in {"src", "href", "srcset", "data", "xlink:href"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.texts.append(data)


def dump(folder: Path, name: str, content: Any) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def make_steps(folder: Path, steps: int, every: int) -> None:
    """A loss that falls with noise, and an evaluation every so many steps."""
    noise = random.Random(7)
    lines = []
    for step in range(1, steps + 1):
        loss = 0.15 + 1.95 * math.exp(-3 * step / steps) + noise.uniform(-0.2, 0.2) * math.exp(-step / steps)
        speed = min(1.0, step / (0.1 * steps)) * (1 - step / (steps + 1))
        line = {"kind": "step", "step": step, "epoch": step / 13, "loss": loss, "grad_norm": 2 + noise.random() * 3, "lr": 5e-5 * speed}
        lines.append({**line, "examples": 32, "tokens": 610, "slots": 640, "seconds": 0.8 * step, "memory": 900_000_000})
        if step % every == 0:
            done = 1 - math.exp(-4 * step / steps)
            metrics = {"loss": loss + 0.25, "accuracy": 0.2 + 0.7 * done, "macro_f1": 0.15 + 0.74 * done}
            lines.append({"kind": "evaluation", "step": step, "epoch": step / 13, "part": "validation", "metrics": metrics, "seconds": 0.5})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def make_evaluation(folder: Path, part: str, rows: int) -> None:
    per_label = rows // len(LABELS)
    counts = [[per_label - 4 if row == column else 1 for column in range(len(LABELS))] for row in range(len(LABELS))]
    classes = [[label, 0.9, 0.85 - 0.01 * place, 0.874, per_label] for place, label in enumerate(LABELS)]
    mistakes = [
        [EVIL, "delivery", "returns", 0.9123, 2.4321],
        ["Long " + "and winding " * 30 + "complaint", "payment", "account", 0.8, 1.9],
    ]
    dump(
        folder,
        f"evaluations/{part}.json",
        {
            "part": part,
            "rows": rows,
            "step": 104,
            "seconds": 1.24,
            "metrics": {"loss": 0.4321, "accuracy": 0.8765, "macro_f1": 0.8654},
            "sections": [
                {
                    "kind": "table",
                    "title": "Classes",
                    "columns": ["label", "precision", "recall", "f1", "rows"],
                    "rows": classes,
                    "note": "",
                },
                {
                    "kind": "matrix",
                    "title": "Confusion",
                    "labels": LABELS,
                    "counts": counts,
                    "row_name": "truth",
                    "column_name": "predicted",
                },
                {
                    "kind": "table",
                    "title": "Worst mistakes",
                    "columns": ["text", "truth", "predicted", "probability", "loss"],
                    "rows": mistakes,
                    "note": "The rows on which the model was surest and wrong.",
                },
            ],
        },
    )


def make_plan(folder: Path) -> None:
    """What a run writes before its first step."""
    blocks = [[f"block {block}", 1_774_464, 1_774_464 if block > 3 else 0] for block in range(1, 7)]
    found = [["embeddings", 11_917_824, 0], *blocks, ["head", 150_541, 150_541]]
    total, trainable = (sum(role[column] for role in found) for column in (1, 2))
    counted = {"total": total, "trainable": trainable, "roles": found}
    notes = ["unpadded: 31% of the tokens were padding and are not computed"]
    named = {"model": "starter:minilm", "method": "full", "task": "classify"}
    dump(folder, "plan.json", {**named, "parameters": counted, "steps": 125, "steps_per_epoch": 13, "batch_size": 32, "notes": notes})
    parts = {
        part: {"source": f"/home/ada/shop/messages-{part}.jsonl", "sha256": f"{part:0<12}" + "f" * 52, "rows": rows, "truncated": cut}
        for part, rows, cut in (("train", 400, 3), ("validation", 80, 0), ("test", 160, 1))
    }
    counts = {part: {label: parts[part]["rows"] // 5 - place for place, label in enumerate(LABELS)} for part in ("train", "validation")}
    warnings = ["7 rows of train also stand in test: the test result is too good.", "The label <b>praise</b> has only 76 rows."]
    dump(folder, "data.json", {"parts": parts, "labels": counts, "warnings": warnings})
    versions = {"burnish": "0.1.0", "python": "3.11.7", "torch": "2.9.1", "transformers": "4.57.3", "peft": None}
    hardware = {"platform": "Linux-6.1-x86_64", "cpu": "AMD EPYC 7B13", "cores": 2, "threads": 2, "device": "cpu", "gpu": None}
    command = "burnish train --task classify --model starter:minilm data.train='a & b.jsonl' --steps 125"
    dump(folder, "environment.json", {**versions, **hardware, "memory_bytes": 8_264_000_000, "command": command})


def make_run(folder: Path, finished: bool = True, steps: int = 125) -> Path:
    """A run folder as training leaves it: whole, or in the middle."""
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text("task: classify\nmodel: starter:minilm # <script>\nseed: 17\n", encoding="utf-8")
    make_plan(folder)
    make_steps(folder, steps, every=13)
    if not finished:
        return folder
    make_evaluation(folder, "test", 160)
    make_evaluation(folder, "validation", 80)
    speed = {"samples_per_second": 39.84, "steps_per_second": 1.245, "tokens_per_second": 761.4, "flos": 3.21e13}
    spent = {"steps": 125, "epochs": 9.615, "seconds": 100.4, "mean_loss": 0.71234, "padding_share": 0.047, "peak_memory": 943_718_400}
    best = {"metric": "macro_f1", "value": 0.8712, "step": 104}
    dump(folder, "summary.json", {**spent, **speed, "ended": "early stopping: no gain in 3 evaluations", "kept_step": 104, "best": best})
    return folder
