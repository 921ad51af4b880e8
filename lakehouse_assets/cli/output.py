"""What commands print: lines for a person, one JSON value for a script, tables."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from lakehouse_assets.errors import LakehouseError

LOOK = 'sql "select * from gold.daily_metrics order by date"'


class UsageError(LakehouseError):
    """An option that can't be used; the message names it."""


class Output:
    """Whether lines are printed; not with ``--quiet`` and ``--json``."""

    quiet = False


def say(line: str) -> None:
    """Print a line; if the reader has gone, as behind `| head`, the work continues in silence."""
    if not Output.quiet:
        try:
            print(line, flush=True)
        except BrokenPipeError:
            Output.quiet = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say_next(*commands: str, before: str = "", why: str = "") -> None:
    """Print the next commands so that they can be pasted: as `lakehouse` was called, unless it is on the path."""
    called = Path(sys.argv[0])
    own = os.path.relpath(called) if called.name == "lakehouse" and not shutil.which("lakehouse") else "lakehouse"
    say(f"{before}next: {', '.join(f'{own} {command}' for command in commands)}{why}")


def answer(what: object) -> None:
    """Print the JSON value of ``--json``."""
    print(json.dumps(what, default=str), flush=True)


def say_table(columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: Collection[str] = ()) -> None:
    """Rows for the person watching: as wide as they are, so that no value is cut.

    In a terminal the header stands out and long values go on below; in a file or a pipe a row is a line of plain text.

    Args:
        columns: what stands above.
        rows: their values.
        numbers: columns that are set to the right.
    """
    if Output.quiet:
        return
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for column in columns:
            table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
        for row in rows:
            table.add_row(*[Text(value) for value in row])
        Console(highlight=False).print(table)
        return
    wide = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        cells = zip(columns, row, wide, strict=True)
        aligned = [f"{value:>{size}}" if name in numbers else f"{value:<{size}}" for name, value, size in cells]
        say("  ".join(aligned).rstrip())
