"""Virtual tokens that learn before a text, while the model itself stays as it is, through peft.

Legend: B examples, T tokens, n virtual tokens.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from burnish.core.errors import ModelError
from burnish.core.protocols import Anatomy, Course, Technique
from burnish.core.registry import register
from burnish.core.spec import Spec
from burnish.methods.folders import BASE, base_of, keep_adapter
from burnish.methods.injected import fresh_heads, refused, require_no_new_tokens

if TYPE_CHECKING:
    import torch
    from torch import nn

TASKS = {
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
    "ForCausalLM": "CAUSAL_LM",
    "LMHeadModel": "CAUSAL_LM",
    "ForConditionalGeneration": "SEQ_2_SEQ_LM",
}
"""What peft calls a model's task, by how its class is named."""

PER_TOKEN = ("logits", "start_logits", "end_logits")
"""Outputs with a value for each token."""


class Prompted(Spec):
    """A method of peft that puts virtual tokens before the text. A head that starts at random learns in full."""

    virtual_tokens: int = Field(default=20, ge=1)
    """Virtual tokens before each text, which take as many of the positions that the model can read; 5 to 100."""

    takes_quantized: ClassVar[tuple[str, ...]] = ("nf4", "int8")

    opens_quantized: ClassVar[tuple[str, ...]] = ("nf4", "int8")

    @property
    def positions(self) -> int:
        return self.virtual_tokens

    @abstractmethod
    def config(self, model: Any, shared: dict[str, Any]) -> Any:
        """peft's configuration of the method."""

    def apply(self, model: Any, anatomy: Anatomy) -> nn.Module:
        import peft

        require_no_new_tokens(self.name, anatomy)  # type: ignore[attr-defined]
        kind = next((task for ending, task in TASKS.items() if type(model).__name__.endswith(ending)), None)
        if kind is None:
            raise ModelError(
                f"`method`: peft puts no virtual tokens before the text of a {type(model).__name__} (its tasks: classify, tag, answer, "
                "continue, chat, rewrite). Use lora or adapters."
            )
        shared = {"task_type": kind, "num_virtual_tokens": self.virtual_tokens, "modules_to_save": fresh_heads(anatomy)}
        with refused(self, model):
            shared |= sizes(model.config)
            prompted = peft.get_peft_model(model, self.config(model, shared))
        heads = set(anatomy.head_modules) if shared["modules_to_save"] is None else set()
        for name, parameter in prompted.named_parameters():
            # peft lets every classifier learn; one that came with the weights stays, as with the other methods.
            if anatomy.own_name(name).startswith(tuple(f"{head}." for head in heads)):
                parameter.requires_grad_(False)
        own_tokens_only(prompted)
        self.tried(prompted)
        return prompted

    def tried(self, model: Any) -> None:
        """Raises ModelError where peft's way of putting tokens before the text does not work for this architecture, or reads padding as text.

        A model without numbers (torch's meta device) says nothing that could be compared.
        """
        base = model.get_base_model()
        if base.device.type == "meta":
            return
        try:
            with refused(self, base):
                short, padded = probe(model, 0), probe(model, 2)
        except (RuntimeError, IndexError) as error:  # shapes that do not meet
            raise ModelError(
                f"`method`: the virtual tokens that peft makes for {self.name} do not fit {type(base).__name__} "  # type: ignore[attr-defined]
                f"({str(error).partition(chr(10))[0]}). Use another method, such as lora."
            ) from error
        if short.shape != padded.shape or not short.allclose(padded, atol=1e-4, rtol=1e-3):
            raise ModelError(
                f"`method`: with {self.name}, {type(base).__name__} reads the padding of a batch as text, so that an "  # type: ignore[attr-defined]
                "example's output depends on the others. Use prefix_tuning or lora."
            )

    def faults(self, train: Any) -> list[str]:
        return []

    def techniques(self, model: nn.Module, anatomy: Anatomy, course: Course) -> list[Technique]:
        return []

    def save(self, model: Any, folder: Path, base: Sequence[Path] | None) -> None:
        keep_adapter(model, folder, base, BASE)

    def open(self, folder: Path, load: Callable[[Path], Any]) -> nn.Module:
        import peft

        with base_of(folder) as plain:
            model: nn.Module = peft.PeftModel.from_pretrained(load(plain), str(folder))
        own_tokens_only(model)
        return model

    def merged(self, folder: Path, load: Callable[[Path], Any]) -> Any:
        raise ModelError(
            f"{self.name} leaves virtual tokens before the text, which are no part of any weight: there is nothing to merge. "  # type: ignore[attr-defined]
            "Use the run itself, or train with lora."
        )


@register("method")
class PromptTuning(Prompted):
    """n embeddings before the text learn, and nothing else: the input becomes [p_1 ... p_n, x_1 ... x_T].

    A few thousand parameters; comes near to fine-tuning only for large models, and wants a learning rate of 0.01 to 0.3.
    Lester et al. 2021, arXiv:2104.08691.
    """

    name: Literal["prompt_tuning"] = "prompt_tuning"

    def config(self, model: Any, shared: dict[str, Any]) -> Any:
        import peft

        return peft.PromptTuningConfig(**embedded(model, shared), num_transformer_submodules=1)


@register("method")
class PTuning(Prompted):
    """Prompt tuning whose embeddings come out of a small network (an MLP), which makes them easier to learn; it is dropped afterwards.

    Wants a learning rate of 1e-3 to 1e-2. Liu et al. 2021, "GPT understands, too", arXiv:2103.10385.
    """

    name: Literal["p_tuning"] = "p_tuning"

    hidden: int = Field(default=128, ge=1)
    """Width of the network; 64 to 1024."""

    def config(self, model: Any, shared: dict[str, Any]) -> Any:
        import peft

        return peft.PromptEncoderConfig(**embedded(model, shared), num_transformer_submodules=1, encoder_hidden_size=self.hidden)


@register("method")
class PrefixTuning(Prompted):
    """n keys and values before those of the text learn, in every block: more to learn with than prompt tuning, at little cost.

    Wants a learning rate of 1e-3 to 1e-2. Li and Liang 2021, arXiv:2101.00190.
    """

    name: Literal["prefix_tuning"] = "prefix_tuning"

    projection: int | None = Field(default=None, ge=1)
    """Width of a network that makes the prefix out of embeddings (the paper's 512 to 800; steadier, and many more parameters); null learns it as it is."""

    def config(self, model: Any, shared: dict[str, Any]) -> Any:
        import peft

        width = getattr(model.config, "d_kv", None)  # T5's heads may be wider or narrower together than its states
        if width is not None:
            shared |= {"token_dim": width * shared["num_attention_heads"]}
        return peft.PrefixTuningConfig(**shared, prefix_projection=self.projection is not None, encoder_hidden_size=self.projection)

    def faults(self, train: Any) -> list[str]:
        if train.checkpoint_blocks is None:
            return []
        return ["`train.checkpoint_blocks`: prefix_tuning keeps what it learns in a cache that is written once; leave one of the two out"]


def sizes(config: Any) -> dict[str, int]:
    """Width, heads and blocks, by the names that every configuration of transformers answers to; of two stacks the decoder's blocks."""
    blocks = getattr(config, "num_decoder_layers", None) or getattr(config, "decoder_layers", None) or config.num_hidden_layers
    return {"token_dim": config.hidden_size, "num_attention_heads": config.num_attention_heads, "num_layers": blocks}


def embedded(model: Any, shared: dict[str, Any]) -> dict[str, Any]:
    """The same for virtual tokens that stand beside embeddings, which are narrower than the blocks in ELECTRA, ALBERT and OPT of 350M."""
    return {**shared, "token_dim": model.get_input_embeddings().embedding_dim}


def own_tokens_only(model: Any) -> None:
    """Outputs are of the text's own tokens, what stands above the virtual ones is cut off; and no padding stands between the two."""

    def cut(module: Any, inputs: Any, keywords: dict[str, Any], output: Any) -> Any:
        ids = keywords.get("decoder_input_ids", keywords.get("input_ids"))
        if ids is None:
            return output
        for name in PER_TOKEN:
            value = output.get(name)
            if value is not None and value.shape[1] > ids.shape[1] and (value.dim() == 3 or name != "logits"):
                output[name] = value[:, -ids.shape[1] :]  # (B, T, ...)
        return output

    model.register_forward_hook(cut, with_kwargs=True)
    if not model.config.is_encoder_decoder and hasattr(model, "generate"):
        model.generate = unpadded(model.generate)


def unpadded(generate: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """`generate` for decoders whose prompts are padded on the left: prompts of one length go together, and without their padding.

    peft puts the virtual tokens before the padding and counts positions through it, so that a text would depend on the prompts beside it.
    """
    import torch

    def write(input_ids: torch.Tensor, attention_mask: torch.Tensor, pad_token_id: int, **options: Any) -> torch.Tensor:
        width, lengths = input_ids.shape[1], attention_mask.sum(dim=1).tolist()  # (B, T)
        found: list[torch.Tensor] = [input_ids[0]] * len(lengths)
        for length in sorted(set(lengths)):
            rows = [row for row, own in enumerate(lengths) if own == length]
            start = width - length
            prompts, mask = input_ids[rows, start:], attention_mask[rows, start:]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # peft counts positions itself
                whole = generate(input_ids=prompts, attention_mask=mask, pad_token_id=pad_token_id, **options)
            for row, ids in zip(rows, whole, strict=True):
                found[row] = torch.cat([input_ids[row, :start], ids])
        longest = max(map(len, found))
        return torch.stack([torch.nn.functional.pad(ids, (0, longest - len(ids)), value=pad_token_id) for ids in found])  # (B, T + W)

    return write


def probe(model: Any, padding: int) -> torch.Tensor:
    """What the model says of four tokens with `padding` after them: (1, C), or (1, 4, C)."""
    import torch

    pad = model.config.pad_token_id or 0
    ids = [token for token in range(1, 8) if token != pad][:4]
    batch = {"input_ids": torch.tensor([ids + [pad] * padding]), "attention_mask": torch.tensor([[1] * 4 + [0] * padding])}
    if model.config.is_encoder_decoder:
        batch |= {"decoder_input_ids": torch.tensor([ids])}
    model.eval()
    with torch.no_grad():
        output = model(**{name: tensor.to(model.device) for name, tensor in batch.items()})
    found: torch.Tensor = output["logits"] if "logits" in output else output["start_logits"]
    return found[:, :4] if found.dim() == 3 or "logits" not in output else found
