"""Trains a tokenizer on texts: byte-level BPE, a unigram model of pieces, or WordPiece, each as its model families expect it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from burnish.core.errors import DataError, nearest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Kind = Literal["bpe", "unigram", "wordpiece"]

GENERATIVE = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}
BERT = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]

WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""What no token of `bpe` reaches across: words with the space before them, single digits, runs of signs and of spaces. It is Qwen2's
pattern, for transformers gives every tokenizer in the folder of a Qwen2 model that one."""

SPELT = "<>x0123456789ABCDEF"
"""Characters that write the name of a byte piece: each is a piece, so that the text `<0x41>` is spelt and not taken for one."""

FEWEST = 2
"""A merge that occurs only once would learn its one text by heart."""

ROUNDS = 3
"""Counts of pieces no longer move after so many rounds."""

RARE = 0.1
"""Occurrences of a piece that is in no likeliest split."""

CHUNK = 1000


def train(texts: Iterable[str], kind: Kind, size: int, lowercase: bool = False, max_length: int | None = None) -> PreTrainedTokenizerFast:
    """A tokenizer of at most `size` tokens, special ones and single characters included; fewer where the texts give no more.

    - `bpe`: the bytes of UTF-8, of which the most frequent pair becomes a new token, again and again. No text is unknown, and every
      text comes back as it was. Sennrich et al. 2016, arXiv:1508.07909; on bytes, Radford et al. 2019.
    - `unigram`: pieces with probabilities, of which the likeliest sequence is taken; characters never seen are spelt in bytes. Every
      text in composed form (NFC) comes back as it was, but for ▁, which is its sign for a space. Kudo 2018, arXiv:1804.10959.
    - `wordpiece`: words and pieces of words between [CLS] and [SEP], as BERT reads them. Spaces do not come back as they were, and a
      word with a character never seen is unknown. Devlin et al. 2019, arXiv:1810.04805.

    `bpe` and `unigram` put no <s> or </s> around a text: a prompt must not end in </s>, so that is for the tasks to say. The same
    texts give the same tokenizer. `max_length` is the number of tokens at which it cuts. Raises DataError where there is no text, or
    where `size` has no room for the single characters.
    """
    from transformers import PreTrainedTokenizerFast

    if kind not in SCHEMES:
        raise DataError(f"there is no kind of tokenizer `{kind}`{nearest(kind, SCHEMES)} (known: {', '.join(SCHEMES)})")
    scheme = SCHEMES[kind]
    kept = [text for text in texts if text.strip()]
    if not kept:
        raise DataError("there is no text to train a tokenizer on: every text is empty.")
    return PreTrainedTokenizerFast(
        tokenizer_object=scheme.train(kept, size, lowercase),
        model_input_names=list(scheme.inputs),
        clean_up_tokenization_spaces=False,
        **scheme.special,
        **({} if max_length is None else {"model_max_length": max_length}),
    )


def summary(tokenizer: Any, texts: Iterable[str]) -> dict[str, Any]:
    """How a tokenizer takes the texts: `tokens` in all, `bytes_per_token` (of UTF-8; 3 to 5 is usual for English, more means shorter
    sequences), `unknown` (the share of tokens that stand for something it cannot read) and `vocabulary`, its number of tokens.

    Raises DataError where the texts give no token at all.
    """
    tokens = unknown = size = 0
    kept = list(texts)
    for start in range(0, len(kept), CHUNK):
        chunk = kept[start : start + CHUNK]
        size += sum(len(text.encode()) for text in chunk)
        for ids in tokenizer(chunk, add_special_tokens=False, verbose=False)["input_ids"]:
            tokens += len(ids)
            unknown += ids.count(tokenizer.unk_token_id)
    if not tokens:
        raise DataError("there is no text to try the tokenizer on: every text is empty.")
    return {"tokens": tokens, "bytes_per_token": size / tokens, "unknown": unknown / tokens, "vocabulary": len(tokenizer)}


def train_bpe(texts: Sequence[str], size: int, lowercase: bool) -> Any:
    """No normalizer but lower case where it is asked for, so that decoding gives the very text."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    require_room(size, len(GENERATIVE) + len(alphabet), "its 256 bytes and its special tokens")
    core = Tokenizer(models.BPE())
    if lowercase:
        core.normalizer = normalizers.Lowercase()
    words = pre_tokenizers.Split(Regex(WORDS), "isolated")
    core.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    core.post_processor = processors.ByteLevel(trim_offsets=True)
    core.decoder = decoders.ByteLevel()
    special = list(GENERATIVE.values())
    trainer = trainers.BpeTrainer(
        vocab_size=size, min_frequency=FEWEST, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(texts, trainer, length=len(texts))
    return core


def train_unigram(texts: Sequence[str], size: int, lowercase: bool) -> Any:
    """The pieces are the library's choice; their probabilities are counted anew, since its own depend on the order of a hash table."""
    from tokenizers import Tokenizer, decoders, models, trainers

    special = list(GENERATIVE.values())
    core = with_metaspace(Tokenizer(models.Unigram()), lowercase)
    words = counted_words(core, texts)
    alphabet = {*SPELT, *(character for word in words for character in word)}
    needed = len(special) + len(BYTES) + len(alphabet) + 1  # the trainer overruns a size that leaves no room for a piece
    require_room(size, needed, f"{len(alphabet):,} characters, a piece, 256 bytes and its special tokens")
    trainer = trainers.UnigramTrainer(
        vocab_size=size - len(BYTES),
        special_tokens=special,
        unk_token=GENERATIVE["unk_token"],
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer, length=len(texts))
    scores = piece_scores(words, set(core.get_vocab()) - set(special))
    bottom = (len(BYTES[0]) + 1) * min(scores.values())  # likelier than a byte piece is its name, spelt
    pieces = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    vocabulary = [*((token, 0.0) for token in special), *((byte, bottom) for byte in BYTES), *pieces]
    unknown = special.index(GENERATIVE["unk_token"])
    core = with_metaspace(Tokenizer(models.Unigram(vocabulary, unk_id=unknown, byte_fallback=True)), lowercase)
    core.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="never")])
    core.add_special_tokens(special)
    return core


def with_metaspace(core: Any, lowercase: bool) -> Any:
    """Spaces become part of the words that follow them, and none is put before a text; lines are kept apart."""
    from tokenizers import Regex, normalizers, pre_tokenizers

    core.normalizer = normalizers.Sequence([normalizers.NFC(), *([normalizers.Lowercase()] if lowercase else [])])
    lines = pre_tokenizers.Split(Regex(r"[\n\r\t]+"), "isolated")
    core.pre_tokenizer = pre_tokenizers.Sequence([lines, pre_tokenizers.Metaspace(prepend_scheme="never")])
    return core


def piece_scores(words: Mapping[str, int], pieces: set[str]) -> dict[str, float]:
    """log p of each piece by Viterbi training: count the pieces in the likeliest split of each word, and split again.

    The first counts are those of the pieces as substrings. All counts are whole numbers, so that no order of summing matters.
    """
    from tokenizers import models

    longest = max(len(piece) for piece in pieces)
    counts = Counter[str]()
    for word, times in words.items():
        for start in range(len(word)):
            for end in range(start + 1, min(len(word), start + longest) + 1):
                if word[start:end] in pieces:
                    counts[word[start:end]] += times
    scores = log_shares(counts, pieces)
    for _ in range(ROUNDS):
        model = models.Unigram([("<unk>", 0.0), *scores.items()], unk_id=0)
        counts = Counter[str]()
        for word, times in words.items():
            for token in model.tokenize(word):
                counts[token.value] += times
        scores = log_shares(counts, pieces)
    return scores


def log_shares(counts: Mapping[str, int], pieces: set[str]) -> dict[str, float]:
    total = sum(counts.values())
    return {piece: math.log((counts.get(piece, 0) or RARE) / total) for piece in sorted(pieces)}


def train_wordpiece(texts: Sequence[str], size: int, lowercase: bool) -> Any:
    """The trainer numbers the characters within words in the order of a hash table; here they are given to it in order."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    unknown, special = BERT["unk_token"], list(BERT.values())
    core = Tokenizer(models.WordPiece(unk_token=unknown))
    core.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.BertNormalizer(strip_accents=False, lowercase=lowercase)])
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words = counted_words(core, texts)
    characters = {character for word in words for character in word}
    alphabet = sorted(characters) + sorted({f"##{character}" for word in words for character in word[1:]})
    require_room(
        size, len(special) + len(alphabet), f"{len(characters):,} characters, at the start of words and within, and special tokens"
    )
    trainer = trainers.WordPieceTrainer(vocab_size=size, min_frequency=FEWEST, special_tokens=[*special, *alphabet], show_progress=False)
    core.train_from_iterator(texts, trainer, length=len(texts))
    trained = Tokenizer(models.WordPiece(core.get_vocab(), unk_token=unknown))
    trained.normalizer, trained.pre_tokenizer = core.normalizer, core.pre_tokenizer
    trained.decoder = decoders.WordPiece()
    trained.add_special_tokens(special)
    trained.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, trained.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return trained


def counted_words(core: Any, texts: Iterable[str]) -> Counter[str]:
    """How often each word occurs, as the trainer will see it."""
    words = Counter[str]()
    for text in texts:
        words.update(word for word, _ in core.pre_tokenizer.pre_tokenize_str(core.normalizer.normalize_str(text)))
    return words


def require_room(size: int, needed: int, what: str) -> None:
    if size < needed:
        raise DataError(f"a vocabulary of {size:,} tokens is too small: {what} alone take {needed:,}. Ask for more.")


@dataclass(frozen=True)
class Scheme:
    """A kind of tokenizer: how it is trained, its special tokens, and what models read of it."""

    train: Callable[[Sequence[str], int, bool], Any]
    special: Mapping[str, str]
    inputs: tuple[str, ...] = ("input_ids", "attention_mask")


SCHEMES = {
    "bpe": Scheme(train_bpe, GENERATIVE),
    "unigram": Scheme(train_unigram, GENERATIVE),
    "wordpiece": Scheme(train_wordpiece, BERT, ("input_ids", "token_type_ids", "attention_mask")),
}
