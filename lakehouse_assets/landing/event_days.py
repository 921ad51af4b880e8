"""The event date of delivered rows, told a block of text at a time."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse_assets.landing.row_blocks import Lines, rows_over_lines
from lakehouse_assets.settings import EARLIEST_LANDING_DATE
from lakehouse_assets.timestamps import BLANKS, WALL, formats_of, instant_of

_MINUTE = len("YYYY-MM-DD HH:MM")
_DAY = len("YYYY-MM-DD")
_DIGITS = [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18]
_NO_SIGN_NOR_ZONE = np.frombuffer(b".:0123456789", np.uint8)
_EPOCH_DIGITS = (10, 13, 16, 19)  # of seconds, ms, us and ns of today; other numbers are looked at singly
_UNREAD = 100  # texts that are kept to tell what they might be
_AT_MOST_BLANKS = 8  # around a value; more are looked at singly
_UNREADABLE, _SINGLY = 0, -1  # stand beside the ordinals of days
_DAY_0 = date(1970, 1, 1).toordinal()
_FIRST = EARLIEST_LANDING_DATE.toordinal()
_BLANKS = np.frombuffer(BLANKS.encode(), np.uint8)
_CARRIAGE_RETURN = ord("\r")
_UTC = ZoneInfo("UTC")


class DayReader:
    """Tells the event date of rows, a block at a time, without touching the plain ones singly in Python."""

    def __init__(
        self,
        header: Sequence[str],
        timestamp_at: int,
        input_zone: ZoneInfo,
        reporting_zone: ZoneInfo,
        today: date,
        formats: Sequence[str] = (),
        separator: str = ",",
    ) -> None:
        self.width = len(header)
        self.separator = separator
        self.timestamp_at = timestamp_at
        self.input_zone = input_zone
        self.reporting_zone = reporting_zone
        self.formats = formats_of(formats)
        self.unread: list[str] = []  # some timestamps that can't be read
        self._last = today.toordinal()
        self._days: dict[bytes, int] = {}
        self._days_of_minutes: dict[int, int] = {}

    def divide(self, block: bytes) -> Iterator[tuple[date | None, bytes, int]]:
        """Parts of a block of whole rows with their day (None: unreadable) and number of rows."""
        lines = Lines.of(block)
        over_lines, _ = rows_over_lines(lines, self.width, self.separator)
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
            yield _as_day(day), row, 1
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
        """The day of each line that is an unquoted row of the right width; `_SINGLY` for the rest."""
        data, starts, ends = every.data, every.starts, every.ends
        days = np.full(len(ends), _SINGLY, np.int64)
        separators = np.flatnonzero(data == ord(self.separator))
        before = np.searchsorted(separators, starts)
        lines = np.flatnonzero(plain & (np.searchsorted(separators, ends) - before == self.width - 1))
        if not len(lines):
            return days
        begin, first_separator = starts[lines], before[lines]
        at = separators[first_separator + self.timestamp_at - 1] + 1 if self.timestamp_at else begin
        last = self.timestamp_at == self.width - 1
        stop = ends[lines] - 1 if last else separators[first_separator + self.timestamp_at]
        for _ in range(2 if last else 0):  # a line may end with two
            stop = stop - ((stop > at) & (data[stop - 1] == _CARRIAGE_RETURN))
        at, stop = _without_blanks(data, at, stop)
        found = np.full(len(lines), _SINGLY, np.int64)
        if not self.formats:  # these go first, so that they may mean something else by the same text
            for told in (self._days_of_wall_times, self._days_of_numbers):
                left = np.flatnonzero(found == _SINGLY)
                if len(left):
                    found[left] = told(data, at[left], stop[left])
        left = np.flatnonzero(found == _SINGLY)
        if len(left):
            found[left] = self._days_of_texts(every.block, at[left], stop[left])
        days[lines] = found
        return days

    def _days_of_wall_times(
        self, data: npt.NDArray[np.uint8], at: npt.NDArray[Any], stop: npt.NDArray[Any]
    ) -> npt.NDArray[np.int64]:
        """Days of values such as ``YYYY-MM-DD HH:MM:SS``, with a fraction or ``Z`` or without; `_SINGLY` for others."""
        days = np.full(len(at), _SINGLY, np.int64)
        rows = np.flatnonzero(stop - at >= WALL)
        at, stop = at[rows], stop[rows]
        texts = data[at[:, None] + np.arange(WALL)]
        shaped = ((texts[:, _DIGITS] >= ord("0")) & (texts[:, _DIGITS] <= ord("9"))).all(axis=1)
        shaped &= (texts[:, [4, 7]] == ord("-")).all(axis=1) & (texts[:, [13, 16]] == ord(":")).all(axis=1)
        shaped &= (texts[:, 10] == ord(" ")) | (texts[:, 10] == ord("T"))
        size = stop - at
        in_utc = np.zeros(len(at), bool)
        if len(at):
            in_utc = data[stop - 1] == ord("Z")
            four = data[np.maximum(stop[:, None] - [4, 3, 2, 1], 0)]
            named = (four == np.frombuffer(b" UTC", np.uint8)).all(axis=1)
            size = size - in_utc - 4 * named
            in_utc |= named
            stop = at + size
        shaped &= (size == WALL) | (
            # a fraction and no offset, whose sign would be the third, fifth or sixth character from the end
            (data[np.minimum(at + WALL, len(data) - 1)] == ord("."))
            & (size > WALL + 1)
            & (size <= WALL + 10)
            & np.isin(data[stop[:, None] - [1, 3, 5, 6]], _NO_SIGN_NOR_ZONE).all(axis=1)
        )
        for zone, of_zone in ((self.input_zone, ~in_utc), (_UTC, in_utc)):
            chosen = shaped & of_zone
            if chosen.any():
                # what of a text decides its day: the date where no zone can move it, else also the minute
                deciding = _DAY if zone == self.reporting_zone else _MINUTE
                keys = np.ascontiguousarray(texts[chosen, :deciding]).view(f"S{deciding}").ravel()
                suffix = "" if zone is not _UTC else "Z"
                days[rows[chosen]] = self._by_key(keys, suffix)
        return days

    def _by_key(self, keys: npt.NDArray[np.bytes_], suffix: str) -> npt.NDArray[np.int64]:
        """Days of the beginnings of wall times, each stretch of equal ones looked up once."""
        heads = np.concatenate(([True], keys[1:] != keys[:-1]))
        found = np.array([self._day_of_key(bytes(key), suffix) for key in keys[heads]], np.int64)
        return found[np.cumsum(heads) - 1]

    def _day_of_key(self, key: bytes, suffix: str) -> int:
        known = key + suffix.encode()
        if known not in self._days:
            text = key.decode("ascii") + "0000-00-00 00:00:00"[len(key) :]
            self._days[known] = self._day_of_text(text + suffix)
        return self._days[known]

    def _days_of_numbers(
        self, data: npt.NDArray[np.uint8], at: npt.NDArray[Any], stop: npt.NDArray[Any]
    ) -> npt.NDArray[np.int64]:
        """Days of seconds, ms, us and ns since 1970 without a fraction; `_SINGLY` for others."""
        days = np.full(len(at), _SINGLY, np.int64)
        for digits in _EPOCH_DIGITS:
            rows = np.flatnonzero(stop - at == digits)
            texts = data[at[rows][:, None] + np.arange(10)]  # seconds, whatever the unit
            tails = data[at[rows][:, None] + np.arange(10, digits)]
            shaped = (texts >= ord("0")) & (texts <= ord("9"))
            whole = shaped.all(axis=1) & ((tails >= ord("0")) & (tails <= ord("9"))).all(axis=1)
            whole &= texts[:, 0] != ord("0")
            seconds = (texts[whole].astype(np.int64) - ord("0")) @ (10 ** np.arange(9, -1, -1, dtype=np.int64))
            minutes = seconds // 60
            if self.reporting_zone.key == "UTC":
                found = seconds // 86_400 + _DAY_0
                days[rows[whole]] = np.where((found >= _FIRST) & (found <= self._last), found, _UNREADABLE)
            elif len(minutes):
                heads = np.concatenate(([True], minutes[1:] != minutes[:-1]))
                found = np.array([self._day_of_minute(minute) for minute in minutes[heads].tolist()], np.int64)
                days[rows[whole]] = found[np.cumsum(heads) - 1]
        return days

    def _day_of_minute(self, minute: int) -> int:
        if minute not in self._days_of_minutes:
            self._days_of_minutes[minute] = self._day_of_text(str(minute * 60))
        return self._days_of_minutes[minute]

    def _days_of_texts(self, block: bytes, at: npt.NDArray[Any], stop: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Days of values that are written in any other way, each text looked at once."""
        # every value is between two offsets, and so is what lies between two values
        offsets = pa.py_buffer(np.append(np.column_stack((at, stop)).ravel(), stop[-1]).astype(np.int64))
        both = pa.Array.from_buffers(pa.large_binary(), 2 * len(at), [None, offsets, pa.py_buffer(block)])
        texts = both.take(pa.array(np.arange(0, 2 * len(at), 2))).dictionary_encode()
        found = np.array([self._day_of_text(text.decode("utf-8", "replace")) for text in texts.dictionary.to_pylist()])
        return found.astype(np.int64)[texts.indices.to_numpy()]

    def _days_of_rows(self, rows: Sequence[bytes]) -> list[int]:
        """The day of each row, with quotes or without."""
        texts = [row.decode("utf-8", "replace") for row in rows]
        try:
            parsed = list(csv.reader(texts, delimiter=self.separator, strict=True))
        except csv.Error:
            parsed = []
        if len(parsed) != len(texts):  # a row over several lines, or one that is no CSV: each by itself
            parsed = [_values(text, self.separator) for text in texts]
        return [
            self._day_of_text(values[self.timestamp_at]) if len(values) == self.width else _UNREADABLE
            for values in parsed
        ]

    def _day_of_text(self, text: str) -> int:
        """The ordinal of a text's day; `_UNREADABLE` where it names none, or one that no row can be landed under."""
        instant = instant_of(text, self.input_zone, self.formats)
        try:
            day = instant.astimezone(self.reporting_zone).toordinal() if instant else _UNREADABLE
        except OverflowError:
            return _UNREADABLE
        if _FIRST <= day <= self._last:
            return day
        if len(self.unread) < _UNREAD:
            self.unread.append(text)
        return _UNREADABLE


def _without_blanks(
    data: npt.NDArray[np.uint8], at: npt.NDArray[Any], stop: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Values without the blanks and tabs around them."""
    for _ in range(_AT_MOST_BLANKS):
        leading = (at < stop) & np.isin(data[np.minimum(at, len(data) - 1)], _BLANKS)
        trailing = (at < stop - leading) & np.isin(data[stop - 1], _BLANKS)
        if not leading.any() and not trailing.any():
            break
        at, stop = at + leading, stop - trailing
    return at, stop


def _as_day(ordinal: int) -> date | None:
    return None if ordinal == _UNREADABLE else date.fromordinal(ordinal)


def _values(row: str, separator: str) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(row, newline=""), delimiter=separator, strict=True), [])
    except csv.Error:
        return []
