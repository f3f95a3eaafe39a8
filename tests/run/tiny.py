"""Copies of small models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path


def with_dropout(source: Path, target: Path, share: float) -> Path:
    """A copy of a model's folder with another dropout."""
    shutil.copytree(source, target)
    config = json.loads((target / "config.json").read_text())
    config |= {"hidden_dropout_prob": share, "attention_probs_dropout_prob": share}
    (target / "config.json").write_text(json.dumps(config))
    return target
