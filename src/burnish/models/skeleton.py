"""A model without its numbers: what its configuration alone tells, such as how many tokens it can read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from burnish.models import layers, load
from burnish.models.spec import Model

if TYPE_CHECKING:
    from torch import nn


def skeleton(spec: Model, auto_class: str, tokenizer: Any, config: Mapping[str, Any]) -> nn.Module:
    """The modules that `load.load_model` would fill, on torch's meta device: no weights are read and no memory is taken.

    Raises ModelError where the model's configuration cannot be had.
    """
    import torch
    import transformers

    with load.told(spec, "model"), torch.device("meta"):
        if spec.fresh:
            settings = load.fresh_settings(spec, tokenizer, config)
        else:
            settings = transformers.AutoConfig.from_pretrained(spec.source(), **spec.access(), **config)
        model: nn.Module = getattr(transformers, auto_class).from_config(settings, trust_remote_code=spec.trust_remote_code)
        if spec.layers is not None:
            layers.keep_blocks(model, spec.layers)
    return model
