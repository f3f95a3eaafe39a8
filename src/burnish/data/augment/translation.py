"""Back-translation: a text into another language and back, which keeps what it says and changes how."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from burnish.core.errors import DataError
from burnish.core.network import hub_reachable
from burnish.core.passage import Passage, written
from burnish.core.registry import register
from burnish.core.spec import Spec
from burnish.data import cache
from burnish.data.augment.material import Drawn, Material
from burnish.data.augment.whole import refitted

if TYPE_CHECKING:
    import torch

BATCH = 16
LONGER = 2
"""A translation has at most so many times the tokens of its source, and ROOM more."""

ROOM = 16
USUAL_LIMIT = 512


@register("augmentation")
class BackTranslation(Spec):
    """Translates a text into another language and back, by two models; all training texts are translated once, before the first step.

    Sennrich, Haddow and Birch 2016, arXiv:1511.06709; for classification Xie et al. 2020, "Unsupervised Data Augmentation", arXiv:1904.12848.
    The way there takes the likeliest words, the way back draws them, so that variants differ. Texts longer than a model reads are left
    as they are, and so are those in whose translation an entity or an answer no longer stands exactly once.
    """

    name: Literal["back_translation"] = "back_translation"
    word_for_word: ClassVar[bool] = False
    pure: ClassVar[bool] = True

    there: str = Field(min_length=1)
    """The encoder-decoder model that translates into the other language: a folder or a hub id, such as Helsinki-NLP/opus-mt-en-de."""

    back: str = Field(min_length=1)
    """The model that translates back, such as Helsinki-NLP/opus-mt-de-en."""

    variants: int = Field(default=1, ge=1, le=16)
    """Translations of each text, of which one is drawn at each use; 1 to 4. Time and disk space grow with it."""

    temperature: float = Field(default=0.7, ge=0, le=2)
    """How freely words are drawn on the way back: 0 takes the likeliest, 0.7 to 0.9 is usual."""

    @model_validator(mode="after")
    def variants_differ(self) -> BackTranslation:
        if self.variants > 1 and not self.temperature:
            raise ValueError("at temperature 0 all variants are the same: take one, or a temperature of 0.7")
        return self

    def build(self, material: Material) -> Drawn:
        texts = sorted(set(material.texts()))
        table = self.remembered(texts, material)

        def change(passage: Passage, draw: np.random.Generator) -> Passage:
            variants = table.get(written(passage).strip())
            return passage if not variants else refitted(passage, variants[draw.integers(len(variants))]) or passage

        return change

    def remembered(self, texts: Sequence[str], material: Material) -> dict[str, list[str]]:
        """Text -> its translations, from the cache where the very same texts were translated before.

        What is drawn for a text depends on those beside it in its batch: so it is all texts together that are kept, and a run that is
        resumed trains on what it began with.
        """
        facts = [self.model_dump(), material.seed, [identity(name) for name in (self.there, self.back)], texts]
        name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()[:32]
        path = cache.root().parent / "translations" / f"{name}.json"
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            pass
        made = self.translated(texts, material)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            aside = path.with_suffix(f".{os.getpid()}.part")
            aside.write_text(json.dumps(made, ensure_ascii=False), encoding="utf-8", errors="replace")
            os.replace(aside, path)
        except OSError:
            pass  # a disk that refuses costs the cache, not the run: resumed, the texts are translated again, to the same
        return made

    def translated(self, texts: Sequence[str], material: Material) -> dict[str, list[str]]:
        """Text -> its translations; texts that a model cannot read whole are left out."""
        there, total = Translator.opened(self.there, material.device), len(texts) * (1 + self.variants)
        whole: list[str | None] = [text.strip() or None for text in texts]
        abroad = there.translations(whole, 0.0, [material.seed, 0], Telling(material, 0, total))
        del there
        back = Translator.opened(self.back, material.device)
        found: dict[str, list[str]] = {text.strip(): [] for text in texts}
        for variant in range(1, self.variants + 1):
            told = Telling(material, variant * len(texts), total)
            for text, made in zip(texts, back.translations(abroad, self.temperature, [material.seed, variant], told), strict=True):
                if made:
                    found[text.strip()].append(made)
        return {text: variants for text, variants in found.items() if variants}


@dataclass(frozen=True)
class Telling:
    """Tells how many of `total` translations are made, `before` of which were before."""

    material: Material
    before: int
    total: int

    def __call__(self, done: int) -> None:
        self.material.tell("texts translated", self.before + done, self.total)


def identity(name: str) -> list[Any]:
    """What tells a model from another of the same name: the files of a folder."""
    folder = Path(name)
    return [
        name,
        sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in folder.iterdir()) if folder.is_dir() else None,
    ]


@dataclass(frozen=True)
class Translator:
    """An encoder-decoder model and its tokenizer."""

    model: Any
    tokenizer: Any
    device: str

    @classmethod
    def opened(cls, name: str, device: str) -> Translator:
        """Raises DataError where the model cannot be loaded."""
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        known = {"local_files_only": Path(name).is_dir() or not hub_reachable()}
        try:
            model = AutoModelForSeq2SeqLM.from_pretrained(name, **known)
            tokenizer = AutoTokenizer.from_pretrained(name, **known)
        except (OSError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise DataError(f"back_translation: the model {name} cannot be loaded as an encoder-decoder: {reason}") from error
        return cls(model.float().eval().to(device), tokenizer, device)

    @property
    def limit(self) -> int:
        """Tokens that the model reads and writes at most."""
        places = getattr(self.model.config, "max_position_embeddings", None) or USUAL_LIMIT
        return min(int(places), int(min(self.tokenizer.model_max_length, USUAL_LIMIT)))

    def translations(self, texts: Sequence[str | None], temperature: float, seed: Sequence[int], told: Telling) -> list[str | None]:
        """A translation of each text, None for those that are none or too long; drawn from `seed` and the number of the batch."""
        ids = [self.tokenizer(text, verbose=False)["input_ids"] if text else [] for text in texts]
        places = sorted((place for place, own in enumerate(ids) if 0 < len(own) <= self.limit), key=lambda place: (len(ids[place]), place))
        found: list[str | None] = [None] * len(texts)
        for number, batch in enumerate(batches(places)):
            drawn = int(np.random.default_rng([*seed, number]).integers(2**31))
            for place, text in zip(batch, self.batch([ids[place] for place in batch], temperature, drawn), strict=True):
                found[place] = text
            told(min((number + 1) * BATCH, len(places)))
        return found

    def batch(self, ids: Sequence[Sequence[int]], temperature: float, seed: int) -> list[str]:
        import torch

        given = self.tokenizer.pad({"input_ids": [list(own) for own in ids]}, return_tensors="pt").to(self.device)
        drawing = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
        with torch.random.fork_rng(devices=cuda(self.device)), torch.inference_mode():
            torch.manual_seed(seed)
            written = self.model.generate(
                input_ids=given["input_ids"],
                attention_mask=given["attention_mask"],
                num_beams=1,
                max_new_tokens=min(self.limit - 1, LONGER * math.ceil(len(ids[-1])) + ROOM),
                **drawing,
            )
        return [text.strip() for text in self.tokenizer.batch_decode(written, skip_special_tokens=True)]


def cuda(device: str) -> list[torch.device]:
    """The devices whose generators are to be left as they are."""
    import torch

    return [torch.device(device)] if device.startswith("cuda") else []


def batches(places: Sequence[int]) -> Iterator[Sequence[int]]:
    yield from (places[start : start + BATCH] for start in range(0, len(places), BATCH))
