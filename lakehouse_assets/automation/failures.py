"""Why a run of Dagster's failed, in one sentence."""

from __future__ import annotations

import re
from dataclasses import dataclass
from textwrap import shorten

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)
from dagster._utils.error import SerializableErrorInfo

from lakehouse_assets.partitions import span_in_words

_LONGEST_REASON = 1000
_JAVA = re.compile(
    r"^\[[A-Z_.]+\] |^\s+at \S+\(|^Caused by: |An error occurred while calling |JVM stacktrace|executor \w+\): ",
    re.MULTILINE,
)
_IN_PYTHON = "Traceback (most recent call last)"
_END_OF_TRACEBACK = re.compile(r"^(?:\w+\.)*\w+(?:Error|Exception|Refused): (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Failure:
    """A failed run: the days and tables it was for, why, and when it failed (seconds since 1970)."""

    run_id: str
    first: str
    last: str
    tables: list[str]
    reason: str
    at: float

    @property
    def days(self) -> str:
        """The days it was for, as text."""
        return span_in_words(self.first, self.last)


def failure_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Failure:
    """What is known of a failed run; the reason is that of the first step that failed, or Dagster's own."""
    first, last = days_of_run(run)
    events = [
        event
        for kind in (dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE)
        for event in instance.all_logs(run.run_id, of_type=kind)
    ]
    reason, at = "it ended without a word", 0.0
    if events:
        at = events[0].timestamp
        error = getattr(events[0].get_dagster_event().event_specific_data, "error", None)
        reason = _innermost(error) if error else events[0].get_dagster_event().message or reason
    tables = sorted(".".join(key.path) for key in run.asset_selection or ())
    return Failure(run.run_id, first, last, tables, reason, at)


def days_of_run(run: dg.DagsterRun) -> tuple[str, str]:
    """First and last partition of a run, empty if it has none."""
    one = run.tags.get(PARTITION_NAME_TAG, "")
    return run.tags.get(ASSET_PARTITION_RANGE_START_TAG, one), run.tags.get(ASSET_PARTITION_RANGE_END_TAG, one)


def _innermost(error: SerializableErrorInfo) -> str:
    """The message of the error that caused all the others, without the name of its class, on one line."""
    while error.cause:
        error = error.cause
    if error.cls_name in (DagsterExecutionInterruptedError.__name__, KeyboardInterrupt.__name__):
        return "it was stopped"
    message = re.sub(rf"^[\w.]*{re.escape(error.cls_name or '')}: ", "", error.message)
    return shorten(without_java(message), _LONGEST_REASON, placeholder=" …")


def without_java(message: str) -> str:
    """What an error that comes out of Spark says in its first sentence: no names of classes, no lines of code."""
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
