"""Synonyms and word forms, against what any speaker of English knows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from burnish.core.errors import DataError
from burnish.data.augment import wordnet
from burnish.data.augment.easy import Insert, Synonyms
from burnish.data.augment.inflection import Form, article, form_of, inflected
from burnish.data.augment.material import Material
from burnish.data.augment.wordnet import LEXNAMES, Lexicon


@pytest.mark.parametrize(
    ("stem", "form", "expected"),
    [
        ("box", Form.PLURAL, "boxes"),
        ("city", Form.PLURAL, "cities"),
        ("day", Form.PLURAL, "days"),
        ("photo", Form.PLURAL, None),
        ("knife", Form.PLURAL, None),
        ("watch", Form.THIRD, "watches"),
        ("try", Form.THIRD, "tries"),
        ("play", Form.PAST, "played"),
        ("try", Form.PAST, "tried"),
        ("like", Form.PAST, "liked"),
        ("plan", Form.PAST, None),
        ("agree", Form.ING, "agreeing"),
        ("make", Form.ING, "making"),
        ("die", Form.ING, "dying"),
        ("dye", Form.ING, "dyeing"),
        ("show", Form.ING, "showing"),
        ("run", Form.ING, None),
    ],
)
def test_forms_by_rule(stem: str, form: Form, expected: str | None) -> None:
    assert inflected(stem, form) == expected


def test_irregular_forms_are_given_only_where_they_are_sure() -> None:
    assert inflected("plan", Form.PAST, ["planned", "planning"]) == "planned"
    assert inflected("plan", Form.ING, ["planned", "planning"]) == "planning"
    assert inflected("sing", Form.PAST, ["sang", "sung"]) is None, "who knows which of the two is wanted"
    assert inflected("child", Form.PLURAL, ["children"]) == "children"
    assert [form_of(*word) for word in (("goes", "go", "v"), ("went", "go", "v"), ("better", "good", "a"))] == [Form.THIRD, Form.PAST, None]


@pytest.mark.parametrize(
    ("word", "wanted"), [("hour", "an"), ("user", "a"), ("umbrella", "an"), ("one", "a"), ("unit", "a"), ("unimportant", "an"), ("x", "a")]
)
def test_articles_follow_the_sound(word: str, wanted: str) -> None:
    assert article(word) == wanted


@pytest.mark.parametrize(
    ("word", "synonym"),
    [
        ("movie", "film"),
        ("movies", "films"),
        ("parcel", "package"),
        ("went", "proceeded"),
        ("buying", "purchasing"),
        ("helped", "assisted"),
        ("shows", "demonstrates"),
        ("quickly", "rapidly"),
        ("children", "youngsters"),
    ],
)
def test_synonyms_have_the_form_of_the_word(lexicon: Lexicon, word: str, synonym: str) -> None:
    assert synonym in lexicon.synonyms(word) and word not in lexicon.synonyms(word)


@pytest.mark.parametrize("word", ["better", "worst", "boring", "xyzzy", "qu'est", ""])
def test_where_it_is_not_sure_nothing_is_given(lexicon: Lexicon, word: str) -> None:
    assert lexicon.synonyms(word) == ()


def test_synonyms_are_single_words_in_small_letters_and_may_be_traced_back(lexicon: Lexicon) -> None:
    """Whatever is given for an inflected verb is, to WordNet's own morphology, a form of a verb."""
    for word in ("walked", "loves", "helping", "asked", "giving", "looked", "explains", "destroying"):
        for synonym in lexicon.synonyms(word):
            assert synonym.isalpha() and synonym.islower()
            stem = lexicon.reader.morphy(synonym, "v")
            assert stem is not None and (stem != synonym or word[-2:] != "ng")
    assert lexicon.is_name("John") and lexicon.is_name("London") and not lexicon.is_name("Kettle")


def test_only_english_and_languages_that_are_there(monkeypatch: pytest.MonkeyPatch, lexicon: Lexicon, material: Material) -> None:
    with pytest.raises(DataError, match=r"synonyms in 'fra' need the Open Multilingual Wordnet: .*omw-1\.4.*swap, delete and punctuate"):
        Synonyms(language="fra").build(material)


def test_another_language_out_of_a_small_wordnet(lexicon: Lexicon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nltk

    film = lexicon.reader.synset("movie.n.01")
    folder = tmp_path / "corpora" / "omw-1.4" / "fra"
    folder.mkdir(parents=True)
    lines = [f"{film.offset():08d}-n\tfra:lemma\t{word}\n" for word in ("film", "pellicule", "long métrage")]
    (folder / "wn-data-fra.tab").write_text("# tiny\n" + "".join(lines), encoding="utf-8")
    monkeypatch.setattr(nltk.data, "path", [*nltk.data.path, str(tmp_path)])
    french = Lexicon("fra")
    assert french.synonyms("film") == ("pellicule",) and french.synonyms("kettle") == ()
    with pytest.raises(DataError, match="has no 'deu'"):
        Lexicon("deu")


def test_without_the_data_the_ways_to_get_them_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, material: Material) -> None:
    nltk = pytest.importorskip("nltk")
    wordnet.lexicon.cache_clear()
    monkeypatch.setattr(nltk.data, "path", [])
    monkeypatch.setattr(wordnet, "DEBIAN", tmp_path)
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataError, match=r"nltk\.downloader wordnet.*apt install wordnet-base wordnet-sense-index.*swap, delete"):
        Insert().build(material)


def test_without_nltk_its_extra_is_told(monkeypatch: pytest.MonkeyPatch, material: Material) -> None:
    wordnet.lexicon.cache_clear()
    monkeypatch.setitem(sys.modules, "nltk", None)
    with pytest.raises(DataError, match=r'pip install "burnish\[augment\]"'):
        Synonyms().build(material)


@pytest.fixture
def debian(tmp_path: Path) -> Path:
    folder = tmp_path / "debian"
    folder.mkdir()
    for name in wordnet.FILES:
        (folder / name).write_text(name)
    return folder


def test_debians_files_are_laid_out_with_the_list_that_nltk_reads(debian: Path, tmp_path: Path) -> None:
    target = tmp_path / "corpora" / "wordnet"
    wordnet.lay_out(debian, target)
    lines = [line.split("\t") for line in (target / "lexnames").read_text().splitlines()]
    assert len(lines) == 45 == len(LEXNAMES.split()) and lines[0] == ["00", "adj.all", "3"] and lines[44] == ["44", "adj.ppl", "3"]
    assert [line[0] for line in lines] == [f"{number:02d}" for number in range(45)]
    assert {line[2] for line in lines if line[1].startswith("verb")} == {"2"}
    assert (target / "data.verb").read_text() == "data.verb" and [path.name for path in target.parent.iterdir()] == ["wordnet"]


def test_a_second_process_that_lays_out_at_the_same_time_does_no_harm(debian: Path, tmp_path: Path) -> None:
    target = tmp_path / "corpora" / "wordnet"
    for _ in range(2):
        wordnet.lay_out(debian, target)
    assert [path.name for path in target.parent.iterdir()] == ["wordnet"]


def test_a_disk_that_refuses_is_told(debian: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nltk = pytest.importorskip("nltk")

    def refuse(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(wordnet, "DEBIAN", debian)
    monkeypatch.setattr(nltk.data, "path", [])
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(wordnet.shutil, "copyfile", refuse)
    with pytest.raises(DataError, match=r"cannot be copied .* No space left on device"):
        wordnet.found_data(nltk)
    assert not list((tmp_path / "cache").rglob("lexnames"))
