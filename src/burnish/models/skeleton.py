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


def outlined(spec: Model, auto_class: str, tokenizer: Any, added: int, config: Mapping[str, Any]) -> tuple[nn.Module, list[str]]:
    """What `load.load_model` gives, on the meta device: the model with room for `added` tokens, and the parameters that no weights fill.

    Raises ModelError where the weights are not there.
    """
    import torch
    import transformers

    if spec.fresh:
        model = skeleton(spec, auto_class, tokenizer, config)
        fresh = [name for name, _ in model.named_parameters()]
    else:
        with load.told(spec, "model"):
            settings = transformers.AutoConfig.from_pretrained(spec.source(), **spec.access(), **config)
            model, info = getattr(transformers, auto_class).from_pretrained(
                spec.source(),
                config=settings,
                device_map="meta",
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **spec.access(),
            )
            fresh = load.check_fresh(spec, model, info)
            fresh = fresh if spec.layers is None else layers.keep_blocks(model, spec.layers, fresh)
    whole: Any = model
    load.check_vocabulary(spec, whole, len(tokenizer) - added)
    if len(tokenizer) > len(whole.get_input_embeddings().weight):
        with load.quiet(), torch.device("meta"):
            whole.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    return model, fresh
