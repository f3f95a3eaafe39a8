"""What sources of a mixture are called, and how they are told apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from burnish.core.protocols import Row
from burnish.data import mixture, sources
from burnish.data.spec import Data


def test_one_source_is_called_what_it_is(rows_csv: Path) -> None:
    assert mixture.titled(str(rows_csv)) == str(rows_csv)
    assert mixture.each(str(rows_csv)) == [str(rows_csv)]
    assert mixture.fingerprint(str(rows_csv)) == sources.fingerprint(str(rows_csv))


@pytest.mark.parametrize(
    ("found", "names"),
    [
        (["/a/x.csv", "/b/y.csv"], ["x.csv", "y.csv"]),
        (["/a/x.csv", "/b/x.csv"], ["a/x.csv", "b/x.csv"]),
        (["/r/a/x.csv", "/s/a/x.csv"], ["r/a/x.csv", "s/a/x.csv"]),
        (["/x.csv", "bundled:messages-train", "hub:set/name:train"], ["x.csv", "bundled:messages-train", "hub:set/name:train"]),
    ],
)
def test_names_are_as_short_as_they_can_be(found: list[str], names: list[str]) -> None:
    assert list(mixture.names_of(dict.fromkeys(found, 1.0)).values()) == names


def test_a_fingerprint_knows_contents_and_weights(tmp_path: Path) -> None:
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    one.write_text("text\na\n")
    two.write_text("text\nb\n")
    before = mixture.fingerprint({str(one): 1.0, str(two): 2.0})
    assert before == mixture.fingerprint({str(one): 1.0, str(two): 2.0})
    assert before != mixture.fingerprint({str(one): 2.0, str(two): 1.0})
    two.write_text("text\nc\n")
    assert before != mixture.fingerprint({str(one): 1.0, str(two): 2.0})


def test_rows_bear_the_name_of_their_source() -> None:
    train = {"/a/x.csv": 1.0, "/b/x.csv": 1.0}
    assert [row.place for row in mixture.marked([Row({}, "x.csv", 3)], train, "/b/x.csv")] == ["b/x.csv row 3"]
    assert [row.file for row in mixture.marked([Row({}, "v.csv", 3)], train, "/a/v.csv")] == ["v.csv"]
    assert [row.file for row in mixture.marked([Row({}, "x.csv", 3)], "/a/x.csv", "/a/x.csv")] == ["x.csv"]


@pytest.mark.parametrize(
    "train", ["", "  ", None, 3, ["a.csv"], {}, {"a.csv": -1}, {"a.csv": True}, {"a.csv": float("inf")}, {3: 1}, {"": 1}]
)
def test_what_is_no_source(train: object) -> None:
    with pytest.raises(ValidationError):
        Data.model_validate({"train": train})
