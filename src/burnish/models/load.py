"""Loads a tokenizer and a model from the hub, a local folder or a starter, or makes a fresh one: safetensors only, no foreign code
unless allowed."""

from __future__ import annotations

import json
import logging as standard_logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from burnish.core.errors import ModelError
from burnish.core.network import hub_reachable
from burnish.models import fresh, layers, quantized
from burnish.models.quantize import Quantize
from burnish.models.spec import Model

if TYPE_CHECKING:
    from torch import nn

DEFAULT_LENGTH = 512
"""Tokens that a model without a limit of its own (relative positions, as in T5) is given at once."""

UNLIMITED = 10**9

RAISED = (OSError, ValueError, KeyError, ImportError, RuntimeError, TypeError, AttributeError, AssertionError)
"""What transformers raises over files and configurations that it cannot take."""

PROBED = 2000
PROBE = "It's 1984 and we'll pay 3.50 €:  déjà vu?\n\n\tL’œuvre «coûte» 12 000,-- (naïve) THE END..."


def load_tokenizer(spec: Model) -> Any:
    """The model's tokenizer, or the one that the recipe gives it, with a padding token. Raises ModelError with what to do."""
    from transformers import AutoTokenizer

    opened = spec.opened_for_tokenizer
    with told(opened, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(opened.source(), **opened.access())
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ModelError(f"the tokenizer of {opened.name} has neither a padding nor an end token: batches cannot be padded.")
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(
    spec: Model, auto_class: str, tokenizer: Any, seed: int, added: int = 0, device: str = "cpu", **config: Any
) -> tuple[nn.Module, list[str]]:
    """The model under a head of `auto_class` (a name in transformers), and the parameters that start fresh.

    `config` sets fields of the model's configuration that the task decides, such as `num_labels`. `added` is how many tokens the
    task has added to the tokenizer: the model's embeddings grow to hold them, each about the mean of the others. Fresh weights are a
    function of `seed`. Quantised weights are put on `device` at once (`cpu`, `cuda`), others stay on the CPU.
    """
    import torch
    import transformers

    torch.manual_seed(seed)
    auto = getattr(transformers, auto_class)
    with told(spec, "model"):
        if spec.fresh:
            settings = fresh_settings(spec, tokenizer, config)
            model = auto.from_config(settings, dtype=getattr(torch, spec.dtype), trust_remote_code=spec.trust_remote_code)
            names = [name for name, _ in model.named_parameters()]
        else:
            model, names = pretrained(spec, auto, config, device)
            if spec.layers is not None:
                names = layers.keep_blocks(model, spec.layers, names)
        if spec.tokenizer is not None:
            check_reopening(model.config, tokenizer, spec.trust_remote_code)
    check_vocabulary(spec, model, len(tokenizer) - added)
    check_end(spec, model, tokenizer)
    if len(tokenizer) > len(model.get_input_embeddings().weight):
        torch.manual_seed(seed)
        with quiet():
            model.resize_token_embeddings(len(tokenizer))
    set_special_ids(model, tokenizer)
    return model, names


def fresh_settings(spec: Model, tokenizer: Any, config: Mapping[str, Any]) -> Any:
    """The configuration of a model that starts from random weights."""
    from transformers import AutoConfig

    if spec.architecture is not None:
        return fresh.new_config(spec.architecture, spec.config, tokenizer, config)
    settings = AutoConfig.from_pretrained(spec.source(), **spec.access(), **config)
    return fresh.altered_config(settings, spec.config, tokenizer if spec.tokenizer is not None else None, config)


def pretrained(spec: Model, auto: Any, config: Mapping[str, Any], device: str = "cpu") -> tuple[Any, list[str]]:
    """The model with its weights, and the parameters that these leave fresh."""
    import torch
    from transformers import AutoConfig

    source, access = spec.source(), spec.access()
    settings = AutoConfig.from_pretrained(source, **access, **config)
    quantized.require_plain(settings, spec.name)
    model, info = auto.from_pretrained(
        source,
        config=settings,
        dtype=getattr(torch, spec.dtype),
        use_safetensors=True,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        **(quantized.options(spec.quantize, auto, settings, device, spec.trust_remote_code) if spec.quantize else {}),
        **access,
    )
    quantized.settle(model)
    return model, check_fresh(spec, model, info)


def reopened(folder: Path, auto: Any, quantize: Quantize | None, device: str, trust_remote_code: bool) -> Any:
    """A saved model as transformers opens it; with `quantize`, the weights of its blocks are held in few bits."""
    from transformers import AutoConfig

    extra: dict[str, Any] = {}
    if quantize is not None:
        settings = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        extra = quantized.options(quantize, auto, settings, device, trust_remote_code)
    model = auto.from_pretrained(folder, use_safetensors=True, trust_remote_code=trust_remote_code, **extra)
    quantized.settle(model)
    return model


def set_special_ids(model: Any, tokenizer: Any) -> None:
    """What the model pads with is what its batches are padded with, in writing texts too; what ends a text is kept where it is known."""
    model.config.pad_token_id = tokenizer.pad_token_id
    generation = getattr(model, "generation_config", None)
    if generation is None:
        return
    generation.pad_token_id = tokenizer.pad_token_id
    if generation.eos_token_id is None:
        generation.eos_token_id = tokenizer.eos_token_id


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


def check_vocabulary(spec: Model, model: Any, known: int) -> None:
    """Raises ModelError where the tokenizer knows more tokens, before the task added its own, than the model has embeddings for."""
    rows = len(model.get_input_embeddings().weight)
    if known > rows:
        raise ModelError(
            f"the tokenizer of {spec.tokenizer or spec.name} knows {known:,} tokens, the model {spec.name} only {rows:,}: "
            "they do not belong together."
        )


def check_end(spec: Model, model: Any, tokenizer: Any) -> None:
    """Raises ModelError where an encoder-decoder is to classify by the token that ends a text, and the tokenizer adds none."""
    if not (model.config.is_encoder_decoder and type(model).__name__.endswith("ForSequenceClassification")):
        return
    if tokenizer(PROBE, verbose=False)["input_ids"].count(model.config.eos_token_id) != 1:
        raise ModelError(
            f"{type(model).__name__} tells the class of a text by the token that ends it, and the tokenizer of "
            f"{spec.tokenizer or spec.name} does not end texts with it. Take a tokenizer made for this model, or an encoder (bert, roberta)."
        )


def check_reopening(settings: Any, tokenizer: Any, trust_remote_code: bool) -> None:
    """Raises ModelError where the saved model would read other ids than it learned from.

    For some architectures transformers overrules the class that a tokenizer was saved with, and with it how text is cut. So the
    two are saved and opened together, and have to agree on the tokenizer's own tokens and a sentence of odd signs.
    """
    from transformers import AutoTokenizer

    texts = [PROBE, *(tokenizer.decode([token]) for token in range(min(PROBED, len(tokenizer))))]
    with tempfile.TemporaryDirectory() as folder:
        settings.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        try:
            again = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=trust_remote_code)
            same = again(texts, verbose=False)["input_ids"] == tokenizer(texts, verbose=False)["input_ids"]
        except Exception:  # whatever the other class makes of files that are not its own
            same = False
    if not same:
        raise ModelError(
            f"transformers opens the tokenizer of every {settings.model_type} model in a way of its own, in which this one reads texts "
            "otherwise. Take a tokenizer made for it (of those that Burnish trains, bpe suits most) or another architecture."
        )


def length_limit(tokenizer: Any, model: Any) -> int:
    """Tokens that the model can read at once: the smaller of the tokenizer's word and the position table's usable rows.

    Where neither says anything, as with relative positions, DEFAULT_LENGTH.
    """
    positions = getattr(model.config, "max_position_embeddings", None) or UNLIMITED
    limits = [tokenizer.model_max_length, positions if positions > 0 else UNLIMITED]  # -1 in XLNet
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and hasattr(module, "num_embeddings"):
            offset = 0 if module.padding_idx is None else module.padding_idx + 1
            limits.append(module.num_embeddings - offset)
    limit = int(min(limits))
    return limit if limit < UNLIMITED else DEFAULT_LENGTH


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps transformers' own progress bars and notices off the screen for a while; Burnish says what matters itself.

    bitsandbytes' remarks on kernels that it could use besides are kept off for good: peft imports it later, with any method of its own.
    """
    from transformers.utils import logging

    standard_logging.getLogger("bitsandbytes").setLevel(standard_logging.ERROR)
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
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    try:
        with quiet():
            yield
    except (SafetensorError, StrictDataclassError, *RAISED) as error:
        raise ModelError(f"the {what} of {spec.name} cannot be loaded: {cause(spec, error)}") from error


def cause(spec: Model, error: Exception) -> str:
    """A loading error in a sentence or two, with the way out."""
    text = str(error)
    said = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    first = " ".join(said[: 2 if said[0].endswith(":") else 1])
    folder = Path(spec.name).expanduser()
    if first.startswith("Unrecognized configuration class"):
        return f"its architecture has no form that suits the task ({first.rpartition(' ')[2].rstrip('.')})."
    if isinstance(error, KeyError):
        return f"it asks for {error}, which transformers does not know."
    if "trust_remote_code" in text:
        return "it brings Python code of its own. If you trust its source, say model.trust_remote_code=true."
    if spec.local and list(folder.glob("*.bin")) and not list(folder.glob("*.safetensors")):
        return "it holds pickled weights only (.bin), which Burnish never opens. Convert them to safetensors first."
    if type(error).__name__ == "SafetensorError" or ("safetensor" in text.lower() and "header" in text.lower()):
        return f"its safetensors file is damaged or half written ({first}). Copy or download it again."
    if spec.on_hub and not hub_reachable():
        return "it is no folder here, not among the models fetched earlier, and the hub cannot be reached from this machine. Give a local folder, or starter:minilm."
    if spec.on_hub:
        return f"it is neither a folder here nor a model that the hub gives ({first}). Check the name, the network and, for a private model, `hf auth login`."
    return first
