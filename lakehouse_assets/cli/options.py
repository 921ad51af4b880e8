"""Options that several commands have, and how a group of commands is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from lakehouse_assets.cli.output import Output

Command = TypeVar("Command", bound=Callable[..., Any])


def examples(*lines: str) -> str:
    """The end of a command's help: what to type, a line each."""
    return "\b\nExamples:\n" + "\n".join(f"  lakehouse {line}" for line in lines)


def _be_quiet(_context: click.Context, _option: click.Parameter, given: bool) -> bool:
    Output.quiet |= given
    return given


def quiet(command: Command) -> Command:
    """``--quiet`` of commands that act."""
    text = "Print errors only."
    return click.option("-q", "--quiet", is_flag=True, expose_value=False, callback=_be_quiet, help=text)(command)


def as_json(command: Command) -> Command:
    """``--json`` of commands that tell something."""
    text = "Print one JSON value, for scripts."
    return click.option("--json", "as_json", is_flag=True, callback=_be_quiet, help=text)(command)
