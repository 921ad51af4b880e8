"""The event date of delivered rows, told a block of text at a time."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse_assets.landing.csv_files import Lines, rows_over_lines
from lakehouse_assets.settings import EARLIEST_LANDING_DATE

_COMMA = ord(",")
_SECONDS = len("YYYY-MM-DD HH:MM:SS")
_DIGITS = [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18]
_TIMESTAMP = re.compile(r"\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}:\d{2}([.]\d{1,9})?(Z|[+-]\d{2}(:?\d{2})?)?")
_NO_SIGN_NOR_Z = np.frombuffer(b".:0123456789", np.uint8)
_OFFSET = re.compile(r"[+-]\d{2}(:?\d{2})?$|Z$")
_UNREADABLE, _SINGLY = 0, -1  # stand beside the ordinals of days


class DayReader:
    """Tells the event date of rows, a block at a time, without touching the plain ones singly in Python."""

    def __init__(
        self, header: Sequence[str], timestamp_at: int, input_zone: ZoneInfo, reporting_zone: ZoneInfo, today: date
    ) -> None:
        self.width = len(header)
        self.timestamp_at = timestamp_at
        self.input_zone = input_zone
        self.reporting_zone = reporting_zone
        self.today = today
        # what of a text decides its day: the date where no zone can move it, else also the minute
        self._deciding = 10 if input_zone == reporting_zone else 16
        self._days: dict[bytes, int] = {}

    def divide(self, block: bytes) -> Iterator[tuple[date | None, bytes, int]]:
        """Parts of a block of whole rows with their day (None: unreadable) and number of rows."""
        lines = Lines.of(block)
        over_lines, _ = rows_over_lines(lines, self.width)
        quoted = np.zeros(len(lines.ends), bool)
        singles = []
        for first in np.flatnonzero(lines.quotes).tolist():
            if not quoted[first]:
                last = over_lines.get(first, first)
                singles.append(lines.text(first, last))
                quoted[first : last + 1] = True
        days = self._days_of_plain(lines, ~quoted)
        unquoted = (lines.text(line, line) for line in np.flatnonzero((days == _SINGLY) & ~quoted).tolist())
        singles += [text for text in unquoted if text.strip(b"\r\n")]  # a blank line is no row
        for row, day in zip(singles, self._days_of_rows(singles), strict=True):
            yield day, row, 1
        bounds = [0, *(np.flatnonzero(days[1:] != days[:-1]) + 1).tolist(), len(days)]
        if len(bounds) * 20 < len(days):  # in order of time, as logs are: whole stretches at once
            for low, high in itertools.pairwise(bounds):
                if days[low] != _SINGLY:
                    yield _as_day(int(days[low])), lines.text(low, high - 1), high - low
            return
        rows = lines.as_array()
        order = np.argsort(days, kind="stable")
        for taken in np.split(order, np.flatnonzero(np.diff(days[order])) + 1):
            ordinal = int(days[taken[0]]) if len(taken) else _SINGLY
            if ordinal != _SINGLY:
                yield _as_day(ordinal), rows.take(pa.array(taken)).buffers()[2].to_pybytes(), len(taken)

    def _days_of_plain(self, every: Lines, plain: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """The day of each line that is an unquoted row with a timestamp without an offset; `_SINGLY` for the rest."""
        data, starts, ends = every.data, every.starts, every.ends
        days = np.full(len(ends), _SINGLY, np.int64)
        commas = np.flatnonzero(data == _COMMA)
        before = np.searchsorted(commas, starts)
        lines = np.flatnonzero(plain & (np.searchsorted(commas, ends) - before == self.width - 1))
        if not len(lines):
            return days
        begin, first_comma = starts[lines], before[lines]
        at = commas[first_comma + self.timestamp_at - 1] + 1 if self.timestamp_at else begin
        last = self.timestamp_at == self.width - 1
        stop = ends[lines] - 1 if last else commas[first_comma + self.timestamp_at]
        whole = np.flatnonzero(stop - at >= _SECONDS)
        lines, at, stop = lines[whole], at[whole], stop[whole]
        texts = data[at[:, None] + np.arange(_SECONDS)]
        shaped = ((texts[:, _DIGITS] >= ord("0")) & (texts[:, _DIGITS] <= ord("9"))).all(axis=1)
        shaped &= (texts[:, [4, 7]] == ord("-")).all(axis=1) & (texts[:, [13, 16]] == ord(":")).all(axis=1)
        shaped &= (texts[:, 10] == ord(" ")) | (texts[:, 10] == ord("T"))
        shaped &= (stop - at == _SECONDS) | (
            # a fraction and no offset, whose sign would be the third, fifth or sixth character from the end
            (data[np.minimum(at + _SECONDS, len(data) - 1)] == ord("."))
            & (stop - at > _SECONDS + 1)
            & (stop - at <= _SECONDS + 10)
            & np.isin(data[stop[:, None] - [1, 3, 5, 6]], _NO_SIGN_NOR_Z).all(axis=1)
        )
        if self.input_zone.key == "UTC":  # then a Z changes nothing either
            shaped |= (stop - at == _SECONDS + 1) & (data[stop - 1] == ord("Z"))
        lines, texts = lines[shaped], np.ascontiguousarray(texts[shaped, : self._deciding])
        if len(lines):
            keys = texts.view(f"S{self._deciding}").ravel()
            heads = np.concatenate(([True], keys[1:] != keys[:-1]))
            found = np.array([self._day_of_key(bytes(key)) for key in keys[heads]], np.int64)
            days[lines] = found[np.cumsum(heads) - 1]
        return days

    def _day_of_key(self, key: bytes) -> int:
        if key not in self._days:
            day = self._day_of_text(key.decode("ascii") + "0000-00-00 00:00:00"[len(key) :])
            self._days[key] = _UNREADABLE if day is None else day.toordinal()
        return self._days[key]

    def _days_of_rows(self, rows: Sequence[bytes]) -> list[date | None]:
        """The day of each row, with quotes or without."""
        texts = [row.decode("utf-8", "replace") for row in rows]
        try:
            parsed = list(csv.reader(texts, strict=True))
        except csv.Error:
            parsed = []
        if len(parsed) != len(texts):  # a row over several lines, or one that is no CSV: each by itself
            parsed = [_values(text) for text in texts]
        return [
            self._day_of_text(values[self.timestamp_at])
            if len(values) == self.width and _TIMESTAMP.fullmatch(values[self.timestamp_at])
            else None
            for values in parsed
        ]

    def _day_of_text(self, text: str) -> date | None:
        try:
            if self._deciding == 10 and not _OFFSET.search(text):
                day = date.fromisoformat(text[:10])
            else:
                instant = datetime.fromisoformat(text)
                day = (
                    (instant if instant.tzinfo else instant.replace(tzinfo=self.input_zone))
                    .astimezone(self.reporting_zone)
                    .date()
                )
        except (ValueError, OverflowError):
            return None
        return day if EARLIEST_LANDING_DATE <= day <= self.today else None


def _as_day(ordinal: int) -> date | None:
    return None if ordinal == _UNREADABLE else date.fromordinal(ordinal)


def _values(row: str) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(row, newline=""), strict=True), [])
    except csv.Error:
        return []
