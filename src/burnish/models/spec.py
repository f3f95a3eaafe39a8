"""The recipe's side of a model: its name, where its files are, and what is plainly wrong with it, without loading anything."""

from __future__ import annotations

import itertools
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from burnish.core.errors import ModelError, count, nearest
from burnish.core.network import hub_reachable
from burnish.core.spec import Spec
from burnish.models import starters
from burnish.models.quantize import Quantize

NEW = "new:"
BUNDLED = "bundled:"
TOKENIZER_FILES = ("tokenizer*", "vocab*", "*.model", "sentencepiece*")


class Model(Spec):
    """The model to start from: pretrained weights, or the name of an architecture."""

    name: str = Field(min_length=1)
    """A hub id, a local folder, starter:minilm, or new:ARCHITECTURE (llama, gpt2, t5, bert, ...) for a small model of random weights."""

    tokenizer: str | None = Field(default=None, min_length=1)
    """Folder, hub id or bundled:tokenizer of the tokenizer; by default the model's own."""

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of the weights; float32 trains best; bfloat16 takes half the memory throughout, but rounds small steps away: use a higher lr."""

    quantize: Quantize | None = None
    """Hold the pretrained weights in few bits: nf4 (a seventh of the memory) or int8 (a quarter); they stay fixed, so method=lora or the like."""

    from_scratch: bool = False
    """Keep the architecture and tokenizer, but start from fresh random weights (a baseline that shows what pretraining gave)."""

    config: dict[str, Any] = {}
    """Fields of the architecture's configuration to set, such as num_hidden_layers: 4; for new: and from_scratch models."""

    layers: int | list[int] | None = None
    """Blocks of each stack to keep with their weights: a number (evenly spread) or places from 0, such as [0, 2, 4]; null keeps all."""

    trust_remote_code: bool = False
    """Run Python code that comes with the model. Only for sources that you trust as you trust a program."""

    revision: str | None = None
    """Branch, tag or commit of a hub model; pin one to get the same weights next year."""

    @property
    def architecture(self) -> str | None:
        """What stands after `new:`, or None for a model that there is already."""
        return self.name.removeprefix(NEW) if self.name.startswith(NEW) else None

    @property
    def fresh(self) -> bool:
        """Whether every weight starts at random."""
        return self.from_scratch or self.architecture is not None

    @property
    def title(self) -> str:
        """Its name, and what was made of it, for people."""
        kept = self.layers if isinstance(self.layers, int) else len(self.layers or ())
        return self.name + (" (from scratch)" if self.from_scratch else f" ({count(kept, 'block')} of each stack)" if kept else "")

    @property
    def local(self) -> bool:
        """Whether `name` can only mean a folder of this machine."""
        return self.name.startswith(("/", ".", "~")) or self.name.count("/") > 1 or Path(self.name).exists()

    @property
    def opened_for_tokenizer(self) -> Model:
        """The model whose folder holds the tokenizer: this one, or `tokenizer` seen as one."""
        if self.tokenizer is None:
            return self
        return self.model_copy(update={"name": self.tokenizer, "tokenizer": None, "revision": None, "config": {}})

    def fault(self) -> str | None:
        """What is plainly wrong, found without loading anything."""
        found = [self.name_fault(), self.tokenizer_fault(), self.config_fault(), self.layers_fault(), self.quantize_fault()]
        return "; ".join(fault for fault in found if fault) or None

    def name_fault(self) -> str | None:
        if self.architecture is not None:
            return None if self.architecture else f"{self.name} needs the name of an architecture, such as new:llama"
        fault, folder = self.folder()
        if fault or folder is None or (folder / "config.json").is_file():
            return fault
        adapter = (folder / "adapter_config.json").is_file()
        return f"{self.name} holds {'an adapter' if adapter else 'no config.json'}: give the folder of a whole model"

    def tokenizer_fault(self) -> str | None:
        if self.tokenizer is None:
            new = self.architecture is not None
            return f"{self.name} has no tokenizer of its own: say model.tokenizer, such as bundled:tokenizer" if new else None
        fault, folder = self.opened_for_tokenizer.folder()
        if fault or folder is None or any(next(folder.glob(kind), None) for kind in TOKENIZER_FILES):
            return f"`tokenizer`: {fault}" if fault else None
        return f"`tokenizer`: {self.tokenizer} holds no tokenizer: give a folder that save_pretrained made"

    def config_fault(self) -> str | None:
        if not self.config or self.fresh:
            return None
        return "`config` is for new: and from_scratch models: pretrained weights fit the configuration that they came with"

    def quantize_fault(self) -> str | None:
        if self.quantize is None:
            return None
        if self.fresh:
            return "`quantize` holds pretrained weights in few bits: a model of random weights has to learn them all, and needs every bit"
        if self.dtype != "float32":
            return "`quantize` leaves everything but the blocks' weights in float32: leave `dtype` out; quantize.compute is the format of products"
        return self.quantize.fault()

    def layers_fault(self) -> str | None:
        if self.layers is None:
            return None
        if self.fresh:
            return "`layers` keeps pretrained blocks: a model of random weights gets its number of blocks from `config`"
        if self.quantize is not None:
            return "`layers` and `quantize` do not go together: train or save the smaller model first, then quantise that"
        kept = [self.layers - 1] if isinstance(self.layers, int) else self.layers
        if kept and kept[0] >= 0 and all(before < after for before, after in itertools.pairwise(kept)):
            return None
        return f"`layers`: write how many blocks to keep (3), or their places from 0 in rising order ([0, 2, 4]); got {self.layers}"

    def folder(self) -> tuple[str | None, Path | None]:
        """What is wrong with the name, and the folder that it means (None for a hub id)."""
        try:
            if self.name.startswith(starters.PREFIX):
                return None, starters.locate(self.name)
            if self.name.startswith(BUNDLED):
                return None, bundled(self.name)
        except ModelError as error:
            return str(error), None
        if not self.local:
            return None, None
        folder = Path(self.name).expanduser()
        if folder.is_dir():
            return None, folder
        if folder.is_file():
            return f"{self.name} is a file: give the folder that it is in", None
        beside = [entry.name for entry in folder.parent.iterdir()] if folder.parent.is_dir() else []
        return f"the folder {self.name} does not exist{nearest(folder.name, beside)}", None

    @property
    def on_hub(self) -> bool:
        """Whether the name is a hub id."""
        return not (self.local or self.name.startswith((starters.PREFIX, BUNDLED, NEW)))

    def access(self) -> dict[str, Any]:
        """How transformers may fetch it: which revision, whether foreign code runs, and only what is here where no hub answers."""
        offline = self.on_hub and not hub_reachable()
        return {"revision": self.revision, "trust_remote_code": self.trust_remote_code, "local_files_only": offline}

    def source(self) -> str:
        """What transformers is given: a folder or a hub id. Raises ModelError for weights that are not what they should be."""
        if self.name.startswith(starters.PREFIX):
            return str(starters.verified(self.name))
        if self.name.startswith(BUNDLED):
            return str(bundled(self.name))
        return str(Path(self.name).expanduser().absolute()) if self.local else self.name


def bundled(name: str) -> Path:
    """The folder of `bundled:NAME`. Raises ModelError, naming the nearest, where there is none."""
    shop = Path(str(resources.files("burnish").joinpath("shop")))
    key = name.removeprefix(BUNDLED)
    known = sorted(entry.name for entry in shop.iterdir() if entry.is_dir())
    if key not in known:
        raise ModelError(f"there is no `{name}`{nearest(name, [BUNDLED + entry for entry in known])} (known: {', '.join(known)})")
    return shop / key
