"""What the commands print: tables that fit the window, and errors in one line."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

# Rows of a table are not wrapped in a file or a pipe, so that `grep` finds whole rows.
PIPE_WIDTH = 10_000


class UserError(Exception):
    """What a user can correct: `labkit.cli.main` prints it as one line and returns 2."""


@contextmanager
def user_errors(*kinds: type[Exception]) -> Iterator[None]:
    """Turn exceptions of these kinds, which the user's input causes, into `UserError`."""
    try:
        yield
    except kinds as error:
        # str() of a KeyError puts its message into quotes.
        raise UserError(error.args[0] if isinstance(error, KeyError) else error) from error


def require_development_packages() -> None:
    """Raise `UserError` if what only requirements-dev.txt installs is not there."""
    missing = [name for name in ("detect_secrets", "grimp") if not find_spec(name)]
    if missing:
        raise UserError(
            f"this command needs {' and '.join(missing)}: "
            "pip install -r requirements-dev.txt -c constraints.txt"
        )


def print_error(error: object) -> None:
    """Print `error` on stderr as one line."""
    print(" ".join(f"error: {error}".split()), file=sys.stderr)


def print_table(frame: pd.DataFrame, decimals: int = 2) -> None:
    """Print a frame with its index, wrapped to the window; unwrapped and without lines in a pipe.

    Args:
        frame: one row for each row of the table; a missing value is shown as "–".
        decimals: digits after the point of numbers that are not whole.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    piped = not sys.stdout.isatty()
    frame = frame.reset_index()
    table = Table(box=None if piped else box.SIMPLE_HEAD, pad_edge=False)
    for name, kind in frame.dtypes.items():
        side = "right" if kind.kind in "iuf" else "left"
        table.add_column(str(name), justify=side, overflow="fold")
    for row in frame.itertuples(index=False):
        table.add_row(*(_cell(value, decimals) for value in row))
    console = Console(width=PIPE_WIDTH if piped else None, highlight=False, markup=False)
    if not piped:
        console.print(table)
        return
    with console.capture() as capture:
        console.print(table)
    print("\n".join(line.rstrip() for line in capture.get().splitlines()))


def _cell(value: Any, decimals: int) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:,.{decimals}f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
