"""Users to be forgotten: whether a value is one of their ids, and whether a text names one."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator

import pyarrow as pa
import pyarrow.compute as pc

BLANKS = " \t"  # what cleaning trims a user_id of
MARK = "(forgotten)"
_SESSION = re.compile(r"(.+)_\d{8}_\d+", re.DOTALL)  # an id of theirs begins with the user's
_DELIMITERS = r"\s'\"`,;|<>()\[\]{}=&\\"
_WORD = re.compile(rf"[^{_DELIMITERS}]+")
_HAS_DELIMITER = re.compile(rf"[{_DELIMITERS}]")
_AT_ONCE = 200  # alternatives of one pattern


class People:
    """Ids of users. A longer id that holds one of them is another user's."""

    def __init__(self, ids: Collection[str]) -> None:
        """Users.

        Args:
            ids: their ids, trimmed as cleaning trims them.
        """
        self.ids = frozenset(ids)
        self._arrow = pa.array(sorted(self.ids), pa.string())
        odd = {form for one in self.ids if _HAS_DELIMITER.search(one) for form in _forms(one)}
        # ids with blanks, commas, quotes are no words: they are looked for as they are, between delimiters
        begin, end = rf"(?<![^{_DELIMITERS}])", rf"(?:_\d{{8}}_\d+)?(?![^{_DELIMITERS}])"
        self._odd = (
            re.compile(f"{begin}(?:{'|'.join(map(re.escape, sorted(odd, key=len, reverse=True)))}){end}")
            if odd
            else None
        )
        forms = sorted({form for one in self.ids for form in _forms(one)})
        self._patterns = [
            "|".join(map(_escaped, forms[first : first + _AT_ONCE])) for first in range(0, len(forms), _AT_ONCE)
        ]

    def are(self, values: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
        """Which values are one of the ids, without blanks around it; null is not."""
        return pc.fill_null(pc.is_in(pc.utf8_trim(values.cast(pa.string()), BLANKS), self._arrow), False)

    def may_be_in(self, texts: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
        """Which texts hold the letters of an id, escaped or not, perhaps within another word; texts may be bytes."""
        if not pa.types.is_large_binary(texts.type):
            texts = texts.cast(pa.binary())
        found = pa.scalar(False)
        for pattern in self._patterns:
            found = pc.or_(found, pc.fill_null(pc.match_substring_regex(texts, pattern), False))
        return found

    def has(self, value: str) -> bool:
        """Whether a value is one of the ids, or of one of their sessions."""
        value = value.strip(BLANKS)
        session = _SESSION.fullmatch(value)
        return value in self.ids or bool(session and session[1] in self.ids)

    def named_in(self, text: str) -> bool:
        """Whether a text contains one of the ids as a whole word: between blanks, commas, quotes and the like."""
        return self.redacted(text) != text

    def redacted(self, text: str) -> str:
        """A text with `MARK` in place of their ids; in one that is JSON, of the values in it, at any depth."""
        if self.has(text):
            return MARK
        if text[:1] in ("{", "[", '"'):
            try:
                value = json.loads(text)
            except ValueError:
                pass
            else:
                changed = self._redacted_value(value)
                return text if changed == value else json.dumps(changed)
        if self._odd:
            text = self._odd.sub(MARK, text)
        return _WORD.sub(
            lambda word: MARK if self.has(word[0]) or word[0].rstrip(".:!?") in self.ids else word[0], text
        )

    def _redacted_value(self, value: object) -> object:
        if isinstance(value, str):
            return self.redacted(value)
        if isinstance(value, list):
            return [self._redacted_value(one) for one in value]
        if isinstance(value, dict):
            return {self.redacted(name): self._redacted_value(one) for name, one in value.items()}
        return value


def _forms(one: str) -> Iterator[str]:
    """How the letters of an id may stand in a file: as they are, doubled quotes in CSV, escapes of JSON in JSON."""
    yield one
    yield one.replace('"', '""')
    for ascii_only in (True, False):
        escaped = one
        for _ in range(3):  # Dagster's records hold JSON in JSON
            escaped = json.dumps(escaped, ensure_ascii=ascii_only)[1:-1]
            yield escaped


def _escaped(text: str) -> str:
    """The bytes of a text as a pattern of RE2."""
    return "".join(f"\\x{byte:02x}" for byte in text.encode())
