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
    """Whether lines for a person are printed; ``--quiet`` and ``--json`` leave them out."""

    quiet = False


def say(line: str) -> None:
    """A line for the person watching; where nobody reads any more, as behind `| head`, work goes on without."""
    if not Output.quiet:
        try:
            print(line, flush=True)
        except BrokenPipeError:
            Output.quiet = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say_next(*commands: str, before: str = "", why: str = "") -> None:
    """What to do next, in words that can be pasted: the command as it was called, unless it is on the path."""
    called = Path(sys.argv[0])
    own = os.path.relpath(called) if called.name == "lakehouse" and not shutil.which("lakehouse") else "lakehouse"
    say(f"{before}next: {', '.join(f'{own} {command}' for command in commands)}{why}")


def answer(what: object) -> None:
    """The one JSON value that a script which asked with ``--json`` reads."""
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
