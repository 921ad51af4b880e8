"""How the instant of an interaction may be written: what landing, silver and the settings all go by.

Beside ``YYYY-MM-DD HH:MM:SS`` (also with ``T``, a fraction, ``Z``, `` UTC`` or an offset) an instant may be a number:
seconds, ms, us or ns since 1970, told apart by how many digits they have, from the year 2000 on. The
settings may name further formats as `strptime` writes them. Every expression here means the same in Python, in Java
(Spark) and in Rust (Sail); none looks around itself or has a group that may be left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import NamedTuple
from zoneinfo import ZoneInfo

BLANKS = " \t"
WALL = len("YYYY-MM-DD HH:MM:SS")
WALL_TIME = "[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}"
OFFSET = "[+-](?:0[0-9]|1[0-8])(?::?[0-5][0-9])?"
ZONE = f"Z|UTC|GMT|{OFFSET}"
# what may follow the wall time: a fraction, a blank or none, a zone
TAIL = f"([.][0-9]{{1,9}}|) ?({ZONE}|)"
# 9 or 10 digits are seconds, 12 or 13 ms, 15 or 16 us, 18 or 19 ns: none is before 2000 but where a 10th digit says so
EPOCH = "((?:9[0-9]{8}|[1-9][0-9]{9})(?:[0-9]{3}|[0-9]{6}|[0-9]{9}|))([.][0-9]{1,9}|)"
MONTHS = "janfebmaraprmayjunjulaugsepoctnovdec"

_DIRECTIVES = {
    "Y": "([0-9]{4})",
    "y": "([0-9]{2})",
    "m": "(1[0-2]|0?[1-9])",
    "b": "([A-Za-z]{3,9})",
    "d": "(3[01]|[12][0-9]|0?[1-9])",
    "H": "(2[0-3]|[01]?[0-9])",
    "I": "(1[0-2]|0?[1-9])",
    "M": "([0-5]?[0-9])",
    "S": "([0-5]?[0-9])",
    "f": "([0-9]{1,9})",
    "p": "([AaPp][Mm])",
    "z": f"({ZONE})",
    "a": "[A-Za-z]{3,9}",
}
_SAME = {"B": "b", "A": "a", "Z": "z"}
_ALTERNATIVES = ("Yy", "mb", "d", "HI", "M", "S", "f", "p", "z")  # of each a format has one at most
_NEEDED = _ALTERNATIVES[:3]
_PLAIN = re.compile(f"({WALL_TIME}){TAIL}")
_EPOCH = re.compile(EPOCH)
_SINCE = datetime(1970, 1, 1, tzinfo=UTC)
_COMMON = (  # what exporters and spreadsheets write; each is tried on values that nothing else reads
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d %H:%M:%S",  # with digits left out, as in 2024-3-5 9:00:00
    "%Y-%m-%dT%H:%M%z",
    "%Y-%m-%d %H:%M:%S %z UTC",
    "%Y-%m-%d %H:%M:%S.%f %z UTC",
    "%Y-%m-%d %H:%M:%S,%f",
    "%Y-%m-%d",
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d %H:%M",
    "%Y%m%d%H%M%S",
    "%Y%m%dT%H%M%S%z",
    "%Y%m%d",
    "%m/%d/%Y %H:%M:%S",
    "%m/%d/%Y %H:%M",
    "%m/%d/%Y %I:%M:%S %p",
    "%m/%d/%Y %I:%M %p",
    "%d/%m/%Y %H:%M:%S",
    "%d/%m/%Y %H:%M",
    "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M",
    "%m/%d/%y %H:%M",
    "%d/%m/%y %H:%M",
    "%d-%m-%Y %H:%M:%S",
    "%d %b %Y %H:%M:%S",
    "%d %b %Y %H:%M",
    "%d-%b-%y %I.%M.%S.%f %p",
    "%d/%b/%Y:%H:%M:%S %z",
    "%a, %d %b %Y %H:%M:%S %z",
    "%a %b %d %H:%M:%S %Y",
    "%a %b %d %H:%M:%S %z %Y",
    "%b %d, %Y %I:%M:%S %p",
    "%b %d, %Y, %I:%M:%S %p",
    "%b %d, %Y %I:%M %p",
    "%b %d, %Y %H:%M:%S",
    "%Y-%m-%d %I:%M:%S %p",
)


class Parts(NamedTuple):
    """Where a written instant has what: wall time, fraction with its dot or none, zone or none."""

    wall: str
    fraction: str
    zone: str


@dataclass(frozen=True)
class Format:
    """A format of the settings as one expression whose groups are ``fields``.

    Attributes:
        text: as it is written in the settings.
        expression: matches the whole of a text that is written so, blanks around it taken off.
        fields: the directive of each group, in order: Y or y, m or b, d, and of H or I, M, S, f, p, z what it has.
    """

    text: str
    expression: str
    fields: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Format:
        """What a format means.

        Raises:
            ValueError: it has a directive that is not known, one twice, or leaves open which day it is.
        """
        expression, fields, at = "", [], 0
        while at < len(text):
            letter = text[at + 1 : at + 2] if text[at] == "%" else ""
            if letter in _SAME:
                letter = _SAME[letter]
            if text[at] != "%" or letter == "%":
                expression += _literal(text[at])
            elif letter in _DIRECTIVES:
                expression += _DIRECTIVES[letter]
                fields += [letter] if letter != "a" else []
            else:
                known = " ".join(f"%{name}" for name in sorted({*_DIRECTIVES, *_SAME}, key=str.lower))
                raise ValueError(f"{text!r} has %{text[at + 1 : at + 2]}; known are {known}")
            at += 2 if text[at] == "%" else 1
        for among in _ALTERNATIVES:
            if sum(field in among for field in fields) > 1:
                raise ValueError(f"{text!r} says {' or '.join(f'%{letter}' for letter in among)} more than once")
        for among in _NEEDED:
            if not any(field in among for field in fields):
                raise ValueError(f"{text!r} needs {' or '.join(f'%{letter}' for letter in among)}")
        if ("I" in fields) != ("p" in fields):
            raise ValueError(f"{text!r} needs both %I and %p, or %H")
        return cls(text, expression, tuple(fields))

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self.expression)

    def parts(self, text: str) -> Parts | None:
        """What a text says that is written so; None for any other."""
        match = self._compiled.fullmatch(text)
        if match is None:
            return None
        said = dict(zip(self.fields, match.groups(), strict=True))
        year = said.get("Y") or ("20" if said["y"] < "69" else "19") + said["y"]
        month = said.get("m")
        if month is None:
            place = MONTHS.find(said["b"][:3].lower())
            if place < 0 or place % 3:
                return None
            month = str(place // 3 + 1)
        hour = said.get("H", "0")
        if "I" in said:
            hour = str(int(said["I"]) % 12 + (12 if said["p"].lower() == "pm" else 0))
        clock = ":".join(part.zfill(2) for part in (hour, said.get("M", "0"), said.get("S", "0")))
        fraction = f".{said['f']}" if "f" in said else ""
        return Parts(f"{year}-{month.zfill(2)}-{said['d'].zfill(2)} {clock}", fraction, said.get("z", ""))


def _literal(character: str) -> str:
    if character in BLANKS:
        return "[ \t]+"
    return character if character.isalnum() else f"[{character}]" if character not in r"\^[]-" else f"\\{character}"


def formats_of(texts: Sequence[str]) -> tuple[Format, ...]:
    """The formats that the settings name, in their order.

    Raises:
        ValueError: one of them can't be used.
    """
    return tuple(map(Format.of, texts))


def instant_of(text: str, input_zone: ZoneInfo, formats: Sequence[Format] = ()) -> datetime | None:
    """The instant that a text names, or None: what `parse_instant` says of a column, for one value.

    The settings' formats go first. A wall time that a clock change skips is one here, and none in silver: landing has
    to put the row somewhere, and silver says why it does not count.
    """
    text = text.strip(BLANKS)
    for one in formats:
        if (parts := one.parts(text)) and (instant := _of_parts(parts, input_zone)):
            return instant
    if plain := _PLAIN.fullmatch(text):
        return _of_parts(Parts(plain[1], plain[2], plain[3]), input_zone)
    if epoch := _EPOCH.fullmatch(text):
        return _SINCE + timedelta(microseconds=epoch_micros(epoch[1], epoch[2]))
    return None


def epoch_micros(whole: str, fraction: str) -> int:
    """Microseconds since 1970 of a number: as many digits as its unit has before microseconds are cut to."""
    digits = 15 + (len(whole) % 3 == 1)
    return int((whole + fraction[1:]).ljust(digits, "0")[:digits])


def _of_parts(parts: Parts, input_zone: ZoneInfo) -> datetime | None:
    if parts.wall[11:13] > "23":  # a midnight that newer Pythons read
        return None
    try:
        wall = datetime.fromisoformat(f"{parts.wall}{parts.fraction[:7]}")
        if not parts.zone:
            return wall.replace(tzinfo=input_zone).astimezone(UTC)
        return wall.replace(tzinfo=UTC) - timedelta(seconds=offset_seconds(parts.zone))
    except (ValueError, OverflowError):
        return None


def offset_seconds(zone: str) -> int:
    """Seconds that a zone is ahead of UTC."""
    digits = zone[1:].replace(":", "").ljust(4, "0")
    if zone[0] not in "+-":
        return 0
    return (int(digits[:2]) * 3600 + int(digits[2:]) * 60) * (-1 if zone[0] == "-" else 1)


def other_readings(texts: Sequence[str], formats: Sequence[str], input_zone: ZoneInfo) -> list[str]:
    """Of formats that all fit, those by which some text is another instant than by the first."""
    first, *others = map(Format.of, formats)
    return [
        one.text
        for one in others
        if any(instant_of(text, input_zone, [one]) != instant_of(text, input_zone, [first]) for text in texts)
    ]


def fitting_formats(texts: Sequence[str], input_zone: ZoneInfo) -> list[str]:
    """Common formats that most of some texts are written in, best first; none where the texts are read anyway.

    A column has some texts that are no time, such as "n/a": the formats are those that read most, and more than half.
    Two that differ in day and month are both there where no text tells which it is.
    """
    unread = [text for text in texts if not instant_of(text, input_zone)]
    read = {one: sum(bool(instant_of(text, input_zone, [Format.of(one)])) for text in unread) for one in _COMMON}
    most = max(read.values())
    return [one for one, count in read.items() if count == most] if 2 * most > len(unread) else []
