"""Loads a tokenizer and a model from the hub, a local folder or a starter: safetensors only, no foreign code unless allowed."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from burnish.core.errors import ModelError, nearest
from burnish.core.network import hub_reachable
from burnish.core.spec import Spec
from burnish.models import starters

if TYPE_CHECKING:
    from torch import nn


class Model(Spec):
    """The pretrained model to start from."""

    name: str = Field(min_length=1)
    """A hub id, a local folder, or starter:minilm."""

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Number format of the weights; float32 trains best where memory allows."""

    from_scratch: bool = False
    """Keep the architecture and tokenizer, but start from fresh random weights (a baseline that shows what pretraining gave)."""

    trust_remote_code: bool = False
    """Run Python code that comes with the model. Only for sources that you trust as you trust a program."""

    revision: str | None = None
    """Branch, tag or commit of a hub model; pin one to get the same weights next year."""

    @property
    def local(self) -> bool:
        """Whether `name` can only mean a folder of this machine."""
        return self.name.startswith(("/", ".", "~")) or self.name.count("/") > 1 or Path(self.name).exists()

    def fault(self) -> str | None:
        """What is plainly wrong with the name, found without loading anything."""
        try:
            if self.name.startswith(starters.PREFIX):
                starters.locate(self.name)
                return None
        except ModelError as error:
            return str(error)
        if not self.local:
            return None
        folder = Path(self.name).expanduser()
        if not folder.is_dir():
            beside = [entry.name for entry in folder.parent.iterdir()] if folder.parent.is_dir() else []
            return f"the folder {self.name} does not exist{nearest(folder.name, beside)}"
        if not (folder / "config.json").is_file():
            adapter = (folder / "adapter_config.json").is_file()
            return f"{self.name} holds {'an adapter' if adapter else 'no config.json'}: give the folder of a whole model"
        return None

    def access(self) -> dict[str, Any]:
        """How transformers may fetch it: which revision, whether foreign code runs, and only what is here where no hub answers."""
        offline = not self.local and not self.name.startswith(starters.PREFIX) and not hub_reachable()
        return {"revision": self.revision, "trust_remote_code": self.trust_remote_code, "local_files_only": offline}

    def source(self) -> str:
        """What transformers is given: a folder or a hub id."""
        if self.name.startswith(starters.PREFIX):
            return str(starters.verified(self.name))
        return str(Path(self.name).expanduser().absolute()) if self.local else self.name


def load_tokenizer(spec: Model) -> Any:
    """The model's tokenizer, with a padding token. Raises ModelError with what to do."""
    from transformers import AutoTokenizer

    with told(spec, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(spec.source(), **spec.access())
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ModelError(f"the tokenizer of {spec.name} has neither a padding nor an end token: batches cannot be padded.")
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(spec: Model, auto_class: str, tokenizer: Any, seed: int, **config: Any) -> tuple[nn.Module, list[str]]:
    """The model under a head of `auto_class` (a name in transformers), and the parameters that start fresh.

    `config` overrides fields of the model's configuration, such as `num_labels`. Fresh weights are a function of `seed`.
    """
    import torch
    import transformers

    source, access, dtype = spec.source(), spec.access(), getattr(torch, spec.dtype)
    torch.manual_seed(seed)
    with told(spec, "model"):
        settings = transformers.AutoConfig.from_pretrained(source, **access, **config)
        auto = getattr(transformers, auto_class)
        if spec.from_scratch:
            model = auto.from_config(settings, dtype=dtype, trust_remote_code=spec.trust_remote_code)
            fresh = [name for name, _ in model.named_parameters()]
        else:
            model, info = auto.from_pretrained(
                source,
                config=settings,
                dtype=dtype,
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **access,
            )
            fresh = check_fresh(spec, model, info)
    check_vocabulary(spec, model, tokenizer)
    model.config.pad_token_id = tokenizer.pad_token_id
    return model, fresh


def weight_files(spec: Model) -> list[Path]:
    """The safetensors files (and their index) that the pretrained weights were read from."""
    source = spec.source()
    if not Path(source).is_dir():
        from huggingface_hub import snapshot_download

        source = snapshot_download(source, revision=spec.revision, allow_patterns=["*.safetensors", "*.safetensors.index.json"])
    index = Path(source) / "model.safetensors.index.json"
    if index.is_file():
        shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        return [index, *(Path(source) / shard for shard in shards)]
    return [Path(source) / "model.safetensors"]


def check_fresh(spec: Model, model: Any, info: dict[str, Any]) -> list[str]:
    """Parameters that the checkpoint did not fill. Raises ModelError where it filled (nearly) none of the base model."""
    mismatched = {entry[0] if isinstance(entry, tuple) else entry for entry in info["mismatched_keys"]}
    fresh = sorted({*info["missing_keys"], *mismatched})
    prefix = model.base_model_prefix + "."
    base = [name for name, _ in model.named_parameters() if name.startswith(prefix)]
    lost = [name for name in fresh if name in set(base) and "pooler" not in name]
    if len(lost) > len(base) // 2:
        raise ModelError(
            f"the weights in {spec.name} do not fit its architecture: {len(lost)} of {len(base)} parameters are not in them "
            f"({lost[0]}, ...). To start from random weights on purpose, say model.from_scratch=true."
        )
    return fresh


def check_vocabulary(spec: Model, model: Any, tokenizer: Any) -> None:
    rows = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise ModelError(
            f"the tokenizer of {spec.name} knows {len(tokenizer):,} tokens, its model only {rows:,}: they do not belong together."
        )


def length_limit(tokenizer: Any, model: Any) -> int:
    """Tokens that the model can read at once: the smaller of the tokenizer's word and the position table's usable rows."""
    limits = [tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None) or 10**9]
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and hasattr(module, "num_embeddings"):
            offset = 0 if module.padding_idx is None else module.padding_idx + 1
            limits.append(module.num_embeddings - offset)
    return int(min(limits))


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps transformers' own progress bars and notices off the screen for a while; Burnish says what matters itself."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def told(spec: Model, what: str) -> Iterator[None]:
    """Turns what transformers raises while loading into a ModelError that says how to go on."""
    from safetensors import SafetensorError

    try:
        with quiet():
            yield
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError, json.JSONDecodeError) as error:
        raise ModelError(f"the {what} of {spec.name} cannot be loaded: {cause(spec, error)}") from error


def cause(spec: Model, error: Exception) -> str:
    """A loading error in a sentence or two, with the way out."""
    text = str(error)
    first = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    folder = Path(spec.name).expanduser()
    if "trust_remote_code" in text:
        return "it brings Python code of its own. If you trust its source, say model.trust_remote_code=true."
    if spec.local and list(folder.glob("*.bin")) and not list(folder.glob("*.safetensors")):
        return "it holds pickled weights only (.bin), which Burnish never opens. Convert them to safetensors first."
    if type(error).__name__ == "SafetensorError" or ("safetensor" in text.lower() and "header" in text.lower()):
        return f"its safetensors file is damaged or half written ({first}). Copy or download it again."
    if not spec.local and not spec.name.startswith(starters.PREFIX) and not hub_reachable():
        return "it is no folder here, not among the models fetched earlier, and the hub cannot be reached from this machine. Give a local folder, or starter:minilm."
    if not spec.local and not spec.name.startswith(starters.PREFIX):
        return f"it is neither a folder here nor a model that the hub gives ({first}). Check the name, the network and, for a private model, `hf auth login`."
    return first
