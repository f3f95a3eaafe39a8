"""Errors that a user can mend. The command line prints them on one screen, without a traceback, and exits with `exit_code`."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

MAX_SHOWN = 12


class BurnishError(Exception):
    """Something outside the program is wrong: a recipe, a row, a disk. The message says what, what was expected, how to mend it."""

    exit_code = 2


class RecipeError(BurnishError):
    """All faults of a recipe at once."""

    def __init__(self, origin: str, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__(listing(f"{origin}: {count(len(problems), 'fault')} found before anything was loaded", problems))


class DataError(BurnishError):
    """Rows or files that cannot be learned from."""


class ModelError(BurnishError):
    """A model that cannot be found, read or trusted."""


class RunError(BurnishError):
    """A run folder that cannot be made, locked, read or written."""


class NonFiniteError(BurnishError):
    """The loss or the gradient is NaN or infinite."""


class Interrupted(BurnishError):
    """SIGINT or SIGTERM arrived; the state is saved. The exit code is the shell's, 128 + signal."""

    def __init__(self, message: str, signal_number: int) -> None:
        self.exit_code = 128 + signal_number
        super().__init__(message)


def listing(title: str, problems: Sequence[str], shown: int = MAX_SHOWN) -> str:
    """A title and its problems, one a line, the tail only counted."""
    lines = [f"  - {problem}" for problem in problems[:shown]]
    if len(problems) > shown:
        lines.append(f"  ... and {len(problems) - shown} more")
    return "\n".join([title, *lines])


def count(number: int, noun: str, plural: str | None = None) -> str:
    """`count(1, "row")` is "1 row", `count(1200, "row")` is "1,200 rows"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def nearest(word: str, known: Iterable[str]) -> str:
    """The nearest known name as a question to append to a message, or nothing."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" - did you mean `{matches[0]}`?" if matches else ""


@contextmanager
def disk_errors(doing: str, hint: str = "") -> Iterator[None]:
    """Turns a failing disk (full, read-only, forbidden) into a `RunError` that says what was being written."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        reasons = {
            errno.ENOSPC: "the disk is full",
            errno.EDQUOT: "the disk quota is used up",
            errno.EFBIG: "the file would grow over the size limit of this system",
            errno.EROFS: "the file system is read-only",
            errno.EACCES: "no permission to write there",
            errno.EPERM: "no permission to write there",
        }
        reason = reasons.get(error.errno or 0, error.strerror or str(error))
        where = f" ({error.filename})" if error.filename else ""
        raise RunError(f"{doing} failed: {reason}{where}.{' ' + hint if hint else ''}") from error
