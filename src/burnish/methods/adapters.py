"""Bottleneck adapters: small networks inside the blocks learn, and everything else stays.

Legend: B examples, T tokens, H width of the block, R = H / reduction.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from burnish.core.errors import ModelError
from burnish.core.protocols import Anatomy, Course, Technique
from burnish.core.registry import register
from burnish.core.spec import Spec
from burnish.methods.folders import BASE, keep_base
from burnish.methods.injected import require_no_new_tokens

if TYPE_CHECKING:
    import torch
    from torch import nn

WEIGHTS, SETTINGS = "adapters.safetensors", "adapters.json"


@register("method")
class Adapters(Spec):
    """After a part of each block, y becomes y + W_up act(W_down y): a detour through H / reduction units, before the residual sum.

    W_up starts at zero, so that training begins at the pretrained function. Biases and norms of the model stay; a head that starts at
    random learns in full. Wants a learning rate of 1e-4 to 1e-3. Houlsby et al. 2019, arXiv:1902.00751, section 2.1.
    """

    name: Literal["adapters"] = "adapters"

    takes_quantized: ClassVar[tuple[str, ...]] = ("nf4", "int8")

    opens_quantized: ClassVar[tuple[str, ...]] = ("nf4", "int8")

    kind: Literal["houlsby", "pfeiffer"] = "houlsby"
    """houlsby: after attention and after the feed-forward part; pfeiffer: after the feed-forward part only, half as many (Pfeiffer et al. 2021, arXiv:2005.00247)."""

    reduction: int = Field(default=16, ge=1)
    """How many times narrower than the block the adapter is; 2 to 64, less learns more."""

    activation: Literal["gelu", "relu", "silu"] = "gelu"
    """The function in the middle."""

    @property
    def positions(self) -> int:
        return 0

    def apply(self, model: Any, anatomy: Anatomy) -> nn.Module:
        require_no_new_tokens(self.name, anatomy)
        places = self.places(model, anatomy)
        model.requires_grad_(False)
        insert(model, places, self.reduction, self.activation)
        learning = set(anatomy.head) if set(anatomy.fresh) & set(anatomy.head) else set()
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(".adapter." in name or name in learning)
        return model

    def places(self, model: Any, anatomy: Anatomy) -> list[str]:
        """Names of the linear layers that adapters follow. Raises ModelError where they cannot be told."""
        wanted = {"houlsby": [*anatomy.attention_outputs, *anatomy.feed_forward_outputs], "pfeiffer": list(anatomy.feed_forward_outputs)}
        blocks = len(anatomy.block_modules)
        if len(anatomy.feed_forward_outputs) < blocks or (self.kind == "houlsby" and len(anatomy.attention_outputs) < blocks):
            raise ModelError(
                f"`method`: where the blocks of {type(model).__name__} end their attention and feed-forward parts cannot be told, so that "
                "adapters have no place. Use lora."
            )
        return wanted[self.kind]

    def faults(self, train: Any) -> list[str]:
        return []

    def techniques(self, model: nn.Module, anatomy: Anatomy, course: Course) -> list[Technique]:
        return []

    def save(self, model: Any, folder: Path, base: Sequence[Path] | None) -> None:
        """The adapters and the head, where it learned, in a small file; their places in another; the model under them in `base`."""
        from safetensors.torch import save_file

        learned = {name: p.detach().contiguous() for name, p in model.named_parameters() if p.requires_grad}
        places = [name.removesuffix(".adapter") for name, _ in model.named_modules() if name.endswith(".adapter")]
        folder.mkdir(parents=True, exist_ok=True)
        save_file(learned, folder / WEIGHTS, metadata={"format": "pt"})
        settings = {"places": places, "reduction": self.reduction, "activation": self.activation, "kind": self.kind}
        (folder / SETTINGS).write_text(json.dumps(settings, indent=1))
        model.config.save_pretrained(folder)
        keep_base(model, folder / BASE, base)

    def open(self, folder: Path, load: Callable[[Path], Any]) -> nn.Module:
        from safetensors.torch import load_file

        model: nn.Module = load(folder / BASE)
        settings = json.loads((folder / SETTINGS).read_text())
        insert(model, settings["places"], settings["reduction"], settings["activation"])
        unknown = model.load_state_dict(load_file(folder / WEIGHTS), strict=False).unexpected_keys
        if unknown:
            raise ModelError(f"{folder / WEIGHTS} does not belong to its model: there is no {unknown[0]}. Train again.")
        return model

    def merged(self, folder: Path, load: Callable[[Path], Any]) -> Any:
        raise ModelError(
            "adapters are networks of their own inside the blocks, with a bend in the middle: no weight of the model can take them in. "
            "Use the run itself, or train with lora."
        )


def insert(model: nn.Module, places: Sequence[str], reduction: int, activation: str) -> None:
    """Hangs an adapter behind each of the linear layers `places`. The layers keep their names and weights: a hook on their output calls
    the adapter, so that it acts before the dropout, the residual sum and the norm that follow, whatever the architecture."""
    for place in places:
        layer = model.get_submodule(place)
        reference = next(layer.parameters())
        dtype = reference.dtype if reference.is_floating_point() else None
        layer.adapter = bottleneck(width_of(layer), reduction, activation).to(reference.device, dtype)
        layer.register_forward_hook(adapted)


def adapted(layer: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
    """(B, T, H) with what the layer's adapter adds."""
    return output + layer.adapter(output)


def bottleneck(width: int, reduction: int, activation: str) -> nn.Module:
    """W_up act(W_down y), from H over R to H; W_down starts small, W_up at zero, both biases at zero."""
    from torch import nn

    middle = max(1, width // reduction)
    acts: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU}
    down, up = nn.Linear(width, middle), nn.Linear(middle, width)
    nn.init.normal_(down.weight, std=0.02)
    for start in (down.bias, up.weight, up.bias):
        nn.init.zeros_(start)
    return nn.Sequential(OrderedDict(down=down, act=acts[activation](), up=up))


def width_of(layer: Any) -> int:
    """What a linear layer puts out; GPT-2's Conv1D calls it nf."""
    return int(layer.out_features if hasattr(layer, "out_features") else layer.nf)
