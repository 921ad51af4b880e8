"""The `lakehouse` command: its groups of commands, and how it ends."""

from __future__ import annotations

import gc
import io
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

import click

from lakehouse_assets.cli import around, bring, compute, keep, look
from lakehouse_assets.cli.options import examples
from lakehouse_assets.cli.output import Output
from lakehouse_assets.errors import sentence_of
from lakehouse_assets.stopping import SENTENCE, STATUS, STOP

if TYPE_CHECKING:
    from lakehouse_assets.settings import Settings

GROUPS = {
    "Bring data": (bring.demo, bring.generate, bring.land),
    "Compute": (compute.run, compute.backfill),
    "Look": (look.tables, look.status, look.sql, look.export, look.profile, around.dev),
    "Keep in order": (keep.maintain, keep.cleanup, keep.forget, around.init),
}


class _Grouped(click.Group):
    """A group whose help lists its commands by what they are for."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands of each group with their first sentence."""
        for title, commands in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(str(one.name), one.get_short_help_str(100)) for one in commands])


@click.group(
    cls=_Grouped,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples("demo", "land interactions export.csv", "run"),
)
@click.version_option(version("lakehouse-assets"), prog_name="lakehouse", message="%(prog)s %(version)s")
def lakehouse() -> None:
    """From interaction logs to DAU, WAU, MAU and sessions."""


for _commands in GROUPS.values():
    for _command in _commands:
        lakehouse.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; a mistake of the user ends with one sentence and status 1.

    Args:
        arguments: of the command; left out, they are those of the process, which then ends on signals (`stopping`).
    """
    if arguments is not None:
        return _run(arguments)
    # what is imported lives as long as the command, and a day makes little garbage: looking for it took 0.3 s
    gc.set_threshold(1_000_000, 20, 100)
    return STOP.guard(_run)


def _run(arguments: Sequence[str] | None = None) -> int:
    from lakehouse_assets.settings import load_settings

    Output.quiet = False
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
    if isinstance(sys.stdout, io.TextIOWrapper):  # in a locale that lacks a letter it is shown as a number
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        # not the group's own `main`, which takes a stop for a mistake of its own to speak of
        with lakehouse.make_context("lakehouse", [*(sys.argv[1:] if arguments is None else arguments)]) as context:
            context.obj = settings = load_settings()
            try:
                lakehouse.invoke(context)
            except (click.ClickException, click.exceptions.Exit):
                raise
            except Exception as error:
                if sentence_of(error) is None:
                    _name_trouble(error, settings)
                raise
    except click.exceptions.Exit as end:  # of --help and --version
        return end.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except KeyboardInterrupt:
        print(SENTENCE, file=sys.stderr)
        return STATUS
    except BrokenPipeError:
        return 1
    except Exception as error:
        sentence = sentence_of(error)
        if sentence is None:
            raise
        for line in sentence.splitlines():
            print(f"lakehouse: {line}", file=sys.stderr)
        return 1
    return 0


def _name_trouble(error: Exception, settings: Settings) -> None:
    """Name the full disk or the damaged file that an error without a sentence comes from."""
    tables_in_use = "lakehouse_assets.storage.catalog" in sys.modules
    from lakehouse_assets.lakehouse import Lakehouse
    from lakehouse_assets.storage.trouble import name_trouble

    name_trouble(error, settings)
    if tables_in_use:
        Lakehouse(settings).repair.name_damage()
