"""Long documents: chunks lose nothing and fit, and each part of a target goes to the part of the document that it is about."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.tasks.documents import SLACK, chunks, portions, sentences, shares

Length = Callable[[str], int]
PARAGRAPHS = [
    "The kettle came late. It was broken!\nThe lamp is fine.",
    "Who will pay? I will not.",
    "All is well now; the throw came too.",
]

SOME = [*PARAGRAPHS, "Yes.", "The shears, the candle and the parcel were sent on the same day in May."]


@pytest.fixture(scope="module")
def length(tiny_t5: Path) -> Length:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_t5)
    return lambda text: len(tokenizer(text, verbose=False)["input_ids"])


def counted(length: Length) -> tuple[Length, list[int]]:
    sizes: list[int] = []

    def measured(text: str) -> int:
        sizes.append(len(text))
        return length(text)

    return measured, sizes


ODD = {
    "a text": " ".join(PARAGRAPHS * 40),
    "paragraphs": "\n\n".join(PARAGRAPHS * 40),
    "one long word": "a" * 5000,
    "no blanks": "这是一个很长的句子没有空格" * 200,
    "only line ends": "\n" * 4000,
    "only blanks": " " * 4000,
    "blanks before words": " " * 3000 + "kettle " * 300,
    "words before blanks": "kettle " * 300 + " " * 3000,
    "signs of many bytes": "👩‍👩‍👧‍👦" * 400,
    "blanks of all kinds": "\r\n\t \u00a0\u2003\u2028" * 400,
    "a long word among short ones": "it is " * 100 + "z" * 700 + " it is" * 100,
    "end tokens": "this </s> is <pad> it " * 200,
}


@pytest.mark.parametrize("room", [16, 40, 500])
@pytest.mark.parametrize("kind", ODD)
def test_nothing_is_lost_and_everything_fits(kind: str, room: int, length: Length) -> None:
    text = ODD[kind]
    found = chunks(text, length, room)
    assert "".join(found) == text
    assert all(found) and max(map(length, found)) <= room
    assert len(found) >= length(text) / room / 1.5, "as many as it takes"


@settings(max_examples=150, deadline=None)
@given(text=st.text(alphabet=st.sampled_from("ab .!?\n\t。é漢👩"), max_size=400), room=st.integers(1, 30), cost=st.integers(0, 6))
def test_nothing_is_lost_whatever_tokens_are(text: str, room: int, cost: int) -> None:
    """Lengths that do not add up, and may shrink as a text grows: a token for two letters, more for what is not ASCII or an end."""

    def odd(part: str) -> int:
        ends = cost if len(part) > 1 and part[-1] in " \n." else 0
        return ends + len(part.split()) * cost // 3 + (len(part) + 1) // 2 + sum(3 for letter in part if ord(letter) > 127)

    found = chunks(text, odd, room)
    assert "".join(found) == text
    assert all(odd(part) <= room or len(part) == 1 for part in found)


def test_a_text_that_fits_stays_whole(length: Length) -> None:
    text = "\n\n".join(PARAGRAPHS)
    assert chunks(text, length, length(text)) == [text]
    assert len(chunks(text, length, length(text) - 1)) == 2
    assert chunks("", length, 5) == [""]


def test_chunks_end_where_a_reader_would_pause(length: Length) -> None:
    text = "\n\n".join(f"{number}. {PARAGRAPHS[number % 3]}" for number in range(60))
    found = chunks(text, length, 120)
    assert all(part.endswith("\n\n") for part in found[:-1])
    text = " ".join(PARAGRAPHS * 20).replace("\n", " ")
    found = chunks(text, length, 60)
    assert all(part[-2:] in (". ", "! ", "? ") for part in found[:-1])
    text = "kettle and lamp and throw " * 60
    assert all(part.endswith(" ") for part in chunks(text, length, 40)[:-1])
    text = "这是一个很长的句子。" * 60
    assert all(part.endswith("。") for part in chunks(text, length, 200)[:-1])


def test_no_small_rest_stays(length: Length) -> None:
    text = "kettle and lamp and throw " * 100
    room = int(length(text) / 2.1)
    sizes = [length(part) for part in chunks(text, length, room)]
    assert len(sizes) == 3 and min(sizes) > 0.7 * max(sizes) and max(sizes) <= length(text) / 3 * (1 + SLACK) + 1


@pytest.mark.parametrize("kind", ["prose", "one long word"])
def test_a_long_document_is_cut_in_well_under_a_second(kind: str, length: Length) -> None:
    draw = random.Random(1)
    prose = " ".join(draw.choice(SOME) for _ in range(3000))
    text = (prose if kind == "prose" else "q" * 100_000)[:60_000]
    assert len(text) == 60_000
    measured, sizes = counted(length)
    began = time.perf_counter()
    found = chunks(text, measured, 500)
    assert time.perf_counter() - began < 2, "a fifth of a second where the machine has nothing else to do"
    assert sum(sizes) < 5 * len(text) and len(sizes) < 5 * len(found), "each part is measured a few times"


def test_signs_of_many_tokens_are_not_measured_with_all_that_follows(length: Length) -> None:
    measured, sizes = counted(length)
    text = "👩‍👩‍👧‍👦" * 600
    assert "".join(chunks(text, measured, 16)) == text
    assert sum(sizes) < 15 * len(text)


def test_an_early_boundary_does_not_leave_a_chunk_half_empty(length: Length) -> None:
    found = chunks("Hello.\n\nSo it is.\n" + "kettle and lamp and throw " * 40, length, 100)
    assert length(found[0]) > 60 and found[0].startswith("Hello.\n\nSo it is.\nkettle")


def test_sentences_are_the_text_again() -> None:
    text = 'He said: "No!" Then he left… What?  好。 Yes\n\nnew. 3.5 liters'
    found = sentences(text)
    assert "".join(found) == text
    assert [part.strip() for part in found] == ['He said: "No!"', "Then he left…", "What?", "好。", "Yes\n\nnew.", "3.5 liters"]
    assert sentences("one") == ["one"] and sentences("") == []


def test_a_summary_goes_where_its_words_stand() -> None:
    parts = ["The kettle was broken and came late.", "The lamp is bright. The lamp is green.", "Nobody asked for the throw at all."]
    summary = "A green lamp. The kettle came late, broken.\n- Nobody asked for a throw."
    assert shares(summary, parts) == ["The kettle came late, broken.", "A green lamp.", "- Nobody asked for a throw."]
    assert shares("The kettle was broken.\n- The kettle came late.", parts) == ["The kettle was broken.\n- The kettle came late.", "", ""]
    assert shares("Something else.", parts) == ["Something else.", "", ""], "what no part knows goes to the first"
    assert shares("Neighboring words decide: the lamp is.", ["is lamp the", "the lamp is"]) == [
        "",
        "Neighboring words decide: the lamp is.",
    ]


def test_a_translation_goes_where_it_stands() -> None:
    parts = ["Eins zwei drei. Vier fünf. ", "Sechs sieben acht. ", "Neun zehn elf zwölf."]
    assert portions("One two three. Four five. Six seven eight. Nine ten eleven.", parts) == [
        "One two three. Four five.",
        "Six seven eight.",
        "Nine ten eleven.",
    ]
    assert portions("All in one", parts) == ["", "All in one", ""]


@settings(max_examples=100, deadline=None)
@given(
    target=st.text(alphabet=st.sampled_from("ab .!\n"), min_size=1, max_size=80).filter(str.strip),
    parts=st.lists(st.text(alphabet=st.sampled_from("ab ."), min_size=1, max_size=30), min_size=1, max_size=5),
)
def test_every_sentence_is_learned_from_one_part(target: str, parts: list[str]) -> None:
    for found in (shares(target, parts), portions(target, parts)):
        assert len(found) == len(parts) and any(found)
        assert sorted("".join(found).split()) != [] and sorted("".join("".join(found).split())) == sorted("".join(target.split()))
