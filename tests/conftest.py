"""Fixtures that all tests share: a tiny BERT with its tokenizer, and a small file that it can learn. No test touches the network."""

from __future__ import annotations

import atexit
import csv
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Before anything imports a Hugging Face library, for these read their environment once, at import.
HOME = tempfile.mkdtemp(prefix="burnish-tests-")
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HOME": HOME, "BURNISH_CACHE": HOME, "TOKENIZERS_PARALLELISM": "false"}

GOOD = ("lovely", "great", "wonderful", "happy", "perfect", "thanks")
BAD = ("broken", "awful", "late", "angry", "wrong", "refund")
THINGS = ("candle", "parcel", "shears", "kettle")


def vocabulary() -> list[str]:
    """The special tokens, all letters and digits, and the 400 commonest words of the bundled messages."""
    from burnish.data import sources

    messages = " ".join(row.values["text"].lower() for row in sources.read("bundled:messages-train"))
    common = [word for word, _ in Counter(re.findall(r"[a-z]{2,}", messages)).most_common(400)]
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    pieces = [*letters, *(f"##{letter}" for letter in letters), *".,!?'-\"", *GOOD, *BAD, *THINGS, *common]
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(pieces)]


def tiny_tokenizer(**options: Any) -> Any:
    """A WordPiece tokenizer of a few hundred words that no character of English text leaves unknown."""
    from transformers import BertTokenizer

    words = vocabulary()
    return BertTokenizer(vocab={word: index for index, word in enumerate(words)}, **{"model_max_length": 64, **options})


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a BERT of 2 blocks, 32 wide, without dropout, and its tokenizer, as `save_pretrained` leaves them."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    BertModel(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def pieces_tokenizer(**options: Any) -> Any:
    """A byte-level BPE tokenizer of 400 pieces, learned from the bundled messages, that adds no special token by itself."""
    from burnish.data import sources
    from burnish.models import vocabulary

    tokenizer = vocabulary.train([row.values["text"] for row in sources.read("bundled:messages-validation")], "bpe", 400)
    tokenizer.model_max_length = options.get("model_max_length", 64)
    return tokenizer


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a causal language model of 2 blocks, 32 wide, and its tokenizer, without a chat template."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    tokenizer = pieces_tokenizer()
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 64}
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=True, **size, **ids)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an encoder-decoder of 2 and 2 blocks, 32 wide, without dropout, and its tokenizer."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    folder = tmp_path_factory.mktemp("models") / "tiny-t5"
    tokenizer = pieces_tokenizer()
    torch.manual_seed(0)
    size = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 2, "dropout_rate": 0.0}
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "decoder_start_token_id": tokenizer.pad_token_id}
    T5ForConditionalGeneration(T5Config(vocab_size=len(tokenizer), **size, **ids)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def rows_csv(tmp_path: Path) -> Path:
    """48 rows `text,label` of praise and complaint, told apart by one word; in every four rows two of each."""
    path = tmp_path / "rows.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        for number in range(24):
            thing, extra = THINGS[number % 4], " I have waited for it a long time" * (number % 3)
            writer.writerow([f"The {thing} is {GOOD[number % 6]}, number {number}.{extra}", "praise"])
            writer.writerow([f"My {thing} was {BAD[number % 6]} on day {number}!{extra}", "complaint"])
    return path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One thread, for models this small are slowed down by a second one; and no report, whose drawings take longer than the run."""
    import torch

    monkeypatch.setattr("burnish.report.page.write", lambda path: None)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
