"""Puts the fast path on a model, and proves it there: two short texts go through both ways, and what differs is not used.

Legend: B examples, T tokens of the longest, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import Any

import torch

from burnish.core.modes import in_mode
from burnish.core.protocols import Anatomy, Batch
from burnish.models.dropout import find
from burnish.models.fast import attention
from burnish.models.fast.body import Body
from burnish.models.fast.dropout import key_dropouts
from burnish.models.fast.heads import Headed, Reading
from burnish.models.fast.passing import Passage
from burnish.models.fast.trimmed import trim
from burnish.models.fast.two_sided import TwoSided

LENGTHS = (5, 3)
"""Tokens of the two texts on which the fast path is tried."""

CLOSE = {torch.float32: 1e-4, torch.float64: 1e-8}
"""How far the outputs of both ways may be apart, as a share of the largest of them."""

ROUGH = 5e-2
"""The same for weights in fewer bits."""

ALL_READ = "of what a decoder writes, all is read"

PLAIN_LAYERS = {"full_attention", "sliding_attention"}
"""Kinds of attention that packed sequences can have; others (chunked, linear) look at what stands beside."""


@dataclass
class Fast:
    """What of the fast path a model goes: where it does not, `reasons` says why, by the name of the saving.

    `keyed` is at how many places dropout is drawn by key, and how many there are; `sharing` whether first tokens that examples have in
    common are computed once (`Batch.shared`).
    """

    passage: Passage = field(default_factory=Passage)
    unpadded: bool = False
    trimmed: bool = False
    deferred: bool = False
    sharing: bool = False
    reading: Reading = "all"
    reasons: dict[str, str] = field(default_factory=dict)
    keyed: tuple[int, int] = (0, 0)


class Differs(Exception):
    """The fast path gives something else than the plain one."""


def quicken(model: Any, anatomy: Anatomy, engine: Any, virtual: int = 0) -> Fast:
    """Lets `model` (or what its method has wrapped) compute only what is read, as far as the recipe's `engine` wants it and it gives the same.

    `virtual` tokens before each text are none of its own: with them a model goes its own way.
    """
    wanted, fast = engine.savings, Fast()
    if engine.dropout == "keyed":
        fast.keyed = key_dropouts(model, fast.passage)
    asked = [name for name in ("unpadded", "trimmed", "supervised_logits") if getattr(wanted, name)]
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    if virtual:
        fast.reasons = dict.fromkeys(asked, "virtual tokens stand before each text")
        fast.keyed = with_attention(inner, anatomy, fast)
        return fast
    two_sided = bool(inner.config.is_encoder_decoder)
    fast.deferred = wanted.supervised_logits and inner.get_output_embeddings() is not None
    fast.unpadded = wanted.unpadded and not two_sided
    if two_sided and "trimmed" in asked:
        fast.reasons["trimmed"] = ALL_READ
    with in_mode(model, training=False), torch.no_grad():
        fast.reading = reading_of(inner)
        if fast.unpadded:
            fast.reasons |= pack(inner, anatomy, fast, wanted.trimmed)
        apart = put_aside(inner, fast) if fast.deferred and not fast.unpadded else None
        if two_sided and wanted.unpadded:
            fast.reasons |= pack_sides(inner, fast, apart)
    fast.keyed = with_attention(inner, anatomy, fast)
    return fast


def with_attention(inner: Any, anatomy: Anatomy, fast: Fast) -> tuple[int, int]:
    """`keyed`, counted with what attention draws by itself: by key where it is packed, by torch's generator in transformers' own functions."""
    keyed, places = fast.keyed
    if not fast.passage.keyed:
        return keyed, places
    within = [switch for switch in find(inner, anatomy) if switch.place == "attention" and switch.probability > 0]
    modules = sum(isinstance(switch.owner, torch.nn.Dropout) for switch in within)
    if fast.unpadded:
        return keyed + len(within) - modules, places
    return keyed - (modules if getattr(inner, "_supports_attention_backend", False) else 0), places


def pack(inner: Any, anatomy: Anatomy, fast: Fast, trimmed: bool) -> dict[str, str]:
    """Packs a model's body, and trims its last block, as far as both give the same; the reasons where they do not."""
    reason = unfit(inner)
    for module, offset in product(bodies(inner), offsets(inner)) if reason is None else ():
        headed = install(inner, fast, module, offset, packed=True)
        try:
            headed.trimmed = False
            compare(inner, fast)
        except Exception as error:  # whatever an architecture raises over packed texts: it goes its own way
            reason = told(error)
            remove(headed)
            continue
        headed.deferred = fast.deferred
        reasons = trim_last(inner, anatomy, fast, headed) if trimmed else {}
        share(inner, fast, headed)
        return reasons
    fast.unpadded = False
    return dict.fromkeys(("unpadded", "trimmed") if trimmed else ("unpadded",), reason or "its positions cannot be counted for each text")


def trim_last(inner: Any, anatomy: Anatomy, fast: Fast, headed: Headed) -> dict[str, str]:
    """Trims the last block of a packed body, its rows left alone or put back among the others; the reason where both give something else."""
    block = inner.get_submodule(anatomy.block_modules[-1])
    own, reason = vars(block).get("forward"), ""
    headed.trimmed = True
    for spread in (False, True):
        trim(inner, anatomy, fast.passage, spread)
        try:
            compare(inner, fast)
        except Exception as error:
            reason = told(error)
            restore(block, own)
        else:
            fast.trimmed = True
            return {}
    headed.trimmed = False
    return {"trimmed": reason}


def share(inner: Any, fast: Fast, headed: Headed) -> None:
    """Lets tokens with which several texts begin be computed once, where that gives the same: not where they see what follows them,
    nor where a head reads each text's first token, which is among those."""
    if fast.reading == "first":
        return
    headed.sharing = True
    try:
        compare(inner, fast, shared=2)
    except Exception:  # whatever it is that forbids it: shared tokens are computed for each text, as they stand in the inputs
        headed.sharing = False
    fast.sharing = headed.sharing


def pack_sides(inner: Any, fast: Fast, apart: Headed | None) -> dict[str, str]:
    """Packs an encoder and its decoder where both ways give the same; the reason where not. `apart` computes the scores already."""
    if inner.get_output_embeddings() is None:
        return {"unpadded": "an encoder-decoder is packed to write, and this one does not"}
    reason = ""
    for module in bodies(inner) if apart is None else [apart.body.module]:
        headed = install(inner, fast, module, 0, packed=False) if apart is None else apart
        try:
            headed.sides, headed.packed = TwoSided(inner, fast.passage), True
            compare(inner, fast)
        except Exception as error:  # whatever an architecture raises over packed texts: it goes its own way
            reason = told(error)
            if headed.sides is not None:
                headed.sides.remove()
            headed.sides, headed.packed = None, False
            if apart is None:
                remove(headed)
        else:
            fast.unpadded = True
            return {}
    return {"unpadded": reason}


def put_aside(inner: Any, fast: Fast) -> Headed | None:
    """Lets a padded language model compute its scores only where they are asked for."""
    for module in bodies(inner):
        headed = install(inner, fast, module, 0, packed=False)
        headed.deferred = True
        try:
            compare(inner, fast)
            fast.reasons.pop("supervised_logits", None)
            return headed
        except Exception as error:
            fast.reasons["supervised_logits"] = told(error)
            remove(headed)
    fast.deferred = False
    return None


def bodies(inner: Any) -> list[Any]:
    """What may be the body of a model: its base, or the decoder that some classes ask themselves (T5, OPT)."""
    base = inner.base_model
    decoder = getattr(base, "decoder", None)
    own = [] if base is inner else [base]
    return [*own, *([decoder] if isinstance(decoder, torch.nn.Module) and hasattr(decoder, "config") else [])]


def install(inner: Any, fast: Fast, body: Any, offset: int, packed: bool) -> Headed:
    attention.register()
    for number, module in enumerate(inner.modules()):
        vars(module).update(passage=fast.passage, place=number)
    return Headed(inner, Body(body, offset), fast.passage, fast.reading, packed)


def remove(headed: Headed) -> None:
    """Puts the forwards back that `install` replaced."""
    for module in (headed.model, headed.body.module):
        restore(module, None)


def restore(module: Any, own: Any) -> None:
    vars(module).pop("forward", None)
    if own is not None:
        module.forward = own


def unfit(inner: Any) -> str | None:
    """Why packing need not be tried."""
    config = inner.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ()) - PLAIN_LAYERS
    if kinds or getattr(config, "attention_chunk_size", None):
        return f"it attends in other ways than within its text ({', '.join(sorted(kinds)) or 'in chunks'})"
    return None


def offsets(inner: Any) -> list[int]:
    """Where positions may begin: at 0, or (RoBERTa) after the padding token's."""
    pad = getattr(inner.config, "pad_token_id", None)
    return [0] if pad is None else [0, int(pad) + 1]


def told(error: Exception) -> str:
    """A reason in words."""
    if isinstance(error, attention.Unsupported):
        return f"its attention asks for more than packed texts have ({error})"
    if isinstance(error, Differs):
        return str(error)
    return f"it does not take packed texts ({type(error).__name__}: {str(error).partition(chr(10))[0][:120]})"


def trial(inner: Any, shared: int = 0) -> Batch:
    """Two texts of ordinary tokens, every other of which is read; the second begins with `shared` tokens of the first."""
    config = inner.config
    device = next(inner.parameters()).device
    size = inner.get_input_embeddings().weight.shape[0]
    special = {getattr(config, f"{name}_token_id", None) for name in ("pad", "bos", "eos", "mask", "sep", "cls", "decoder_start")}
    plain = [token for token in range(min(size, 64)) if token not in special]
    ids = torch.full((len(LENGTHS), max(LENGTHS)), int(getattr(config, "pad_token_id", None) or 0))
    for row, length in enumerate(LENGTHS):
        ids[row, :length] = torch.tensor([plain[(7 * row + 3 * at) % len(plain)] for at in range(length)])
    ids[1, :shared] = ids[0, :shared]
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]  # (B, T)
    read = mask & (torch.arange(max(LENGTHS)) % 2 == 0)
    inputs = {"input_ids": ids.to(device), "attention_mask": mask.long().to(device)}
    if config.is_encoder_decoder and inner.get_output_embeddings() is not None:
        # Shorter than the source, and of other proportions, so that no side passes for the other.
        inputs["decoder_input_ids"] = inputs["input_ids"].flip(0)[:, : min(LENGTHS) + 1]
        read = torch.arange(min(LENGTHS) + 1) < torch.tensor([[2], [4]])
    elif config.is_encoder_decoder:
        inputs["decoder_input_ids"] = inputs["input_ids"]
    read[1, :shared] = False
    return Batch(inputs, {}, [0, 1], 2.0, sum(LENGTHS), read, shared=[0, shared])


def compare(inner: Any, fast: Fast, shared: int = 0) -> None:
    """Raises Differs where the model's outputs on the trial depend on the way that they are computed."""
    batch = trial(inner, shared)
    real = batch.read
    assert real is not None
    plain, quick = inner(**batch.inputs), None
    with fast.passage.of(batch, range(len(LENGTHS)), (0, 0)):
        quick = inner(**batch.inputs)
    for name in [name for name, value in plain.items() if isinstance(value, torch.Tensor) and name.endswith("logits")]:
        want, found = plain[name], quick[name]
        if want.shape[:2] == real.shape:
            want, found = want[real], found[real]
        found = found.whole() if hasattr(found, "whole") else found
        apart = float((want - found).abs().max() / want.abs().max().clamp(min=1e-6))
        if not apart <= CLOSE.get(want.dtype, ROUGH):
            raise Differs(f"what it says of two short texts differs by {apart:.1e} of its size from what it says of them padded")


def reading_of(inner: Any) -> Reading:
    """Which hidden states the head of a model reads, found by asking which of them its output depends on."""
    if inner.get_output_embeddings() is not None:
        return "tokens"
    if not type(inner).__name__.endswith("ForSequenceClassification") or inner.base_model is inner:
        return "all"
    batch, body = trial(inner), Body(inner.base_model)
    hidden = torch.randn(len(LENGTHS), max(LENGTHS), inner.config.hidden_size, generator=torch.Generator().manual_seed(0))
    hidden = hidden.to(next(inner.parameters())).requires_grad_()
    try:
        with torch.enable_grad(), body.handing_out(hidden):
            logits = inner(**batch.inputs).logits  # (B, C)
            weights = torch.arange(1.0, 1.0 + logits.numel(), device=logits.device).view_as(logits)
            (gradient,) = torch.autograd.grad((logits.float() * weights).sum(), hidden)
    except Exception:  # a head that takes no hidden states alone is not asked
        return "all"
    finally:
        restore(inner.base_model, None)
    read = [row.abs().sum(dim=-1).nonzero()[:, 0].tolist() for row in gradient]
    if all(places == [0] for places in read):
        return "first"
    return "last" if read == [[length - 1] for length in LENGTHS] else "all"
