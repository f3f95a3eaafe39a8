"""The command line: a thin shell over the library. Heavy modules are imported inside the commands, so that help is instant."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from burnish.cli import checking, comparing, looking, making, planning, proving, reporting, running, sweeping
from burnish.cli.app import app
from burnish.core.errors import BurnishError, disk_errors
from burnish.core.secrets import masked

__all__ = [
    "app",
    "checking",
    "comparing",
    "guarded",
    "looking",
    "main",
    "making",
    "planning",
    "proving",
    "reporting",
    "running",
    "sweeping",
]

ORDER = [
    "init",
    "check",
    "plan",
    "train",
    "resume",
    "evaluate",
    "predict",
    "verify",
    "compare",
    "sweep",
    "report",
    "merge",
    "find-lr",
    "list",
    "schema",
]
"""Commands as help lists them: as they are used, one after the other."""

app.registered_commands.sort(key=lambda command: ORDER.index(command.name or command.callback.__name__))  # type: ignore[union-attr]


def guarded(command: Callable[[], Any]) -> int:
    """Runs a command; what a user can mend is told on one screen, without a traceback, and gives its exit code."""
    try:
        with disk_errors("Reading or writing"):
            command()
    except BurnishError as error:
        print(f"burnish: {masked(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("burnish: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


def main() -> None:
    """Entry point of the command `burnish`."""
    sys.exit(guarded(lambda: app(standalone_mode=True)))
