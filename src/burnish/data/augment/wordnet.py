"""Synonyms out of WordNet (Miller 1995, "WordNet: A Lexical Database for English"), in the form of the word that they replace.

nltk reads it. Its data are looked for where `python -m nltk.downloader wordnet` puts them, and in Debian's package wordnet-base, whose
files are copied to the cache once, for they lack a list that nltk wants (`lexnames`) and it follows no links.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from burnish.core.errors import DataError
from burnish.data import cache as kept
from burnish.data.augment import inflection
from burnish.data.augment.inflection import Form

DEBIAN = Path("/usr/share/wordnet")
PARTS = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
FILES = [*(f"{kind}.{part}" for kind in ("index", "data") for part in PARTS.values()), *(f"{part}.exc" for part in PARTS.values())]
COUNTS = "cntlist.rev"
LEXNAMES = (
    "adj.all adj.pert adv.all noun.Tops noun.act noun.animal noun.artifact noun.attribute noun.body noun.cognition noun.communication "
    "noun.event noun.feeling noun.food noun.group noun.location noun.motive noun.object noun.person noun.phenomenon noun.plant "
    "noun.possession noun.process noun.quantity noun.relation noun.shape noun.state noun.substance noun.time verb.body verb.change "
    "verb.cognition verb.communication verb.competition verb.consumption verb.contact verb.creation verb.emotion verb.motion "
    "verb.perception verb.possession verb.social verb.stative verb.weather adj.ppl"
)
"""WordNet's 45 files of origin in the order of their numbers, as lexnames(5WN) lists them."""

SENSES = 3
"""Senses of a word whose synonyms are taken at most."""

COMMON = 0.25
"""A sense is taken that was counted at least this share as often as the commonest one: rarer ones are rarely meant."""

SURE = 0.6
"""The share of a word's counted uses that its part of speech must have to be taken for it."""

ENGLISH = "eng"
MISSING = (
    "synonyms need WordNet, which is not on this machine. Get it with `python -m nltk.downloader wordnet`, "
    "or on Debian and Ubuntu with `apt install wordnet-base wordnet-sense-index`; or take only swap, delete and punctuate."
)


def opened(language: str) -> Any:
    """nltk's reader of WordNet. Raises DataError where nltk, the data or the language are missing, and says how to get them."""
    try:
        import nltk
        from nltk.corpus.reader import CorpusReader
        from nltk.corpus.reader.wordnet import WordNetCorpusReader
    except ImportError:
        raise DataError('synonyms are read by nltk, which is not installed: pip install "burnish[augment]".') from None

    class Reader(WordNetCorpusReader):
        """Spares the comparison of two versions, which takes longer than all other reading: there is one."""

        def map_wn(self, version: str = "wordnet") -> None:
            return None

    languages = None
    if language != ENGLISH:
        languages = CorpusReader(found_languages(language), r".*/wn-data-.*\.tab", encoding="utf8")
        known = sorted({name.rpartition("-")[2].removesuffix(".tab") for name in languages.fileids()})
        if language not in known:
            raise DataError(f"`language`: the Open Multilingual Wordnet has no {language!r} (it has {', '.join(known)}).")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is but one language
        return Reader(found_data(nltk), languages)


def found_data(nltk: Any) -> Any:
    """Where WordNet's files are, as nltk points to them; Debian's are laid out in the cache first."""
    own = kept.root().parent / "nltk"
    if str(own) not in nltk.data.path:
        nltk.data.path.append(str(own))
    try:
        return nltk.data.find("corpora/wordnet")
    except LookupError:
        if not all((DEBIAN / name).is_file() for name in FILES):
            raise DataError(MISSING) from None
    try:
        lay_out(DEBIAN, own / "corpora" / "wordnet")
    except OSError as error:
        raise DataError(f"WordNet's files cannot be copied from {DEBIAN} to {own}: {error.strerror or error}.") from error
    return nltk.data.find("corpora/wordnet")


def found_languages(language: str) -> Any:
    """Where the Open Multilingual Wordnet is (Bond and Foster 2013), which has the words of other languages."""
    import nltk

    for name in ("omw-1.4", "omw-2.0"):
        try:
            return nltk.data.find(f"corpora/{name}")
        except LookupError:
            continue
    raise DataError(
        f"synonyms in {language!r} need the Open Multilingual Wordnet: `python -m nltk.downloader wordnet omw-1.4`. "
        "Without it, take only swap, delete and punctuate."
    )


def lay_out(source: Path, target: Path) -> None:
    """Copies WordNet's files aside and renames the folder into place, with the list of file names that nltk reads."""
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=target.parent))
    try:
        for name in [*FILES, *([COUNTS] if (source / COUNTS).is_file() else [])]:
            shutil.copyfile(source / name, aside / name)
        numbers = {part: number for number, part in enumerate(PARTS.values(), start=1)}
        lines = [f"{at:02d}\t{name}\t{numbers[name.partition('.')[0]]}\n" for at, name in enumerate(LEXNAMES.split())]
        (aside / "lexnames").write_text("".join(lines), encoding="utf-8")
        os.replace(aside, target)
    except OSError:
        shutil.rmtree(aside, ignore_errors=True)
        if not (target / "lexnames").is_file():  # else another process was faster
            raise


@cache
def lexicon(language: str = ENGLISH) -> Lexicon:
    """The lexicon of a language, read once: it takes some seconds and about 150 MB."""
    return Lexicon(language)


class Lexicon:
    """Synonyms of words, each looked up once."""

    def __init__(self, language: str = ENGLISH) -> None:
        self.language = language
        self.reader = opened(language)
        self.known: dict[str, tuple[str, ...]] = {}

    def synonyms(self, word: str) -> tuple[str, ...]:
        """Words that may stand for `word` (in small letters) and have its form, in alphabetical order; none where that is not sure.

        Not sure are words that are as often of another part of speech, and forms that a synonym does not have by rule.
        """
        if word not in self.known:
            found = self.english(word) if self.language == ENGLISH else self.foreign(word)
            self.known[word] = tuple(sorted({name for name in found if name != word}))
        return self.known[word]

    def is_name(self, word: str) -> bool:
        """Whether `word`, written with a capital, may be a name: WordNet writes such with capitals too."""
        return any(name.split("_")[0] == word for synset in self.reader.synsets(word.lower()) for name in synset.lemma_names())

    def english(self, word: str) -> Iterator[str]:
        analysis = self.analysis(word)
        if analysis is None or word in self.compared:
            return
        part, stem = analysis
        form = inflection.form_of(word, stem, part)
        if form is None:
            return
        for name in self.lemmas(stem, part):
            made = self.inflected(name, form)
            if made is not None:
                yield made

    def analysis(self, word: str) -> tuple[str, str] | None:
        """The part of speech and the base form that a word is most often, or None where that is not sure."""
        uses: dict[tuple[str, str], float] = {}
        for part in PARTS:
            stem = self.reader.morphy(word, part)
            if stem is None:
                continue
            lemmas = [lemma for synset in self.reader.synsets(stem, part) for lemma in synset.lemmas() if lemma.name().lower() == stem]
            uses[part, stem] = sum(lemma.count() for lemma in lemmas) + 0.1  # a word that was never counted is still used
        best = max(uses, key=lambda key: uses[key], default=None)
        if best is None or uses[best] < SURE * sum(uses.values()):
            return None
        return None if best[0] == "v" and ("a", word) in uses else best  # a boring film drills nothing

    def lemmas(self, stem: str, part: str) -> list[str]:
        """Single words with one of the commonest senses of `stem`; where some were ever counted in running text, only these."""
        senses = [
            {lemma.name(): lemma.count() for lemma in synset.lemmas()}
            for synset in self.reader.synsets(stem, part, check_exceptions=False)
            if stem in synset.lemma_names()
        ]
        most = max((sense[stem] for sense in senses), default=0)
        common = [sense for sense in senses if most and sense[stem] >= COMMON * most] or senses[:1]
        found = {name: count for sense in common[:SENSES] for name, count in sense.items() if name.isalpha() and name.islower()}
        found.pop(stem, None)
        return [name for name, count in found.items() if count] or list(found)

    def inflected(self, stem: str, form: Form) -> str | None:
        """The form of a base form, or None where it is irregular in another way than the list of exceptions tells."""
        return stem if form == "base" else inflection.inflected(stem, form, self.exceptions[form.part].get(stem, ()))

    @cached_property
    def exceptions(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """Part of speech -> base form -> its irregular forms."""
        found: dict[str, dict[str, tuple[str, ...]]] = {part: defaultdict(tuple) for part in PARTS}
        for part, name in PARTS.items():
            with self.reader.open(f"{name}.exc") as lines:
                for line in lines:
                    irregular, *stems = line.split()
                    for stem in stems:
                        found[part][stem] += (irregular,)
        return found

    @cached_property
    def compared(self) -> frozenset[str]:
        """Forms such as better and worst, which are words of their own in WordNet too."""
        return frozenset(word for part in "ar" for words in self.exceptions[part].values() for word in words)

    def foreign(self, word: str) -> Iterator[str]:
        """Of another language only base forms of one part of speech are known, and nothing of how they change."""
        synsets = self.reader.synsets(word, lang=self.language)
        if len({synset.pos().replace("s", "a") for synset in synsets}) == 1:
            for synset in synsets[:SENSES]:
                yield from (name for name in synset.lemma_names(self.language) if name.isalpha() and name.islower())
