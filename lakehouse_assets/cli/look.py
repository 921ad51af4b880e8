"""Commands that look: tables, status, sql, export, profile."""

from __future__ import annotations

import shutil
import sys
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lakehouse_assets.cli.compute import before_start
from lakehouse_assets.cli.options import as_json, examples, quiet
from lakehouse_assets.cli.output import LOOK, UsageError, answer, say, say_next, say_table

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from lakehouse_assets.settings import Settings

_STRAYS_TOLD = 3
_UNCUT = 100_000  # characters of a row
_FORMATS = {".csv": "csv", ".parquet": "parquet", ".json": "json", ".jsonl": "json"}


@click.command("tables", epilog=examples("tables", "tables --json"))
@as_json
@click.pass_obj
def tables(settings: Settings, as_json: bool) -> None:
    """List tables with rows, files, size and stale days."""
    from lakehouse_assets.calendar import some
    from lakehouse_assets.lakehouse import Lakehouse
    from lakehouse_assets.storage.query import overview

    lakehouse = Lakehouse(settings)
    found = overview(lakehouse.catalog)
    landed = lakehouse.zone.listings()
    stale = lakehouse.planner.stale(landed)
    lakehouse.zone.save_index()
    if as_json:
        names = ("table", "rows", "files", "bytes", "first", "last", "stale_days")
        answer([dict(zip(names, (*one, len(stale.get(one[0], ()))), strict=True)) for one in found])
        return
    if not found:
        if files := sum(len(of_day) for days in landed.values() for of_day in days.values()):
            say_next("run", before=f"no tables yet, {some(files, 'landed file')} to compute; ")
        else:
            nothing = f"no tables yet, no landed files in {settings.landing_uri}; "
            say_next("land interactions FILE", "demo", before=nothing, why=" for sample data")
        return
    columns = ("table", "rows", "files", "MB", "stale days", "days")
    lines = [
        (name, f"{rows:,}", f"{files:,}", f"{size / 1e6:.1f}", f"{len(stale.get(name, ())):,}", f"{first} … {last}")
        for name, rows, files, size, first, last in found
    ]
    say_table(columns, lines, numbers=columns[1:5])
    if any(stale.values()):
        say_next("run", before="stale days are not computed yet; ")
    else:
        say_next(LOOK, before="everything is up to date; ")


@click.command("status", epilog=examples("status", "status --json"))
@as_json
@click.pass_obj
def status(settings: Settings, as_json: bool) -> None:
    """Show the state of each day, and why."""
    from lakehouse_assets.calendar import span_in_words
    from lakehouse_assets.lakehouse import Lakehouse
    from lakehouse_assets.landing.redivision import told, waiting
    from lakehouse_assets.orchestration.status import FAILED, UP_TO_DATE, status
    from lakehouse_assets.settings import in_utf8

    lakehouse = Lakehouse(settings)
    found = status(lakehouse, partial(_instance, settings))
    lakehouse.zone.save_index()
    if as_json:
        answer([asdict(one) for one in found])
        return
    if files := waiting(lakehouse.zone, settings):
        say(f"{told(files, settings)}: `lakehouse run` splits {'it' if len(files) == 1 else 'them'} again")
    if earlier := before_start(lakehouse.zone, settings):
        say(earlier)
    strays = lakehouse.zone.strays()
    for place in strays[:_STRAYS_TOLD]:
        say(
            f"ignored: {in_utf8(str(place))}; expected interactions/date=YYYY-MM-DD/NAME.csv or users/…, dated "
            f"{settings.start_date} … today (UTC), also compressed. `lakehouse land` reads JSON and Parquet too"
        )
    if len(strays) > _STRAYS_TOLD:
        say(f"and {len(strays) - _STRAYS_TOLD:,} more are ignored")
    if not found:
        nothing = f"nothing is landed yet in {settings.landing_uri}; "
        say_next("land interactions FILE", "demo", before=nothing, why=" for sample data")
        return
    lines = [(span_in_words(one.first, one.last), f"{one.files:,}", one.state, one.why) for one in found]
    say_table(("days", "files", "state", "why"), lines, numbers=("files",))
    if any(one.state == FAILED for one in found):
        say_next("run", why=", once you have fixed what failed")
    elif any(one.state != UP_TO_DATE for one in found):
        say_next("run", "dev", why=" (computes complete files by itself)")
    else:
        say("everything is up to date")


def _instance(settings: Settings) -> AbstractContextManager[DagsterInstance]:
    from lakehouse_assets.orchestration.instance import terminal_instance

    return terminal_instance(settings)


@click.command("sql", epilog=examples('sql "select * from gold.daily_metrics order by date"', 'sql "show tables"'))
@click.argument("query")
@click.pass_obj
def sql(settings: Settings, query: str) -> None:
    """Run a read-only SQL query."""
    import duckdb

    from lakehouse_assets.storage.catalog import Catalog
    from lakehouse_assets.storage.query import TABLES, connect

    reading = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN, duckdb.StatementType.PRAGMA}
    catalog = Catalog(settings)
    try:
        connection = connect(catalog)
        asked = " ".join(query.lower().rstrip("; \n").split())
        for statement in duckdb.extract_statements(query):
            if statement.type not in reading:  # on DuckDB's copy of the tables it would say that it has succeeded
                raise UsageError("`lakehouse sql` only reads; write a query that begins with SELECT, FROM or WITH")
        relation = connection.sql(TABLES if asked in ("show tables", "show all tables") else query)
        if relation is not None:
            # in a file or a pipe nothing is cut; a terminal shows as many columns as it is wide
            wide = shutil.get_terminal_size().columns if sys.stdout.isatty() else _UNCUT
            relation.show(max_width=wide, max_rows=200)
    except duckdb.Error as error:
        said = " ".join(str(error).partition("\nLINE ")[0].split())  # where in the query it is, in a drawing
        said = said.removeprefix("Catalog Error: ")
        said = said if said.endswith("?") else f"{said.rstrip('.!')};"
        there = "`lakehouse tables` lists the tables" if catalog.names() else f"{settings.home_path} has no tables yet"
        raise UsageError(f"{said} {there}") from None


@click.command(
    "export",
    epilog=examples(
        "export gold.daily_metrics -o daily.csv",
        "export gold.daily_metrics --start 2024-03-01 --end 2024-03-31 -o march.parquet",
    ),
)
@click.argument("table")
@click.option("--start", metavar="D", help="First day; default the table's first.")
@click.option("--end", metavar="D", help="Last day; default the table's last.")
@click.option(
    "--format",
    "file_format",
    type=click.Choice([*dict.fromkeys(_FORMATS.values())]),
    help="Default: by the ending of FILE.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FILE", help="The file to write."
)
@quiet
@click.pass_obj
def export(
    settings: Settings, table: str, start: str | None, end: str | None, file_format: str | None, output: Path
) -> None:
    """Write a table to a file."""
    from lakehouse_assets.landing.files import parse_date
    from lakehouse_assets.storage.catalog import Catalog
    from lakehouse_assets.storage.query import export as write

    first = parse_date(start) if start else None
    last = parse_date(end) if end else None
    written_as = file_format or _FORMATS.get(output.suffix)
    if not written_as:
        raise UsageError(f"-o {output}: its ending must be one of {', '.join(_FORMATS)}; or add --format")
    rows = write(Catalog(settings), table, output, written_as, first, last)
    say(f"{rows:,} rows of {table} in {output}")


@click.command(
    "profile",
    epilog=examples("profile gold.daily_metrics", "profile silver.interactions --rows 50000 --against 2024-03-01"),
)
@click.argument("table")
@click.option("--rows", type=int, default=20_000, show_default=True, metavar="N", help="Rows in the sample.")
@click.option("--against", metavar="D", help="Compare with the profile of this day; default the newest before.")
@quiet
@click.pass_obj
def profile(settings: Settings, table: str, rows: int, against: str | None) -> None:
    """Describe a table's newest days on an HTML page."""
    from lakehouse_assets.lakehouse import Lakehouse
    from lakehouse_assets.landing.files import parse_date
    from lakehouse_assets.reports.profiles import write_profile

    lakehouse = Lakehouse(settings)
    if table not in lakehouse.tables:
        raise UsageError(f"there is no table {table!r}; there are {', '.join(lakehouse.tables)}")
    if rows < 1:
        raise UsageError(f"--rows {rows}: use at least 1")
    earlier = parse_date(against) if against else None
    declared = lakehouse.tables[table]
    made = write_profile(lakehouse.catalog, declared, settings.profiles_path, rows, earlier)
    say(f"{declared.name}: {made.rows:,} of {made.of_rows:,} rows of {made.first} … {made.last}. Look at {made.page}")
    if made.drift:
        say(f"what drifted since {made.against}: {made.drift}")
