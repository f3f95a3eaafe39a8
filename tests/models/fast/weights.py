"""Models for the tests of the fast path, in which every part does something and nothing is dropped."""

from __future__ import annotations

from typing import Any

import torch
import transformers


def model_of(kind: str, head: str, settings: dict[str, Any]) -> Any:
    """A model from a configuration, with weights of every size (biases and norms too), and without dropout in modules."""
    torch.manual_seed(3)
    model = getattr(transformers, f"AutoModelFor{head}").from_config(transformers.AutoConfig.for_model(kind, **settings))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model
