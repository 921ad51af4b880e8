"""Commands that compute tables: run and backfill."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import date, timedelta
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lakehouse_assets.cli.options import as_json, examples, quiet
from lakehouse_assets.cli.output import LOOK, Output, UsageError, answer, say, say_next
from lakehouse_assets.cli.summary import rejected
from lakehouse_assets.stopping import STOP

if TYPE_CHECKING:
    from lakehouse_assets.lakehouse import Lakehouse
    from lakehouse_assets.landing.zone import LandingZone, Listings
    from lakehouse_assets.planning.planner import Work
    from lakehouse_assets.settings import Settings


@click.command("run", epilog=examples("run", "run --start 2024-03-01 --end 2024-03-07"))
@click.option("--start", metavar="D", help="First day; without --start and --end every stale day is computed.")
@click.option("--end", metavar="D", help="Last day.")
@click.option("--part", is_flag=True, hidden=True, help="One range of a parallel backfill.")
@quiet
@as_json
@click.pass_obj
def run(settings: Settings, start: str | None, end: str | None, part: bool, as_json: bool) -> None:
    """Compute every stale day, or a range."""
    if part:
        STOP.sentence = ""
    if start and end:
        _run_range(settings, *_days(start, end), as_json)
    elif start or end:
        raise UsageError("--start and --end belong together; without both, the stale days are computed")
    else:
        _run_stale(settings, as_json)


@click.command(
    "backfill",
    epilog=examples(
        "backfill --start 2024-01-01 --end 2024-12-31", "backfill --start 2024-01-01 --end 2024-12-31 --parallel 2"
    ),
)
@click.option("--start", metavar="D", required=True, help="First day.")
@click.option("--end", metavar="D", required=True, help="Last day.")
@click.option("--parallel", type=int, default=1, metavar="N", help="Number of processes; each computes whole months.")
@quiet
@as_json
@click.pass_obj
def backfill(settings: Settings, start: str, end: str, parallel: int, as_json: bool) -> None:
    """Compute a range of days again, for every table."""
    first, last = _days(start, end)
    if parallel <= 1:
        _run_range(settings, first, last, as_json)
        return
    from lakehouse_assets.calendar import span_in_words
    from lakehouse_assets.landing.redivision import divide_again
    from lakehouse_assets.landing.zone import landing_zone

    divide_again(landing_zone(settings), settings, say)
    parts = by_month(first, last, parallel)
    say(f"{(last - first).days + 1} days in {len(parts)} ranges of whole months, one process each")
    command = [sys.executable, "-m", "lakehouse_assets.cli", "run", *(["--quiet"] if Output.quiet else []), "--part"]
    running: list[subprocess.Popen[bytes]] = []
    with STOP.with_children(running):
        for low, high in parts:
            running.append(subprocess.Popen([*command, "--start", low.isoformat(), "--end", high.isoformat()]))
        failed = [span_in_words(*part) for part, process in zip(parts, running, strict=True) if process.wait()]
    incomplete = f"not computed completely, see above: {', '.join(failed)}" if failed else ""
    say("recomputing days at the borders between ranges")
    try:
        _run_stale(settings, as_json)
    except Exception:
        if incomplete:
            say(incomplete)
        raise
    if incomplete:
        raise UsageError(incomplete)


def by_month(first: date, last: date, parts: int) -> list[tuple[date, date]]:
    """The range divided between months, so that no two parts write the same file."""
    from lakehouse_assets.calendar import days_between, month_first

    months = [list(days) for _, days in groupby(days_between(first, last), key=month_first)]
    parts = min(parts, len(months))
    begin = [len(months) * part // parts for part in range(parts + 1)]
    return [(months[begin[i]][0], months[begin[i + 1] - 1][-1]) for i in range(parts)]


def _days(start: str, end: str) -> tuple[date, date]:
    from lakehouse_assets.landing.files import parse_date

    first, last = parse_date(start), parse_date(end)
    if last < first:
        raise UsageError(f"--end {last} is before --start {first}")
    return first, last


def _run_range(settings: Settings, first: date, last: date, as_json: bool) -> None:
    from lakehouse_assets.calendar import days_between
    from lakehouse_assets.landing.zone import landing_zone

    began = time.monotonic()
    looks = landing_zone(settings).listings()
    if without := [day for day in days_between(first, last) if not looks["interactions"].get(day)]:
        say(_without_file(without))
    size = None
    if not settings.spark_remote:  # a server's JVM runs already
        until = last + timedelta(days=settings.late_days)
        found = looks.values()
        size = sum(file.size for look in found for day in look if first <= day <= until for file in look[day])
    start_early(settings, size)
    from lakehouse_assets.lakehouse import Lakehouse
    from lakehouse_assets.runner import Runner

    lakehouse = Lakehouse(settings)
    _report(as_json, lambda: Runner(lakehouse, say).run_range(first, last), lakehouse, began)


def _without_file(days: Sequence[date]) -> str:
    from lakehouse_assets.calendar import at_most, in_words

    named = ", ".join(at_most(in_words(days), 3))
    return f"no file of interactions is landed under {named}; these days get the late rows of other files, or zeros"


def _run_stale(settings: Settings, as_json: bool) -> None:
    began = time.monotonic()
    lakehouse, before = first_look(settings)
    _report(as_json, lambda: up_to_date(lakehouse, before), lakehouse, began)


def first_look(settings: Settings) -> tuple[Lakehouse, Listings]:
    """The lakehouse and what is landed, for `up_to_date`.

    Raises:
        UsageError: there is nothing to compute.
    """
    from lakehouse_assets.landing.redivision import waiting
    from lakehouse_assets.landing.zone import landing_zone
    from lakehouse_assets.storage.catalog import Catalog

    zone = landing_zone(settings)
    before = zone.listings()
    earlier = before_start(zone, settings)
    if not any(before.values()) and not Catalog(settings).names():
        hint = earlier or "land one with `lakehouse land interactions FILE`"
        raise UsageError(f"nothing to compute: {settings.landing_uri} has no files; {hint}")
    if earlier:
        say(earlier)
    start_early(settings, None if waiting(zone, settings) else zone.new_bytes(before))
    from lakehouse_assets.lakehouse import Lakehouse

    return Lakehouse(settings), before


def up_to_date(lakehouse: Lakehouse, before: Listings) -> list[Work]:
    """Compute every stale day after a first look; returns what was computed."""
    from lakehouse_assets.runner import Runner

    return Runner(lakehouse, say).run_stale(before)


def before_start(zone: LandingZone, settings: Settings) -> str:
    """A sentence about landed days that LAKEHOUSE_START_DATE leaves out; empty if there are none."""
    from lakehouse_assets.calendar import some, span_in_words

    days = zone.days_before_start()
    if not days:
        return ""
    return (
        f"LAKEHOUSE_START_DATE is {settings.start_date}: {some(len(days), 'landing date')} before it, "
        f"{span_in_words(days[0], days[-1])}, left out; what was computed of them stays as it is"
    )


def start_early(settings: Settings, size: int | None = None) -> None:
    """Start the JVM while Python still imports; errors show at the first use of the session.

    Args:
        settings: of the lakehouse.
        size: bytes of the deliveries that this process is going to compute, where that is known.
    """
    from lakehouse_assets.landing.deliveries import BYTES_PER_ROW
    from lakehouse_assets.storage.trouble import check_writable

    check_writable(settings)
    many = size is not None and size > settings.sail_rows * BYTES_PER_ROW
    if settings.engine == "sail" or (settings.engine == "auto" and not many):
        return
    from lakehouse_assets.engines.spark import (
        BRIEF_BYTES,
        check_server,
        claim_process,
        prepare_environment,
        start_spark,
    )

    check_server(settings)
    prepare_environment(settings)
    claim_process(settings)

    def start() -> None:
        start_spark(settings, brief=size is not None and size <= BRIEF_BYTES)

    threading.Thread(target=start, daemon=True).start()


def _report(as_json: bool, compute: Callable[[], Sequence[Work]], lakehouse: Lakehouse, began: float) -> None:
    """Compute, and report what was computed, also if something was left out."""
    try:
        work, left_out = compute(), None
    except Exception as error:
        from lakehouse_assets.runner import DaysLeftOut

        if not isinstance(error, DaysLeftOut):
            raise
        work, left_out = error.work, error
    from lakehouse_assets.calendar import some

    page = draw(lakehouse) if work else lakehouse.settings.dashboard_path
    seconds = time.monotonic() - began
    if as_json:
        runs = [{"first": one.first, "last": one.last, "tables": one.tables} for one in work]
        refused = {str(day): why for day, why in left_out.refused.items()} if left_out else {}
        failed = [asdict(one) for one in left_out.failed] if left_out else []
        left = [asdict(one) for one in left_out.left] if left_out else []
        told = {"runs": runs, "refused": refused, "failed": failed, "left": left}
        answer(told | {"seconds": round(seconds, 1), "dashboard": page})
    elif work:
        for line in rejected(work, lakehouse.catalog):
            say(line)
        days = sum(one.days * len(one.tables) for one in work)
        say(f"done: {days:,} table days in {some(len(work), 'run')}, {seconds:.1f} s. Look at {page}")
        say_next("tables", LOOK, "dev")
    elif not left_out:
        say("everything is up to date")
    if left_out:
        raise left_out


def draw(lakehouse: Lakehouse) -> Path:
    """Draw the dashboard; returns its path."""
    from lakehouse_assets.reports.dashboard import write_dashboard

    return write_dashboard(lakehouse.catalog, lakehouse.declared, lakehouse.settings.dashboard_path)
