"""What would become of each row of a file, were it landed: `lakehouse land --try`."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lakehouse_assets.assets.datasets import DATASETS
from lakehouse_assets.assets.silver.cleaning import calendar_day, classify, parse_instant
from lakehouse_assets.assets.silver.interactions import DUPLICATE_KEY
from lakehouse_assets.assets.silver.rejected_users import judged
from lakehouse_assets.assets.texts import trimmed
from lakehouse_assets.landing.csv_files import SOURCE_LINE
from lakehouse_assets.landing.deliveries import read_deliveries
from lakehouse_assets.landing.headers import EXTRA_COLUMNS, Inspection, inspect
from lakehouse_assets.landing.records import CONSTANT, as_csv, names_in
from lakehouse_assets.landing.text_files import FileRefused
from lakehouse_assets.settings import EARLIEST_LANDING_DATE, Settings, action_column
from lakehouse_assets.storage.engine import Engine
from lakehouse_assets.timestamps import fitting_formats, other_readings

_SAMPLES = 3
_TEXTS_LOOKED_AT = 200
_MOST_ACTIONS = 20
_FURTHER_LOOKS = 3
# which value of a row a reason is about
_ABOUT = {
    "malformed_row": "malformed_row",
    "missing_user_id": "user_id",
    "bad_timestamp": "timestamp",
    "future_event": "timestamp",
    "late_event": "timestamp",
    "unknown_action": "action_type",
    "bad_join_date": "join_date",
}
_ACCEPTED = "accepted"
# names that exporters give to what our columns mean, likeliest first; letters and digits alone are compared
_ALSO_CALLED = {
    "user_id": (
        "userid distinctid userpseudoid anonymousid domainuserid deviceid uid visitorid clientid customerid personid "
        "user visitor author actor email id"
    ),
    "timestamp": (
        "eventtimestamp eventtime originaltimestamp derivedtstamp collectortstamp timestampms createdat occurredat "
        "datetime time date ts at sentat receivedat"
    ),
    "action_type": "eventname event eventtype action type name kind method activity",
    "page_id": "pagepath pageurl pagelocation url path currenturl screenname pageurlpath page screen",
    "duration_ms": "duration durationmsec engagementtimemsec eventduration elapsedms elapsed",
    "app_version": "appversion version appinfoversion versionname libraryversion build release",
    "join_date": "joined joinedat createdat signupdate signedup registered registeredat created",
    "country": "countrycode geocountry countryname",
    "device_type": "device devicecategory platform os",
    "subscription_type": "subscription plan tier",
}
_WITHOUT = {"page_id": "", "duration_ms": "0", "app_version": ""}  # what a log may lack


@dataclass
class Trial:
    """What one file would become.

    Attributes:
        rows: delivered rows.
        counts: rows by reason, and accepted ones.
        samples: some of the values that a reason is about, with the first line that has each.
        duplicates: accepted rows that another one stands for.
        understood: our columns, where each comes from and its first value.
        unused: names in the file that nothing is computed from.
        proposed: settings that would accept more of it.
        doubts: what the proposal leaves open.
        refusal: why it would not be taken at all as the settings are.
        days: first and last day of its accepted rows.
        then: the trial with the proposed settings.
        by_line: whether the lines that are counted are those of the file itself.
    """

    rows: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    samples: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    duplicates: int = 0
    understood: Sequence[tuple[str, str, str]] = ()
    unused: Sequence[str] = ()
    proposed: Mapping[str, object] = field(default_factory=dict)
    doubts: Sequence[str] = ()
    refusal: str = ""
    days: tuple[date, date] | None = None
    then: Trial | None = None
    by_line: bool = True

    @property
    def accepted(self) -> int:
        """Rows that would be accepted."""
        return self.counts.get(_ACCEPTED, 0)


def try_file(
    engine: Engine, settings: Settings, dataset: str, source: Path, renames: Mapping[str, str], day: date | None
) -> Trial:
    """Read a file as landing and silver would, and write nothing.

    Args:
        engine: what computes.
        settings: of the lakehouse.
        dataset: ``interactions`` or ``users``.
        source: the file.
        renames: our column -> theirs.
        day: landing date of all rows; without one each row of interactions has its own.

    Raises:
        FileRefused: it can't be read whatever its columns are called.
    """
    trial, proposed_map = Trial(), dict(renames)
    names = names_in(source)
    with tempfile.TemporaryDirectory() as folder:
        try:
            _read(engine, settings, dataset, source, renames, day, Path(folder), trial)
        except FileRefused as error:
            proposed_map = _mapped(DATASETS[dataset], names, renames)
            if proposed_map == dict(renames):
                raise
            trial.refusal = error.reason
            trial.proposed = {f"map_{dataset}": proposed_map}
            _read(engine, settings, dataset, source, proposed_map, day, Path(folder), trial)
        last, proposed, new = trial, dict(trial.proposed), trial.proposed
        for look in range(_FURTHER_LOOKS):  # what one setting lets through may need another
            if not new:
                break
            chosen = settings.model_copy(update=_as_settings(proposed))
            last = Trial()
            has_format = "timestamp_formats" in proposed  # a second one could read days as months
            _read(engine, chosen, dataset, source, proposed_map, day, Path(folder), last, times=not has_format)
            if look == _FURTHER_LOOKS - 1:
                break  # what nobody looked at is not proposed
            new = last.proposed
            proposed |= new
            trial.doubts = [*trial.doubts, *(doubt for doubt in last.doubts if doubt not in trial.doubts)]
        trial.proposed, trial.then = proposed, last
    roots = {theirs.split(".")[0] for theirs in proposed_map.values()}
    ours = {proposed_map.get(name, name).casefold() for name in DATASETS[dataset]}
    known = {*(settings.segments if dataset == "users" else settings.extra_columns)}
    trial.unused = [name for name in names if name.casefold() not in ours and name not in known | roots]
    return trial


def _as_settings(proposed: Mapping[str, object]) -> dict[str, object]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in proposed.items()}


def _mapped(columns: Sequence[str], names: Sequence[str], renames: Mapping[str, str]) -> dict[str, str]:
    """A map in which every column that the file lacks has the likeliest name that the file has."""
    found = {ours: theirs for ours, theirs in renames.items() if theirs in names or theirs.startswith(CONSTANT)}
    bare = {_bare(name): name for name in reversed(names)}
    lasts = {_bare(name.rpartition(".")[2]): name for name in reversed(names)}
    for column in columns:
        if column in found or column.casefold() in {name.casefold() for name in names}:
            continue
        likely = (_bare(column), *_ALSO_CALLED.get(column, "").split())
        taken = set(found.values())
        places = (where[name] for where in (bare, lasts) for name in likely if name in where)
        theirs = next((name for name in places if name not in taken), None)
        if theirs is not None:
            found[column] = theirs
        elif column in _WITHOUT:
            found[column] = CONSTANT + _WITHOUT[column]
    return found


def _bare(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


def _read(
    engine: Engine,
    settings: Settings,
    dataset: str,
    source: Path,
    renames: Mapping[str, str],
    day: date | None,
    folder: Path,
    trial: Trial,
    *,
    times: bool = True,
) -> None:
    """Fill in what a trial found with a map; ``times``: formats of timestamps may be proposed."""
    columns = DATASETS[dataset]
    with as_csv(source, columns, renames, lambda: folder) as (path, left):
        theirs = [left.get(name, name) for name in columns]
        inspection = inspect(path, theirs)
        trial.by_line = path == source
        rows = _frame(engine, inspection, theirs, columns, day or datetime.now(tz=UTC).date(), settings)
        rows = rows.drop("landing_date").withColumn("landing_date", _landing_date(settings, dataset, day))
        judge = judged if dataset == "users" else _classified(settings)
        table = judge(rows).withColumn("reason", F.coalesce("reason", F.lit(_ACCEPTED)))
        _count(table, dataset, trial)
        rejected = _rejected(table, [reason for reason in trial.counts if reason != _ACCEPTED])
        trial.samples = {
            reason: {str(row["value"] or ""): row["line"] for row in values[:_SAMPLES]}
            for reason, values in rejected.items()
        }
        _propose(rejected, settings, trial, times=times)
        first = rows.where("malformed_row IS NULL").limit(1).toArrow().to_pylist()
        values = first[0] if first else {}
    origin = {name: renames.get(name, name) for name in columns}
    trial.understood = [(name, origin[name], str(values.get(name) or "")) for name in columns]


def _frame(
    engine: Engine,
    inspection: Inspection,
    theirs: Sequence[str],
    ours: Sequence[str],
    day: date,
    settings: Settings,
) -> DataFrame:
    frame = read_deliveries(engine, {day: [inspection]}, theirs, datetime.now(tz=UTC), settings.rows_per_file)
    named = [F.col(f"`{their}`").alias(name) for name, their in zip(ours, theirs, strict=True)]
    return frame.select("landing_date", *named, EXTRA_COLUMNS, "malformed_row", SOURCE_LINE)


def _landing_date(settings: Settings, dataset: str, day: date | None) -> Column:
    """The date that a row would be landed under."""
    today = F.lit(settings.today())
    if day or dataset == "users":
        return F.lit(day or datetime.now(tz=UTC).date())
    instant = parse_instant(F.col("timestamp"), settings.input_timezone, settings.timestamp_formats)
    own = calendar_day(instant, settings.reporting_timezone)
    return F.when(own.between(F.lit(EARLIEST_LANDING_DATE), today), own).otherwise(today)


def _classified(settings: Settings):  # type: ignore[no-untyped-def]  # a function of a frame
    def judge(rows: DataFrame) -> DataFrame:
        return classify(rows, settings.cleaning)

    return judge


def _count(table: DataFrame, dataset: str, trial: Trial) -> None:
    key = [trimmed("user_id").alias("user_id")]
    days = []
    if dataset == "interactions":
        others = [F.nullif(trimmed(name), F.lit("")).alias(name) for name in DUPLICATE_KEY[2:]]
        key = [*key, F.col("event_time"), *others]
        days = [F.min("event_date").alias("first"), F.max("event_date").alias("last")]
    counted = table.groupBy("reason").agg(F.count(F.lit(1)).alias("rows"), *days).toArrow().to_pylist()
    trial.counts = dict(sorted(((row["reason"], row["rows"]) for row in counted), key=lambda one: (-one[1], one[0])))
    trial.rows = sum(trial.counts.values())
    for row in counted:
        if row["reason"] == _ACCEPTED:
            trial.days = (row["first"], row["last"]) if days else None
            trial.duplicates = row["rows"] - table.where(F.col("reason") == _ACCEPTED).select(*key).distinct().count()


def _rejected(table: DataFrame, reasons: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """For each reason the values that it is about, those of most rows first: ``value``, ``bare`` and first ``line``."""
    if not reasons:
        return {}
    value = F.lit(None).cast("string")
    for reason in reasons:
        value = F.when(F.col("reason") == reason, F.col(_ABOUT.get(reason, "duration_ms"))).otherwise(value)
    found = table.where(F.col("reason") != _ACCEPTED).groupBy("reason", value.alias("value"))
    values = found.agg(F.count(F.lit(1)).alias("rows"), F.min(SOURCE_LINE).alias("line"))
    place = F.row_number().over(Window.partitionBy("reason").orderBy(F.desc("rows"), "value"))
    most = values.withColumn("place", place).where(F.col("place") <= _TEXTS_LOOKED_AT)
    rows = most.withColumn("bare", trimmed("value")).toArrow().sort_by("place").to_pylist()
    return {reason: [row for row in rows if row["reason"] == reason] for reason in reasons}


def _propose(
    rejected: Mapping[str, Sequence[Mapping[str, Any]]], settings: Settings, trial: Trial, *, times: bool
) -> None:
    """Add the settings that would have fewer rows rejected."""
    proposed, doubts = dict[str, object](), list[str]()
    texts = list(dict.fromkeys(row["bare"] or "" for row in rejected.get("bad_timestamp", ()) if times))
    if formats := fitting_formats(texts, settings.input_zone):
        proposed["timestamp_formats"] = [*settings.timestamp_formats, formats[0]]
        others = other_readings(texts, formats, settings.input_zone)
        doubts += [f"no value tells {formats[0]} from {other}: look which it is" for other in others]
    named = list(dict.fromkeys(row["bare"] for row in rejected.get("unknown_action", ()) if row["bare"]))
    if named:
        were = [action for action in settings.allowed_actions if trial.accepted]
        wanted = [*were, *named[:_MOST_ACTIONS]]
        first = {action_column(action): action for action in reversed(wanted)}  # two can't share a column
        proposed["allowed_actions"] = list(dict.fromkeys(first[action_column(action)] for action in wanted))
        doubts += [
            f"{text!r} and {first[action_column(text)]!r} differ in case or punctuation only; write them alike"
            for text in named[:_MOST_ACTIONS]
            if text != first[action_column(text)]
        ]
    trial.proposed, trial.doubts = {**trial.proposed, **proposed}, [*trial.doubts, *doubts]


def told(name: str, trial: Trial) -> Iterator[str]:
    """What a person reads of a trial."""
    if trial.refusal:
        yield f"{name}: would be refused: {trial.refusal.partition('. If the ')[0]}"  # the map is proposed below
        yield "  with the settings proposed below:"
    else:
        yield f"{name}: {trial.rows:,} rows, nothing is landed"
    yield "  columns as understood:"
    for ours, theirs, value in trial.understood:
        origin = f"the text {theirs[1:]!r}" if theirs.startswith(CONSTANT) else theirs
        yield f"    {ours:<18} from {origin}" + (f", such as {value[:60]!r}" if value else "")
    if trial.unused:
        yield f"    kept in bronze only: {', '.join(trial.unused)}"
    yield "  rows:"
    yield from (_counted(trial, reason) for reason in trial.counts)
    if trial.duplicates:
        yield f"    {trial.duplicates:>9,} of the accepted rows are duplicates; one of each counts"
    if trial.days:
        yield f"  days {trial.days[0]} … {trial.days[1]}"
    if trial.proposed and trial.then:
        then = trial.then
        yield f"  put this into lakehouse.toml, and {then.accepted:,} of {then.rows:,} rows would be accepted:"
        yield from (f"    {key} = {_toml(value)}" for key, value in trial.proposed.items())
        if left := [reason for reason in then.counts if reason != _ACCEPTED]:
            yield "  rejected even then:"
            yield from (_counted(then, reason) for reason in left)
    yield from (f"  {doubt}" for doubt in trial.doubts)


def _counted(trial: Trial, reason: str) -> str:
    lines = trial.samples.get(reason, {})
    shown = ", ".join(repr(text[:60]) + (f" (line {lines[text]:,})" if trial.by_line else "") for text in lines)
    return f"    {trial.counts[reason]:>9,} {reason}" + (
        f": {_ABOUT.get(reason, 'duration_ms')} {shown}" if shown else ""
    )


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {json.dumps(text)}" for key, text in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)
