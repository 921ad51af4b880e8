"""The `lakehouse` command. Each command imports what it needs when it runs, so that the light ones start at once."""

from __future__ import annotations

import argparse
import gc
import io
import json
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse_assets.errors import LakehouseError, sentence_of
from lakehouse_assets.stopping import SENTENCE, STATUS, STOP

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from lakehouse_assets.landing.zone import LandingZone
    from lakehouse_assets.planning.planner import Work
    from lakehouse_assets.settings import Settings

_LOOK = 'sql "select * from gold.daily_metrics order by date"'
_DEMO_DAYS = 90
_STRAYS_TOLD = 3
_DEV_GRACE_SECONDS = 30  # Dagster ends its web server, daemon and code server one after the other
_FORMATS = {".csv": "csv", ".parquet": "parquet", ".json": "json", ".jsonl": "json"}


class UsageError(LakehouseError):
    """An option that can't be used; the message names it."""


class _Output:
    """Whether lines for a person are printed; ``--quiet`` and ``--json`` leave them out."""

    quiet = False


def say(line: str) -> None:
    """A line for the person watching; where nobody reads any more, as behind `| head`, work goes on without."""
    if not _Output.quiet:
        try:
            print(line, flush=True)
        except BrokenPipeError:
            _Output.quiet = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python still flushes at its end


def say_next(*commands: str, before: str = "", why: str = "") -> None:
    """What to do next, in words that can be pasted: the command as it was called, unless it is on the path."""
    called = Path(sys.argv[0])
    own = os.path.relpath(called) if called.name == "lakehouse" and not shutil.which("lakehouse") else "lakehouse"
    say(f"{before}next: {', '.join(f'{own} {command}' for command in commands)}{why}")


def answer(what: object) -> None:
    """The one JSON value that a script which asked with ``--json`` reads."""
    print(json.dumps(what, default=str), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; a person's mistake ends with one sentence and status 1.

    Args:
        arguments: of the command; left out, they are those of the process, which then ends on signals (`stopping`).
    """
    if arguments is not None:
        return _command(arguments)
    # the objects of imported modules live as long as the command: looking for garbage among them took a fifth of that
    gc.set_threshold(100_000, 20, 100)
    return STOP.guard(_command)


def _command(arguments: Sequence[str] | None = None) -> int:
    from lakehouse_assets.settings import load_settings

    options = _parser().parse_args(arguments)
    _Output.quiet = getattr(options, "quiet", False) or getattr(options, "json", False)
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
    if isinstance(sys.stdout, io.TextIOWrapper):  # in a locale that lacks a letter it is shown as a number
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        settings = load_settings()
        try:
            options.command(options, settings)
        except Exception as error:
            if sentence_of(error) is None:
                _name_trouble(error, settings)
            raise
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


def _init(options: argparse.Namespace, settings: Settings) -> None:
    from lakehouse_assets.settings import SETTINGS_FILE, settings_template

    folder = settings.home_path if "LAKEHOUSE_HOME" in os.environ else Path()
    file = folder / SETTINGS_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as sink:
            sink.write(settings_template())
    except FileExistsError:
        raise UsageError(f"{file} is there already; it stays as it is") from None
    except OSError as error:
        raise UsageError(f"{file} can't be written ({error.strerror})") from None
    say(f"{file}: every setting with its default, commented out; take the # from those you change")
    say_next("land interactions FILE")


def _name_trouble(error: Exception, settings: Settings) -> None:
    """Where an error that says nothing to a person comes from storage or from a damaged file, say so."""
    tables_in_use = "lakehouse_assets.storage.catalog" in sys.modules
    from lakehouse_assets.lakehouse import Lakehouse
    from lakehouse_assets.storage.trouble import name_trouble

    name_trouble(error, settings)
    if tables_in_use:
        Lakehouse(settings).repair.name_damage()


def _land(options: argparse.Namespace, settings: Settings) -> None:
    from lakehouse_assets.assets.datasets import DATASETS
    from lakehouse_assets.calendar import in_words, some, span_in_words
    from lakehouse_assets.landing.deliver import deliver, split
    from lakehouse_assets.landing.files import parse_date
    from lakehouse_assets.landing.redivision import divide_again
    from lakehouse_assets.landing.zone import landing_zone

    zone = landing_zone(settings)
    setting = f"map_{options.dataset}"
    pairs = [(f"{setting} {ours}={theirs}", ours, theirs) for ours, theirs in getattr(settings, setting).items()]
    for pair in options.map:
        ours, _, theirs = pair.partition("=")
        pairs.append((f"--map {pair}", ours, theirs))
    extra = settings.extra_columns if options.dataset == "interactions" else settings.segments
    for given, ours, theirs in pairs:
        if ours not in (*DATASETS[options.dataset], *extra) or not theirs:
            columns = ", ".join(DATASETS[options.dataset])
            raise UsageError(f"{given}: write it as ours=theirs, ours being one of {columns}")
    renames = {ours: theirs for _, ours, theirs in pairs}
    day = parse_date(options.date) if options.date else None
    names = [source.name for source in options.files]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UsageError(f"two files are named {twice}, and one would replace the other; rename one or land them apart")
    if options.trial:
        _try(options, settings, renames, day)
        return
    if options.dataset == "interactions":  # then the files of a name are divided by the same days and can be compared
        divide_again(zone, settings, say)
    for source in options.files:
        began = time.monotonic()
        if day or options.dataset == "users":
            under = day or datetime.now(tz=UTC).date()
            landed = deliver(
                zone, options.dataset, source, under, renames, today=settings.today(), replace=options.replace
            )
            why = "" if day else ", today in UTC; --date D delivers it under another date"
            say(f"{source.name}: delivered as it is under {under}{why}")
        else:
            landed = split(
                zone,
                source,
                renames,
                input_zone=settings.input_zone,
                reporting_zone=settings.reporting_zone,
                formats=settings.timestamp_formats,
                progress=_byte_progress(source.name),
                today=settings.today(),
                replace=options.replace,
            )
            days = sorted(landed.rows)
            rows = sum(landed.rows.values())
            took = time.monotonic() - began
            span = span_in_words(days[0], days[-1])
            say(f"{source.name}: {some(rows, 'row')} into {some(len(days), 'day')}, {span}, {took:.1f} s")
            if landed.unreadable_day:
                rows = landed.unreadable_day
                shown = f", such as {landed.unread[0]!r}" if landed.unread else ""
                say(f"  {some(rows, 'row')} without a readable day{shown}: went to {days[-1]}, rejected there")
        if landed.replaced:
            say(f"  replaced the file of that name landed before: {', '.join(in_words(landed.replaced))}")
        unused = [name for name in landed.extra if name not in extra]
        if unused:
            say(f"  columns that nothing is computed from: {', '.join(unused)}")
    say_next("run")


def _try(options: argparse.Namespace, settings: Settings, renames: Mapping[str, str], day: date | None) -> None:
    from lakehouse_assets.calendar import some
    from lakehouse_assets.lakehouse import Lakehouse
    from lakehouse_assets.landing.trial import told, try_file

    engine = Lakehouse(settings).engine
    trials = []
    for source in options.files:
        trials.append(try_file(engine, settings, options.dataset, source, renames, day))
        print("\n".join(told(source.name, trials[-1])), flush=True)
    refused = [source.name for source, trial in zip(options.files, trials, strict=True) if trial.refusal]
    rejected = sum(trial.rows - trial.counts.get("accepted", 0) for trial in trials if not trial.refusal)
    if refused or rejected:
        named = f"{', '.join(refused)} would not be taken" if refused else ""
        rows = (
            f"{some(rejected, 'row')} of {sum(trial.rows for trial in trials):,} would be rejected" if rejected else ""
        )
        raise UsageError("; ".join(filter(None, (named, rows))))


def _byte_progress(name: str) -> Callable[[int, int], None]:
    began = last = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < 2 or done == total:
            return
        last = now
        left = (now - began) / max(done, 1) * (total - done)
        unit, size = ("MB", 1e6) if total >= 1e7 else ("kB", 1e3)
        say(f"  {name}: {done / size:,.0f} of {total / size:,.0f} {unit}, about {max(left, 1):.0f} s left")

    return progress


def _run(options: argparse.Namespace, settings: Settings) -> None:
    if options.part:
        STOP.sentence = ""
    if bool(options.start) != bool(options.end):
        raise UsageError("--start and --end go together; without both, what is landed and not up to date is run")
    if options.start:
        _run_range(options, settings, *_days(options))
        return
    _run_stale(options, settings)


def _backfill(options: argparse.Namespace, settings: Settings) -> None:
    first, last = _days(options)
    if options.parallel <= 1:
        _run_range(options, settings, first, last)
        return
    from lakehouse_assets.calendar import span_in_words
    from lakehouse_assets.landing.redivision import divide_again
    from lakehouse_assets.landing.zone import landing_zone

    divide_again(landing_zone(settings), settings, say)
    parts = _by_month(first, last, options.parallel)
    say(f"{(last - first).days + 1} days as {len(parts)} ranges of whole months, each in a process of its own")
    command = [sys.executable, "-m", "lakehouse_assets.cli", "run", *(["--quiet"] if _Output.quiet else []), "--part"]
    running: list[subprocess.Popen[bytes]] = []
    with STOP.with_children(running):
        for start, end in parts:
            running.append(subprocess.Popen([*command, "--start", start.isoformat(), "--end", end.isoformat()]))
        failed = [span_in_words(*part) for part, process in zip(parts, running, strict=True) if process.wait()]
    say("what one range computed from days another had not finished is computed once more")
    _run_stale(options, settings)
    if failed:
        raise UsageError(f"these ranges are not computed whole, see above: {', '.join(failed)}")


def _by_month(first: date, last: date, parts: int) -> list[tuple[date, date]]:
    """A range divided between months, so that no two parts write the same file."""
    from lakehouse_assets.calendar import days_between, month_first

    months = [list(days) for _, days in groupby(days_between(first, last), key=month_first)]
    parts = min(parts, len(months))
    begin = [len(months) * part // parts for part in range(parts + 1)]
    return [(months[begin[i]][0], months[begin[i + 1] - 1][-1]) for i in range(parts)]


def _days(options: argparse.Namespace) -> tuple[date, date]:
    from lakehouse_assets.landing.files import parse_date

    first, last = parse_date(options.start), parse_date(options.end)
    if last < first:
        raise UsageError(f"--end {last} is before --start {first}")
    return first, last


def _run_range(options: argparse.Namespace, settings: Settings, first: date, last: date) -> None:
    from lakehouse_assets.calendar import days_between
    from lakehouse_assets.landing.zone import landing_zone

    began = time.monotonic()
    looks = landing_zone(settings).look_at_all()
    if without := [day for day in days_between(first, last) if not looks["interactions"].get(day)]:
        say(_without_file(without))
    size = None
    if not settings.spark_remote:  # a server's JVM runs already
        until = last + timedelta(days=settings.late_days)
        found = looks.values()
        size = sum(file.size for look in found for day in look if first <= day <= until for file in look[day])
    _start_early(settings, size)
    from lakehouse_assets.lakehouse import Lakehouse
    from lakehouse_assets.runner import Runner

    _report(options, lambda: Runner(Lakehouse(settings), say).run_range(first, last), settings, began)


def _without_file(days: Sequence[date]) -> str:
    from lakehouse_assets.calendar import at_most, in_words

    named = ", ".join(at_most(in_words(days), 3))
    return f"no file of interactions is landed under {named}; what other files hold of a day counts, else it is 0"


def _run_stale(options: argparse.Namespace, settings: Settings) -> None:
    _report(options, lambda: _up_to_date(settings), settings, time.monotonic())


def _up_to_date(settings: Settings) -> list[Work]:
    from lakehouse_assets.landing.redivision import waiting
    from lakehouse_assets.landing.zone import landing_zone
    from lakehouse_assets.storage.catalog import has_tables

    zone = landing_zone(settings)
    before = zone.look_at_all()
    earlier = _before_start(zone, settings)
    if not any(before.values()) and not has_tables(settings):
        hint = earlier or "deliver a file with `lakehouse land` first"
        raise UsageError(f"nothing is landed in {settings.landing_uri}; {hint}")
    if earlier:
        say(earlier)
    _start_early(settings, None if waiting(zone, settings) else zone.new_bytes(before))
    from lakehouse_assets.lakehouse import Lakehouse
    from lakehouse_assets.runner import Runner

    return Runner(Lakehouse(settings), say).run_stale(before)


def _before_start(zone: LandingZone, settings: Settings) -> str:
    """What LAKEHOUSE_START_DATE leaves out, in a sentence; empty if nothing."""
    from lakehouse_assets.calendar import some, span_in_words

    days = zone.days_before_start()
    if not days:
        return ""
    return (
        f"LAKEHOUSE_START_DATE is {settings.start_date}: {some(len(days), 'landing date')} before it, "
        f"{span_in_words(days[0], days[-1])}, left out; what was computed of them stays as it is"
    )


def _start_early(settings: Settings, size: int | None = None) -> None:
    """Let the JVM start while Python still imports; what goes wrong there shows when the session is first used.

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


def _report(
    options: argparse.Namespace, compute: Callable[[], Sequence[Work]], settings: Settings, began: float
) -> None:
    """Compute and tell what has been computed, also where something is left out."""
    try:
        work, left_out = compute(), None
    except Exception as error:
        from lakehouse_assets.runner import DaysLeftOut

        if not isinstance(error, DaysLeftOut):
            raise
        work, left_out = error.work, error
    from lakehouse_assets.calendar import some

    page = _draw(settings) if work else settings.dashboard_path
    seconds = time.monotonic() - began
    if options.json:
        runs = [{"first": one.first, "last": one.last, "tables": one.tables} for one in work]
        refused = {str(day): why for day, why in left_out.refused.items()} if left_out else {}
        failed = [asdict(one) for one in left_out.failed] if left_out else []
        left = [asdict(one) for one in left_out.left] if left_out else []
        told = {"runs": runs, "refused": refused, "failed": failed, "left": left}
        answer(told | {"seconds": round(seconds, 1), "dashboard": page})
    elif work:
        for line in _rejected(work, settings):
            say(line)
        days = sum(one.days * len(one.tables) for one in work)
        say(f"done: {days:,} table days in {some(len(work), 'run')}, {seconds:.1f} s. Look at {page}")
        say_next("tables", _LOOK, "dev")
    elif not left_out:
        say("everything is up to date")
    if left_out:
        raise left_out


def _rejected(work: Sequence[Work], settings: Settings) -> list[str]:
    """How many of the rows that were looked at are rejected, and why: nobody should have to ask for that."""
    return [*_rejected_interactions(work, settings), *_rejected_users(work, settings), *_duplicates(work, settings)]


def _duplicates(work: Sequence[Work], settings: Settings) -> list[str]:
    """How many valid rows are copies of others, so that nobody looks for them in vain."""
    from lakehouse_assets.calendar import some

    told = []
    for table, what, equal in (
        ("silver.interaction_counts", "interaction", "user, instant, action and page"),
        ("silver.user_counts", "user row", "user and landing date"),
    ):
        query = f"SELECT NULL, sum(duplicate_rows)::BIGINT FROM {table} WHERE date BETWEEN $first AND $last"  # noqa: S608
        if found := _counted(work, settings, (table,), query).get(None):
            told.append(f"duplicates: {some(found, what)} with the {equal} of another; one of each counts; see {table}")
    return told


def _rejected_interactions(work: Sequence[Work], settings: Settings) -> list[str]:
    rows = _counted(
        work,
        settings,
        ("silver.interaction_routing",),
        "SELECT reason, sum(delivered_rows)::BIGINT FROM silver.interaction_routing "
        "WHERE landing_date BETWEEN $first AND $last GROUP BY reason ORDER BY 2 DESC",
    )
    total, reasons = sum(rows.values()), {reason: count for reason, count in rows.items() if reason}
    if not reasons:
        return []
    hint = []
    if reasons.get("late_event", 0) * 10 > total:
        hint.append(
            f"  late_event: more than LAKEHOUSE_LATE_DAYS ({settings.late_days}) before the date they were delivered "
            "under; lakehouse land without --date delivers each row under its own"
        )
    if reasons.get("future_event", 0) * 100 > total:
        hint.append(
            f"  future_event: after the date they were delivered under, in UTC and in {settings.reporting_timezone}; "
            "lakehouse land without --date delivers each row under its own"
        )
    return [_rejected_of("rows", total, reasons, "silver.rejected_interactions"), *hint]


def _rejected_users(work: Sequence[Work], settings: Settings) -> list[str]:
    rejected, delivered = "silver.rejected_users", "bronze.users"
    within = "WHERE landing_date BETWEEN $first AND $last"
    rows = _counted(
        work,
        settings,
        (rejected, delivered),
        f"SELECT reason, count(*) FROM {rejected} {within} GROUP BY reason "  # noqa: S608
        f"UNION ALL SELECT NULL, count(*) FROM {delivered} {within} ORDER BY 2 DESC, 1",
    )
    total, reasons = rows.get(None, 0), {reason: count for reason, count in rows.items() if reason}
    if not reasons:
        return []
    hint = []
    if "bad_join_date" in reasons:
        hint = ["  bad_join_date: write join_date as YYYY-MM-DD, with a time or without, or leave it empty"]
    return [_rejected_of("users' rows", total, reasons, rejected), *hint]


def _rejected_of(what: str, total: int, reasons: Mapping[str, int], table: str) -> str:
    named = ", ".join(f"{reason} {count:,}" for reason, count in reasons.items())
    return f"rejected: {sum(reasons.values()):,} of {total:,} {what} ({named}); see {table}"


def _counted(work: Sequence[Work], settings: Settings, tables: Sequence[str], query: str) -> dict[str | None, int]:
    """What a query over some tables counts in the days ($first … $last) that the first was computed for, if any."""
    from lakehouse_assets.storage.catalog import Catalog
    from lakehouse_assets.storage.query import connect

    looked_at = [one for one in work if tables[0] in one.tables]
    if not looked_at:
        return {}
    days = {"first": min(one.first for one in looked_at), "last": max(one.last for one in looked_at)}
    return dict(connect(Catalog(settings), tables).execute(query, days).fetchall())


def _draw(settings: Settings) -> Path:
    from lakehouse_assets.lakehouse import Lakehouse
    from lakehouse_assets.reports.dashboard import write_dashboard

    lakehouse = Lakehouse(settings)
    return write_dashboard(lakehouse.catalog, lakehouse.declared, settings.dashboard_path)


def _generate(options: argparse.Namespace, settings: Settings) -> None:
    from lakehouse_assets.sample_data.generate import generate

    try:
        made = generate(
            options.output,
            users=options.users,
            days=options.days,
            rows=options.rows,
            seed=options.seed,
            uniform=options.uniform,
            skew=options.skew,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    say(f"{made.rows:,} interactions of {made.users:,} users in {options.output}")
    say_next(f"land interactions {made.interactions_path}", f"land users {made.users_path}")


def _export(options: argparse.Namespace, settings: Settings) -> None:
    from lakehouse_assets.landing.files import parse_date
    from lakehouse_assets.storage.catalog import Catalog
    from lakehouse_assets.storage.query import export

    first = parse_date(options.start) if options.start else None
    last = parse_date(options.end) if options.end else None
    file_format = options.format or _FORMATS.get(options.output.suffix)
    if not file_format:
        raise UsageError(f"-o {options.output}: its ending is none of {', '.join(_FORMATS)}; say --format")
    rows = export(Catalog(settings), options.table, options.output, file_format, first, last)
    say(f"{rows:,} rows of {options.table} in {options.output}")


def _tables(options: argparse.Namespace, settings: Settings) -> None:
    from lakehouse_assets.lakehouse import Lakehouse
    from lakehouse_assets.storage.query import overview

    lakehouse = Lakehouse(settings)
    found = overview(lakehouse.catalog)
    stale = lakehouse.stamps.stale(lakehouse.zone.look_at_all())
    lakehouse.zone.save_index()
    if options.json:
        names = ("table", "rows", "files", "bytes", "first", "last", "stale_days")
        answer([dict(zip(names, (*one, len(stale.get(one[0], ()))), strict=True)) for one in found])
        return
    if not found:
        say_next("land", "run", "demo", before="no tables yet; ", why=" for sample data")
        return
    say(f"{'table':<32}{'rows':>14}{'files':>8}{'MB':>9}{'stale days':>12}  days")
    for name, rows, files, size, first, last in found:
        days = len(stale.get(name, ()))
        say(f"{name:<32}{rows:>14,}{files:>8,}{size / 1e6:>9.1f}{days:>12,}  {first} … {last}")
    if any(stale.values()):
        say_next("run", before="stale days are landed or follow from what changed, and are not computed yet; ")
    else:
        say_next(_LOOK, before="everything is up to date; ")


def _status(options: argparse.Namespace, settings: Settings) -> None:
    from lakehouse_assets.calendar import span_in_words
    from lakehouse_assets.lakehouse import Lakehouse
    from lakehouse_assets.landing.redivision import told, waiting
    from lakehouse_assets.orchestration.status import FAILED, UP_TO_DATE, status
    from lakehouse_assets.settings import in_utf8

    lakehouse = Lakehouse(settings)
    found = status(lakehouse, partial(_instance, settings))
    lakehouse.zone.save_index()
    if options.json:
        answer([asdict(one) for one in found])
        return
    if files := waiting(lakehouse.zone, settings):
        say(f"{told(files, settings)}: lakehouse run divides {'it' if len(files) == 1 else 'them'} again")
    if earlier := _before_start(lakehouse.zone, settings):
        say(earlier)
    strays = lakehouse.zone.strays()
    for place in strays[:_STRAYS_TOLD]:
        say(
            f"{in_utf8(str(place))} is not read: what is delivered lies in DATASET/date=YYYY-MM-DD/, "
            f"{settings.start_date} … today (UTC), and ends in .csv, .csv.gz or the like; `lakehouse land` reads JSON "
            "Lines and Parquet too"
        )
    if len(strays) > _STRAYS_TOLD:
        say(f"and {len(strays) - _STRAYS_TOLD:,} more that are not read")
    if not found:
        say_next("land", "demo", before="nothing is landed and nothing computed; ", why=" for sample data")
        return
    say(f"{'days':<25}{'files':>7}  {'state':<12}why")
    for one in found:
        say(f"{span_in_words(one.first, one.last):<25}{one.files:>7,}  {one.state:<12}{one.why}".rstrip())
    if any(one.state == FAILED for one in found):
        say_next("run", why=", when what failed is mended")
    elif any(one.state != UP_TO_DATE for one in found):
        say_next("run", "dev", why=", whose sensor runs what is complete")
    else:
        say("everything is up to date")


def _instance(settings: Settings) -> AbstractContextManager[DagsterInstance]:
    from lakehouse_assets.orchestration.instance import terminal_instance

    return terminal_instance(settings)


def _sql(options: argparse.Namespace, settings: Settings) -> None:
    import duckdb

    from lakehouse_assets.storage.catalog import Catalog
    from lakehouse_assets.storage.query import TABLES, connect

    try:
        connection = connect(Catalog(settings))
        asked = " ".join(options.query.lower().rstrip("; \n").split())
        relation = connection.sql(TABLES if asked in ("show tables", "show all tables") else options.query)
        if relation is not None:
            relation.show(max_width=shutil.get_terminal_size((200, 0)).columns, max_rows=200)
    except duckdb.Error as error:
        said = " ".join(str(error).partition("\nLINE ")[0].split())  # where in the query it is, in a drawing
        said = said.removeprefix("Catalog Error: ")
        said = said if said.endswith("?") else f"{said.rstrip('.!')};"
        raise UsageError(f"{said} `lakehouse tables` lists what is there") from None


def _maintain(options: argparse.Namespace, settings: Settings) -> None:
    from lakehouse_assets.lakehouse import Lakehouse

    if options.repair:
        _repair(settings, carry_out=options.yes)
        return
    if options.yes:
        raise UsageError("--yes goes with --repair")
    maintenance = Lakehouse(settings).maintenance
    tables = maintenance.tables()
    if not tables:
        raise UsageError("there are no tables to maintain yet; make some with `lakehouse run`")
    began = time.monotonic()
    files = size = 0
    for name in tables:
        freed = maintenance.maintain(name)
        files, size = files + freed.files, size + freed.bytes
        gave_way = f"; {freed.gave_way} stretches left to a run that published them" if freed.gave_way else ""
        say(
            f"{name:<32}{freed.files:>6,} files {freed.bytes / 1e6:>9.1f} MB freed, {freed.snapshots:,} snapshots "
            f"expired, {freed.branches} branches removed, {freed.compacted:,} small files compacted{gave_way}"
        )
    say(f"done: {files:,} files, {size / 1e6:,.1f} MB freed, {time.monotonic() - began:.1f} s")


def _repair(settings: Settings, *, carry_out: bool) -> None:
    from lakehouse_assets.calendar import in_words
    from lakehouse_assets.lakehouse import Lakehouse
    from lakehouse_assets.orchestration.instance import terminal_instance
    from lakehouse_assets.orchestration.jobs import living_runs
    from lakehouse_assets.storage.repair import why_to_ask
    from lakehouse_assets.storage.trouble import check_writable

    with terminal_instance(settings) as instance:
        busy = living_runs(instance)
    if busy:
        raise UsageError(f"run {busy[0].run_id} has not ended yet; repair when nothing runs, and stop `lakehouse dev`")
    check_writable(settings)
    repair = Lakehouse(settings).repair
    found = list(repair.look())
    if not found:
        say("every file of every table can be read")
        return
    for damage in found:
        say(str(damage))
    plan = repair.plan(found)
    why = why_to_ask(plan)
    will = "would" if why and not carry_out else "will"
    for mending in plan:
        days = ", ".join(in_words(mending.days))
        say(f"{mending.table} {will} be {mending.state}{f'; days to compute again: {days}' if days else ''}")
    if why and not carry_out:
        raise UsageError(
            f"nothing is changed yet: {why}. Is every disk mounted, and every file copied? If they are lost, "
            "`lakehouse maintain --repair --yes` does it"
        )
    for mending in plan:
        mended = repair.mend(mending)
        days = ", ".join(in_words(mended.days)) or "none"
        say(f"{mended.table} is {mended.state} now; days to compute again: {days}")
        if mended.lost:
            lost = ", ".join(in_words(mended.lost))
            say(f"  lost for good, as cleanup has dropped what they follow from: {lost}")
    say_next("run", why=" computes these days, and whatever an earlier version lacks")


def _cleanup(options: argparse.Namespace, settings: Settings) -> None:
    from lakehouse_assets.lakehouse import Lakehouse

    if options.empty_end:
        _take_back(options, settings)
        return
    if options.retention_days < 1:
        raise UsageError(f"--retention-days {options.retention_days}: keep at least one day")
    lakehouse = Lakehouse(settings)
    maintenance = lakehouse.maintenance
    plan = maintenance.plan_cleanup(options.retention_days)
    if not plan:
        say(f"no table has days more than {options.retention_days} days before its newest that nothing else needs")
    elif not options.dry_run:
        _start_early(settings)
    verb = "would be dropped" if options.dry_run else "dropped"
    for dropping in plan:
        if not options.dry_run:
            maintenance.drop(dropping)
        more = dropping.kept_days > options.retention_days
        why = f" (keeps {dropping.kept_days} days: other tables look back on them)" if more else ""
        lost = f"{dropping.days:,} days before {dropping.first_kept}, {dropping.rows:,} rows"
        say(f"{dropping.table}: {lost}, {verb}{why}")
    for dataset, first_kept in maintenance.landed_before(plan).items():
        if options.landing:
            files, size = lakehouse.zone.remove_before(dataset, first_kept, dry_run=options.dry_run)
            say(f"landing of {dataset} before {first_kept}: {files:,} files, {size / 1e6:,.1f} MB, {verb}")
        else:
            say(f"landing of {dataset} before {first_kept}: files stay and are not computed; --landing deletes them")
    if plan and not options.dry_run:
        say_next("maintain", why=f" frees the space {settings.snapshot_days} days from now")


def _forget(options: argparse.Namespace, settings: Settings) -> None:
    from lakehouse_assets.calendar import some
    from lakehouse_assets.people import BLANKS, People
    from lakehouse_assets.storage.catalog import has_tables

    given = list(options.users)
    if options.file:
        try:
            given += options.file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"{options.file} can't be read ({error}); name a text file with a user_id a line"
            ) from None
    people = People({one.strip(BLANKS) for one in given} - {""})
    if not people.ids:
        raise UsageError("no user_id is given; name users, or a file with --file")
    what = f"every row of {some(len(people.ids), 'user')} in {settings.home_path}"
    if not options.yes:
        if not sys.stdin.isatty():
            raise UsageError(f"this deletes {what} for good; say --yes")
        if input(f"This deletes {what} for good. Type yes: ").strip().lower() != "yes":
            raise UsageError("nothing was deleted")
    if not has_tables(settings) and not Path(settings.landing_uri).exists() and "://" not in settings.landing_uri:
        raise UsageError(f"there is no lakehouse in {settings.home_path} yet")
    from lakehouse_assets.lakehouse import Lakehouse
    from lakehouse_assets.orchestration.forget import RECORD, forget

    began = time.monotonic()
    done = forget(Lakehouse(settings), people, say, recompute=options.recompute)
    if options.recompute:
        _up_to_date(settings)
        _draw(settings)
    if options.json:
        answer(asdict(done))
    found = sum(done.rows.values())
    say(
        f"done in {time.monotonic() - began:.1f} s: {some(done.landed_rows, 'row')} out of "
        f"{some(done.landed_files, 'landed file')}, {some(found, 'row')} out of {some(len(done.rows), 'table')}; "
        f"{some(done.stored_files, 'stored file')} deleted, {some(done.records, 'record')} of Dagster's changed; "
        f"aggregates {done.aggregates}. On record, without ids, in {settings.home_path / RECORD}"
    )
    if done.mentions:
        say(f"  {some(done.mentions, 'row')} of other users name one of them, as a page or otherwise; these stay")
    if done.left:
        raise UsageError("\n".join(done.left))


def _take_back(options: argparse.Namespace, settings: Settings) -> None:
    from lakehouse_assets.calendar import in_words, some
    from lakehouse_assets.lakehouse import Lakehouse

    maintenance = Lakehouse(settings).maintenance
    days = maintenance.empty_end()
    if not days:
        say("no day after the last landing date was computed")
        return
    told = ", ".join(in_words(days))
    if options.dry_run:
        say(f"{told}: {some(len(days), 'day')} without a file at the end of the lake would be taken back")
        return
    maintenance.take_back(days)
    say(f"{told}: {some(len(days), 'day')} without a file at the end of the lake taken back")
    say_next("run", why=" takes them out of every table")


def _profile(options: argparse.Namespace, settings: Settings) -> None:
    from lakehouse_assets.lakehouse import Lakehouse
    from lakehouse_assets.landing.files import parse_date
    from lakehouse_assets.reports.profiles import write_profile

    lakehouse = Lakehouse(settings)
    if options.table not in lakehouse.tables:
        raise UsageError(f"there is no table {options.table!r}; there are {', '.join(lakehouse.tables)}")
    if options.rows < 1:
        raise UsageError(f"--rows {options.rows}: take at least one row")
    against = parse_date(options.against) if options.against else None
    table = lakehouse.tables[options.table]
    made = write_profile(lakehouse.catalog, table, settings.profiles_path, options.rows, against)
    say(f"{table.name}: {made.rows:,} of {made.of_rows:,} rows of {made.first} … {made.last}. Look at {made.page}")
    if made.drift:
        say(f"what drifted since {made.against}: {made.drift}")


def _dev(options: argparse.Namespace, settings: Settings) -> None:
    from lakehouse_assets.orchestration.instance import dagster_home

    with socket.socket() as port:
        port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            port.bind(("127.0.0.1", options.port))
        except (OSError, OverflowError) as error:
            raise UsageError(f"--port {options.port} can't be had ({error}); take another") from None
    if settings.engine == "spark":
        from lakehouse_assets.engines.spark import prepare_environment

        prepare_environment(settings)
    os.environ["DAGSTER_HOME"] = str(dagster_home(settings))
    os.environ["LAKEHOUSE_HOME"] = str(settings.home_path)
    # what would replace `dagster dev` wants a project of its own layout
    warnings.filterwarnings("ignore", "Function `dev_command`")
    say(f"Dagster starts on http://127.0.0.1:{options.port} for the lakehouse in {settings.home_path}; Ctrl-C ends it")
    STOP.grace_seconds = _DEV_GRACE_SECONDS
    # a script that started this in the background had it ignored, and Dagster cancels runs with it
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    sys.argv = ["dagster", "dev", "-m", "lakehouse_assets.definitions", "-h", "127.0.0.1", "-p", str(options.port)]
    runpy.run_module("dagster", run_name="__main__", alter_sys=True)


def _demo(options: argparse.Namespace, settings: Settings) -> None:
    import tempfile

    from lakehouse_assets.landing.deliver import deliver, split
    from lakehouse_assets.landing.zone import landing_zone
    from lakehouse_assets.sample_data.generate import generate

    began = time.monotonic()
    zone = landing_zone(settings)
    if zone.dates("interactions"):
        say(f"{settings.landing_uri} has deliveries already; the demo adds none and brings the tables up to date")
    else:
        with tempfile.TemporaryDirectory() as folder:
            # up to yesterday: what Dagster's pages show first, and no years of days without a file between it and today
            start = datetime.now(tz=settings.reporting_zone).date() - timedelta(days=_DEMO_DAYS)
            made = generate(Path(folder), users=4000, days=_DEMO_DAYS, rows=60_000, seed=1, start=start)
            split(
                zone,
                made.interactions_path,
                {},
                input_zone=settings.input_zone,
                reporting_zone=settings.reporting_zone,
            )
            if made.late_path and made.late_date:
                deliver(zone, "interactions", made.late_path, made.late_date, {})
            deliver(zone, "users", made.users_path, zone.dates("interactions")[0], {})
        say(f"sample data: {made.rows:,} interactions over {_DEMO_DAYS} days, late, doubled and faulty ones among them")
    work = _up_to_date(settings)
    page = _draw(settings)
    for line in _rejected(work, settings):
        say(line)
    say(f"done in {time.monotonic() - began:.0f} s. Look at {page}")
    say_next("tables", _LOOK, "dev")


def _parser() -> argparse.ArgumentParser:
    from lakehouse_assets.settings import SETTINGS_FILE

    parser = argparse.ArgumentParser(
        prog="lakehouse", description="From interaction logs to DAU, WAU, MAU and sessions."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, what: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        return commands.add_parser(name, parents=parents, help=what, description=f"{what[0].upper()}{what[1:]}.")

    acts, tells = argparse.ArgumentParser(add_help=False), argparse.ArgumentParser(add_help=False)
    acts.add_argument("-q", "--quiet", action="store_true", help="print nothing but what went wrong")
    tells.add_argument("--json", action="store_true", help="print one JSON value, for scripts")

    demo = add("demo", "sample data -> every table -> a dashboard; prints where to look", acts)
    demo.set_defaults(command=_demo)

    init = add("init", f"write {SETTINGS_FILE}, a settings file to fill in", acts)
    init.set_defaults(command=_init)

    generate = add("generate", "make sample data, realistic or uniform", acts)
    generate.add_argument("--users", type=int, default=25_000)
    generate.add_argument("--days", type=int, default=365)
    generate.add_argument("--rows", type=int, default=1_000_000)
    generate.add_argument("--seed", type=int, default=1)
    generate.add_argument("--uniform", action="store_true", help="users, times and actions drawn uniformly")
    generate.add_argument("--skew", type=float, help="share of all rows that one user gets, such as 0.3")
    generate.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    generate.set_defaults(command=_generate)

    land = add("land", "deliver files into the landing zone", acts)
    land.add_argument("dataset", choices=("interactions", "users"))
    land.add_argument("files", nargs="+", type=Path, metavar="FILE")
    land.add_argument(
        "--date",
        metavar="D",
        help="deliver as it is under this landing date; without it interactions are split by event date and users go "
        "under today's date in UTC",
    )
    land.add_argument("--map", action="append", default=[], metavar="OURS=THEIRS", help="rename a column")
    land.add_argument(
        "--replace", action="store_true", help="also where a file of that name landed before has more rows of a date"
    )
    land.add_argument(
        "--try",
        action="store_true",
        dest="trial",
        help="only say what would become of each row, and which settings would have more of them accepted",
    )
    land.set_defaults(command=_land)

    run = add("run", "compute what is landed and not up to date, or a range", acts, tells)
    run.add_argument("--start", metavar="D")
    run.add_argument("--end", metavar="D")
    run.add_argument("--part", action="store_true", help=argparse.SUPPRESS)  # of a parallel backfill, which speaks
    run.set_defaults(command=_run)

    backfill = add("backfill", "compute every table for a range again", acts, tells)
    backfill.add_argument("--start", metavar="D", required=True)
    backfill.add_argument("--end", metavar="D", required=True)
    backfill.add_argument("--parallel", type=int, default=1, metavar="N", help="processes to divide the range among")
    backfill.set_defaults(command=_backfill)

    export = add("export", "write a table to a file", acts)
    export.add_argument("table")
    export.add_argument("--start", metavar="D")
    export.add_argument("--end", metavar="D")
    export.add_argument("--format", choices=tuple(dict.fromkeys(_FORMATS.values())), help="default: as FILE ends")
    export.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    export.set_defaults(command=_export)

    add("tables", "what is there", tells).set_defaults(command=_tables)

    add("status", "where each day stands, and why", tells).set_defaults(command=_status)

    sql = add("sql", "ask the tables")
    sql.add_argument("query")
    sql.set_defaults(command=_sql)

    profile = add("profile", "describe a table's newest days on an HTML page", acts)
    profile.add_argument("table")
    profile.add_argument("--rows", type=int, default=20_000, metavar="N", help="rows in the sample")
    profile.add_argument("--against", metavar="D", help="compare with the profile of this day, not the newest before")
    profile.set_defaults(command=_profile)

    maintain = add("maintain", "compact files, expire snapshots, remove what killed runs left", acts)
    maintain.add_argument(
        "--repair", action="store_true", help="only look for files that are gone or damaged, and take them out"
    )
    maintain.add_argument(
        "--yes", action="store_true", help="with --repair: also where more than single files would be taken out"
    )
    maintain.set_defaults(command=_maintain)

    cleanup = add("cleanup", "drop old days, or the empty ones at the end", acts)
    which = cleanup.add_mutually_exclusive_group(required=True)
    which.add_argument("--retention-days", type=int, metavar="N", help="days kept before the newest")
    which.add_argument("--empty-end", action="store_true", help="take back computed days after the last landing date")
    cleanup.add_argument("--landing", action="store_true", help="delete the landed files of the dropped days too")
    cleanup.add_argument("--dry-run", action="store_true", help="only say what would be dropped")
    cleanup.set_defaults(command=_cleanup)

    forgetting = add("forget", "take every row of some users out, wherever the lakehouse keeps one", acts, tells)
    forgetting.add_argument("users", nargs="*", metavar="USER", help="user_id")
    forgetting.add_argument("--file", type=Path, metavar="FILE", help="a text file with a user_id a line")
    forgetting.add_argument("--yes", action="store_true", help="do not ask")
    forgetting.add_argument(
        "--recompute",
        action="store_true",
        help="compute aggregates again without them; otherwise these stay as they are",
    )
    forgetting.set_defaults(command=_forget)

    dev = add("dev", "the Dagster UI on this lakehouse")
    dev.add_argument("--port", type=int, default=3000)
    dev.set_defaults(command=_dev)
    return parser


if __name__ == "__main__":
    sys.exit(main())
