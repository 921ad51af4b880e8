"""Why a Dagster run failed: one sentence for each of its tables that failed."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from textwrap import shorten

import dagster as dg

from lakehouse_assets.calendar import span_in_words, stretches
from lakehouse_assets.orchestration.dagster_internals import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
    RunFailureReason,
    SerializableErrorInfo,
)
from lakehouse_assets.planning.planner import Following
from lakehouse_assets.storage.engine import OutOfMemory

_LONGEST_REASON = 1000
_JAVA = re.compile(
    r"^\[[A-Z_.]+\] |^\s+at \S+\(|^Caused by: |An error occurred while calling |JVM stacktrace|executor \w+\): ",
    re.MULTILINE,
)
_IN_PYTHON = "Traceback (most recent call last)"
_END_OF_TRACEBACK = re.compile(r"^(?:\w+\.)*\w+(?:Error|Exception|Refused): (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class TableFailed:
    """Days of a table, from ``first`` to ``last``, that could not be computed, and why."""

    table: str
    first: str
    last: str
    reason: str

    def __str__(self) -> str:
        if self.reason.startswith(f"{self.table} "):
            return self.reason
        return f"{self.table} {span_in_words(self.first, self.last)}: {self.reason}"


@dataclass(frozen=True)
class Failure:
    """A failed run.

    Attributes:
        run_id: its id.
        first: first day it was for, empty if it was for none.
        last: last day.
        tables: all tables it was for.
        failed: the tables that failed and why; all of them, if the run ended as a whole.
        reason: why the run failed.
        stopped: whether somebody stopped it.
        at: when it failed, in seconds since 1970.
    """

    run_id: str
    first: str
    last: str
    tables: list[str]
    failed: list[TableFailed]
    reason: str
    stopped: bool
    at: float

    @property
    def days(self) -> str:
        """The days it was for, as text."""
        return span_in_words(self.first, self.last)


@dataclass(frozen=True)
class TableLeft:
    """Days of a table that are not computed, because they depend on a failed table."""

    table: str
    first: date
    last: date
    follows_from: str


def left_because(stale: Mapping[str, Collection[date]], following: Mapping[str, Following]) -> list[TableLeft]:
    """The days of each table that depend on a failed table."""
    return [
        TableLeft(name, *stretch, following[name].source)
        for name, days in stale.items()
        if name in following
        for stretch in stretches(following[name].days.intersection(days))
    ]


def in_sentences(left: Iterable[TableLeft]) -> list[str]:
    """What is not computed, one sentence for each failed table."""
    names: dict[str, dict[str, None]] = {}
    for one in left:
        names.setdefault(one.follows_from, {})[one.table] = None
    return [f"not computed because of {source}: {', '.join(tables)}" for source, tables in names.items()]


def failure_of(instance: dg.DagsterInstance, run: dg.DagsterRun, tables: Collection[str] = ()) -> Failure:
    """What is known of a run that failed; ``tables`` are those it was for, where it does not say so itself."""
    first, last = days_of_run(run)
    tables = sorted(".".join(key.path) for key in run.asset_selection or ()) or sorted(tables)
    of_steps = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    of_run = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    reasons: dict[str, str] = {}
    for event in of_steps:  # of a table and its check the first
        reasons.setdefault(table_of_step(event.step_key or ""), _reason(event))
    reason = "; ".join(dict.fromkeys(reasons.values()))
    as_a_whole = not reasons
    stopped = run.status == dg.DagsterRunStatus.CANCELED
    for event in of_run:
        why = getattr(event.get_dagster_event().event_specific_data, "failure_reason", None)
        as_a_whole |= why != RunFailureReason.STEP_FAILURE
        stopped |= why == RunFailureReason.UNEXPECTED_TERMINATION
        reason = reason or _reason(event)
    reason = reason or (
        "it was stopped" if stopped else "it recorded no reason: its process was killed, or the machine restarted"
    )
    if as_a_whole or stopped:
        reasons = dict.fromkeys(tables, reason)
    failed = [TableFailed(name, first, last, why) for name, why in reasons.items()]
    at = min((event.timestamp for event in (*of_steps, *of_run)), default=0.0)
    return Failure(run.run_id, first, last, tables, failed, reason, stopped, at)


def days_of_run(run: dg.DagsterRun) -> tuple[str, str]:
    """First and last partition of a run, empty if it has none."""
    one = run.tags.get(PARTITION_NAME_TAG, "")
    return run.tags.get(ASSET_PARTITION_RANGE_START_TAG, one), run.tags.get(ASSET_PARTITION_RANGE_END_TAG, one)


def out_of_memory(event: dg.EventLogEntry) -> str:
    """The message of a step that is repeated because its table needs more memory; else empty."""
    error: SerializableErrorInfo | None = event.get_dagster_event().step_retry_data.error
    while error:
        if error.cls_name == OutOfMemory.__name__:
            return _innermost(error)
        error = error.cause
    return ""


def table_of_step(step: str) -> str:
    """The table that a step computes or checks."""
    if step.startswith("check_"):
        return step.removeprefix("check_").replace("_", ".", 1)
    return step.replace("__", ".", 1)


def _reason(event: dg.EventLogEntry) -> str:
    """The message of a failure event: that of the innermost error, if there is one."""
    error = getattr(event.get_dagster_event().event_specific_data, "error", None)
    return _innermost(error) if error else event.get_dagster_event().message or ""


def _innermost(error: SerializableErrorInfo) -> str:
    """The message of the innermost error, without class names, plans and stack traces."""
    while error.cause:
        error = error.cause
    if error.cls_name in (dg.DagsterExecutionInterruptedError.__name__, KeyboardInterrupt.__name__):
        return "it was stopped"
    message = re.sub(rf"^[\w.]*{re.escape(error.cls_name or '')}: ", "", error.message)
    return shorten(without_java(message), _LONGEST_REASON, placeholder=" …")


def without_java(message: str) -> str:
    """The first sentence of an error from Spark, without class names and lines of code."""
    if _IN_PYTHON in message and (told := _END_OF_TRACEBACK.findall(message)):  # in a worker of Spark's
        return str(told[-1])
    if not _JAVA.search(message):
        return message
    caused = re.findall(r"^Caused by: (.+: .+)$", message, re.MULTILINE)
    first = re.sub(r"^An error occurred while calling \S+\s+: ", "", message).partition("\n")[0]
    line = caused[-1] if caused else first
    line = re.sub(r"^.*\bexecutor \w+\): ", "", line)  # where a task failed
    line = re.sub(r"^(?:\(?(?:[\w$]+\.)+[\w$]+(?:\)|:) )+", "", line)  # classes of errors
    line = re.sub(r"^\[[A-Z_.]+\] |\s+SQLSTATE: .*$", "", line)
    return re.split(r"(?<=[.!?]) (?=[A-Z])", line)[0]
