"""Messages: lists that end, plurals, the nearest name, and disks that fail."""

from __future__ import annotations

import errno
import os

import pytest

from burnish.core import errors
from burnish.core.errors import BurnishError, Interrupted, RecipeError, RunError, count, disk_errors, listing, nearest


def test_a_recipe_error_tells_all_faults_and_counts_the_tail() -> None:
    error = RecipeError("r.yaml", [f"fault {number}" for number in range(20)])
    lines = str(error).splitlines()
    assert lines[0] == "r.yaml: 20 faults found before anything was loaded"
    assert len(lines) == 1 + errors.MAX_SHOWN + 1
    assert lines[-1].strip() == "... and 8 more"
    assert len(error.problems) == 20


def test_listing_says_nothing_of_more_where_there_is_none() -> None:
    assert listing("title", ["a", "b"]) == "title\n  - a\n  - b"


def test_count() -> None:
    assert [count(0, "row"), count(1, "row"), count(1200, "row"), count(2, "index", "indices")] == [
        "0 rows",
        "1 row",
        "1,200 rows",
        "2 indices",
    ]


def test_nearest() -> None:
    assert nearest("lable", ["text", "label"]) == " - did you mean `label`?"
    assert nearest("xyzzy", ["text", "label"]) == ""
    assert nearest("text", []) == ""


def test_exit_codes() -> None:
    assert BurnishError("no").exit_code == 2
    assert RecipeError("r", []).exit_code == 2
    assert Interrupted("stopped", 15).exit_code == 143


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EACCES, "no permission to write there"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_a_failing_disk_is_told_in_words(number: int, words: str) -> None:
    with pytest.raises(RunError) as caught, disk_errors("Writing x", "Free some."):
        raise OSError(number, os.strerror(number), "/there")
    assert str(caught.value) == f"Writing x failed: {words} (/there). Free some."


def test_other_errors_and_a_closed_pipe_pass_through() -> None:
    with pytest.raises(KeyError), disk_errors("Writing x"):
        raise KeyError("k")
    with pytest.raises(BrokenPipeError), disk_errors("Writing x"):
        raise BrokenPipeError(errno.EPIPE, "pipe")
