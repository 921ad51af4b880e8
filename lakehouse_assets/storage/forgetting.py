"""What is known of an erasure that has begun: nobody publishes while there is one, and who died goes on by it.

It holds no id, but hashes with a key that is gone when the erasure has ended.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime

from filelock import FileLock, Timeout

from lakehouse_assets.calendar import some
from lakehouse_assets.people import People
from lakehouse_assets.settings import Settings, SettingsError

_JOURNAL, _LOCK = "forgetting.json", ".forgetting.lock"


class ErasureUnfinished(SettingsError):
    """An erasure has begun and not ended; the message says what to do."""


@dataclass(frozen=True)
class Journal:
    """An erasure that has begun.

    Attributes:
        began: when.
        unvouched: days of each table whose stamps did not vouch for their inputs when it began.
        resumed: whether it goes on with one that did not end.
    """

    began: str
    unvouched: Mapping[str, frozenset[date]]
    resumed: bool


def check_none(settings: Settings) -> None:
    """Refuse to publish while users are being forgotten.

    Raises:
        ErasureUnfinished: there is an erasure.
    """
    if (settings.home_path / _JOURNAL).exists():
        raise ErasureUnfinished(
            "`lakehouse forget` is running or was interrupted; nothing is published until it has ended. If none is "
            "running, run it again with the same users, then repeat this"
        )


@contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """Keep other erasures of the lakehouse out.

    Raises:
        ErasureUnfinished: one is going on.
    """
    settings.home_path.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(settings.home_path / _LOCK, timeout=0):
            yield
    except Timeout:
        raise ErasureUnfinished("another `lakehouse forget` is running; wait until it has ended") from None


def begun(settings: Settings, people: People) -> Journal | None:
    """The erasure that did not end, if there is one.

    Raises:
        ErasureUnfinished: it was of other users.
    """
    path = settings.home_path / _JOURNAL
    if not path.exists():
        return None
    kept = json.loads(path.read_text(encoding="utf-8"))
    if not set(kept["users"]) <= _hashed(people, kept["key"]):
        raise ErasureUnfinished(
            f"`lakehouse forget` of {some(len(kept['users']), 'user')}, begun {kept['began']}, was interrupted; run it "
            "with the same users first, or include them here"
        )
    days = {name: frozenset(map(date.fromisoformat, of)) for name, of in kept["unvouched"].items()}
    return Journal(kept["began"], days, resumed=True)


def begin(settings: Settings, people: People, unvouched: Mapping[str, frozenset[date]]) -> Journal:
    """Put down that an erasure begins; from now on nobody publishes."""
    key = secrets.token_hex(16)
    journal = Journal(f"{datetime.now(tz=UTC):%Y-%m-%d %H:%M:%S} UTC", unvouched, resumed=False)
    said = {
        "began": journal.began,
        "key": key,
        "users": sorted(_hashed(people, key)),
        "unvouched": {name: sorted(map(str, days)) for name, days in unvouched.items()},
    }
    temporary = settings.home_path / f".{_JOURNAL}.tmp"
    temporary.write_text(json.dumps(said), encoding="utf-8")
    temporary.replace(settings.home_path / _JOURNAL)
    return journal


def end(settings: Settings) -> None:
    """Put down that it has ended."""
    (settings.home_path / _JOURNAL).unlink(missing_ok=True)


def _hashed(people: People, key: str) -> set[str]:
    return {hmac.new(bytes.fromhex(key), one.encode(), hashlib.sha256).hexdigest()[:24] for one in people.ids}
