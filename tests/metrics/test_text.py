"""Generated texts: by hand, by the numbers of rouge_score and sacrebleu, in other scripts, and where there is nothing to count."""

from __future__ import annotations

import math
import random
import unicodedata

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from burnish.metrics.text import ROUGE, TEXT, copied, distinct, one_sentence_a_line, repeated, rouge, score, shape, translation, words

WORDS = ["the", "a", "cat", "dog", "sat", "ran", "on", "mat", "in", "house", "big", "small", "and", "then", "was", "it"]


def english(seed: int, rows: int) -> list[str]:
    generator = random.Random(seed)

    def sentence() -> str:
        return " ".join(generator.choices(WORDS, k=generator.randint(3, 9))).capitalize() + generator.choice(".!?")

    return [" ".join(sentence() for _ in range(generator.randint(1, 3))) for _ in range(rows)]


def test_every_metric_to_choose_by_is_scored() -> None:
    scores = score(["a b"], [["a b"]])
    assert set(TEXT) - {"loss"} == set(scores) - {"length_ratio"}
    assert [name for name, higher in TEXT.items() if not higher] == ["loss"]
    assert set(score(["a b"], [["a b"]], ["a b"])) - set(scores) == {"copied_ngrams"}


def test_what_equals_its_reference_scores_one() -> None:
    text = "L’été est là. Il fait très beau aujourd'hui, n'est-ce pas ?"
    scores = score([text], [[text]], [text])
    assert scores == dict.fromkeys(scores, 1.0)


def test_rouge_by_hand() -> None:
    scores = rouge(["the cat sat"], [["the cat lay down"]])
    # Words: 2 common of 3 and 4; pairs: 1 of 2 and 3; subsequence "the cat".
    assert scores["rouge1"] == pytest.approx(2 * 2 / (3 + 4))
    assert scores["rouge2"] == pytest.approx(2 * 1 / (2 + 3))
    assert scores["rougeL"] == scores["rougeLsum"] == pytest.approx(2 * 2 / (3 + 4))


def test_rouge_is_rouge_scores_on_english() -> None:
    written, references = english(0, 30), english(1, 30)
    judge = RougeScorer(list(ROUGE), use_stemmer=False)
    scores = rouge(written, [[reference] for reference in references])
    for name in ROUGE[:3]:
        expected = [judge.score(reference, text)[name].fmeasure for text, reference in zip(written, references, strict=True)]
        assert scores[name] == pytest.approx(sum(expected) / len(expected)) and scores[name] > 0
    lines = [text.replace(". ", ".\n").replace("! ", "!\n").replace("? ", "?\n") for text in (*written, *references)]
    expected = [judge.score(right, text)["rougeLsum"].fmeasure for text, right in zip(lines[:30], lines[30:], strict=True)]
    assert scores["rougeLsum"] == pytest.approx(sum(expected) / len(expected))
    assert scores["rougeLsum"] != pytest.approx(scores["rougeL"])


def test_rouge_lsum_takes_lines_where_there_are_any() -> None:
    assert one_sentence_a_line("One. Two! Three") == "One.\nTwo!\nThree"
    assert one_sentence_a_line("One. Two.\nThree. ") == "One. Two.\nThree."
    assert one_sentence_a_line('He said "no." Then 3.5 left…  « Oui. » Non') == 'He said "no."\nThen 3.5 left…\n« Oui.\n» Non'
    assert words(one_sentence_a_line("猫。犬。")) == ["猫", "犬"]
    # Sentences in another order are all found by sentence, not as one subsequence.
    scores = rouge(["He ran far. She sat down."], [["She sat down. He ran far."]])
    assert scores["rougeLsum"] == 1.0 and scores["rougeL"] == pytest.approx(0.5)


def test_the_best_reference_counts() -> None:
    references = ["nothing alike", "the cat sat"]
    assert rouge(["the cat sat"], [references])["rouge2"] == 1.0
    assert score(["the cat sat"], [references])["exact_match"] == 1.0


def test_accents_and_other_scripts_are_words() -> None:
    assert words("L'Été à Ürün, 3 ĉapeloj: ПРИВЕТ") == ["l", "été", "à", "ürün", "3", "ĉapeloj", "привет"]
    assert rouge(["élève"], [["l v"]])["rouge1"] == 0.0
    assert rouge(["кошка спит"], [["кошка ест"]])["rouge1"] == 0.5


def test_one_letter_written_in_two_ways_is_one_letter() -> None:
    text = "Été à Nîmes, déjà passé"
    apart = unicodedata.normalize("NFD", text)
    assert apart != text
    scores = score([apart], [[text]], [text])
    assert scores == dict.fromkeys(scores, 1.0)
    assert distinct([text, apart], 1) == 0.5


def test_bleu_and_chrf_are_sacrebleus() -> None:
    written, first, second = english(2, 40), english(3, 40), english(4, 40)
    pairs = [list(pair) for pair in zip(first, second, strict=True)]
    scores = translation(written, pairs)
    assert scores["bleu"] == pytest.approx(sacrebleu.corpus_bleu(written, [first, second]).score / 100) and scores["bleu"] > 0
    assert scores["chrf"] == pytest.approx(sacrebleu.corpus_chrf(written, [first, second]).score / 100)
    assert score(written, pairs)["bleu"] == scores["bleu"]


def test_rows_may_have_different_numbers_of_references() -> None:
    written = ["the cat sat on the mat", "a dog ran in the house"]
    scores = translation(written, [["a cat sat on the mat"], ["the dog ran in a house", "a dog ran in the house"]])
    streams = [["a cat sat on the mat", "the dog ran in a house"], [None, "a dog ran in the house"]]
    assert scores["bleu"] == pytest.approx(sacrebleu.corpus_bleu(written, streams).score / 100)
    assert scores["chrf"] == pytest.approx(sacrebleu.corpus_chrf(written, streams).score / 100)
    assert scores["bleu"] > translation(written, [["a cat sat on the mat"], ["the dog ran in a house"]])["bleu"]


def test_exact_match_and_length() -> None:
    scores = score(["a  b\nc ", "a b"], [["a b c"], ["A b", "x y z w"]])
    assert scores["exact_match"] == 0.5
    # Five words written, five in the first references.
    assert scores["length_ratio"] == 1.0
    assert score(["a b c"], [["a b"]])["length_ratio"] == 1.5


def test_copied_ngrams() -> None:
    source = "one two three four five six"
    # Of two 4-grams, the first stands in the source; case and punctuation aside.
    assert copied(["One, two three four nine"], [source]) == 0.5
    # A text too short for a 4-gram is left out of the mean.
    assert copied(["one two three four nine", "one two"], [source, source]) == 0.5
    assert copied(["one two three"], [source]) == copied([], []) == 0.0
    assert copied(["one two three four"], [""]) == 0.0
    assert score([source], [["x"]], [source])["copied_ngrams"] == 1.0


def test_distinct() -> None:
    assert distinct(["a b a", "b c"], 1) == 3 / 5
    # (a b), (b a), (b c): no pair goes from one text into the next.
    assert distinct(["a b a", "b c"], 2) == 1.0
    assert distinct(["a b", "a b"], 2) == 0.5


def test_repeated() -> None:
    # (a b), (b a), (a b), (b a): the last two occurred before.
    assert repeated(["a b a b a"], 2) == 0.5
    # What another text says is no repetition, and a text without pairs is left out.
    assert repeated(["a b", "a b", "a"], 2) == 0.0
    assert repeated(["a b a b a", "a b c", "x"], 2) == 0.25
    assert repeated(["la la la la la la la la"]) == pytest.approx(4 / 5)


def test_shape() -> None:
    assert shape(["a b a", "Été"], [True, False]) == {
        "ended": 0.5,
        "distinct_1": 3 / 4,
        "distinct_2": 1.0,
        "repeated_4grams": 0.0,
        "words": 2.0,
    }


def test_nothing_written() -> None:
    scores = score(["", "  "], [["the cat"], ["a dog"]], ["", ""])
    assert scores == dict.fromkeys(scores, 0.0)
    assert shape(["", ""], [True, True]) == {"ended": 1.0, "distinct_1": 0.0, "distinct_2": 0.0, "repeated_4grams": 0.0, "words": 0.0}


@pytest.mark.parametrize(
    ("written", "references"),
    [([], []), ([""], [[""]]), (["a"], [[]]), (["..."], [["?"]])],
    ids=["no rows", "empty", "no reference", "marks"],
)
def test_nothing_to_compare_with(written: list[str], references: list[list[str]]) -> None:
    scores = score(written, references, written)
    assert math.isnan(scores.pop("length_ratio"))
    assert scores.pop("exact_match") == float(references == [[""]])
    assert set(scores.values()) == {0.0}
    assert all(value == 0.0 or written == ["a"] for value in shape(written, [False] * len(written)).values())


def test_one_word_texts() -> None:
    scores = score(["cat"], [["cat"]], ["cat"])
    assert scores["rouge1"] == scores["rougeL"] == scores["exact_match"] == scores["length_ratio"] == 1.0
    assert scores["rouge2"] == scores["copied_ngrams"] == 0.0
    # BLEU wants four words at least; chrF does not.
    assert scores["bleu"] == 0.0 and scores["chrf"] == 1.0


def test_rows_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError):
        score(["a"], [["a"], ["b"]])
