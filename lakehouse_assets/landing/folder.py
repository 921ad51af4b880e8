"""A landing zone in a folder of this machine."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import date
from pathlib import Path

from lakehouse_assets.landing.files import (
    SUCCESS_MARKER,
    LandedFile,
    LandingError,
    folder_of,
    is_delivery,
    landing_date,
)
from lakehouse_assets.landing.storage import Today, today_in_utc
from lakehouse_assets.settings import EARLIEST_LANDING_DATE, unreadable_name

_HELD_SECONDS = 60  # a file that a program keeps open for ever is read when nothing was written to it for so long


class Folder:
    """A landing zone in a folder of this machine."""

    def __init__(self, root: Path, first: date = EARLIEST_LANDING_DATE, today: Today = today_in_utc) -> None:
        self.root, self.first, self.today = root, first, today

    def has(self, dataset: str) -> bool:  # noqa: D102  as declared by Storage, and so below
        return (self.root / dataset).is_dir()

    def dates(self, dataset: str) -> list[date]:  # noqa: D102
        base, first, last = self.root / dataset, self.first, self.today()
        try:
            with os.scandir(base) as entries:
                folders = {day: entry for entry in entries if (day := landing_date(entry.name, first, last))}
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise LandingError(f"{base} can't be listed ({error.strerror}); change its permissions") from None
        return sorted(day for day, entry in folders.items() if _may_be_a_folder(entry))

    def files(self, dataset: str, day: date) -> list[LandedFile]:  # noqa: D102
        folder = folder_of(self.root, dataset, day)
        try:
            names = sorted(filter(is_delivery, os.listdir(folder)))  # noqa: PTH208  no path for what is no delivery
        except NotADirectoryError:
            return []
        except OSError as error:
            if not os.path.lexists(folder):
                return []
            return [
                LandedFile(
                    folder, 0, 0, trouble=f"can't be listed ({error.strerror}); change its permissions or remove it"
                )
            ]
        return [file for name in names if (file := _look_at(folder / name))]

    def listing(self, dataset: str) -> dict[date, tuple[LandedFile, ...]]:  # noqa: D102
        return {day: tuple(self.files(dataset, day)) for day in self.dates(dataset)}

    def marked(self, dataset: str) -> set[date]:  # noqa: D102
        marker = {day: folder_of(self.root, dataset, day) / SUCCESS_MARKER for day in self.dates(dataset)}
        return {day for day, path in marker.items() if os.path.exists(path)}  # noqa: PTH110  false where it can't look

    def is_written_to(self, dataset: str, day: date, quiet_seconds: float) -> bool:  # noqa: D102
        for file in self.files(dataset, day):
            age = abs(time.time() - file.changed_ns / 1e9)  # the clock of a file server may be ahead
            if age < _HELD_SECONDS and not file.trouble:
                held = _is_open_for_writing(Path(file.location))
                if age < quiet_seconds if held is None else held:
                    return True
        return False

    def remove(self, dataset: str, day: date, files: Sequence[LandedFile]) -> None:  # noqa: D102
        for file in files:
            (folder_of(self.root, dataset, day) / file.path.name).unlink()

    def staging(self, dataset: str, day: date | None) -> Path:  # noqa: D102
        folder = folder_of(self.root, dataset, day) if day else self.root / dataset
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LandingError(
                f"{folder} can't be made ({error.strerror}); set LAKEHOUSE_LANDING or LAKEHOUSE_HOME to a "
                "writable folder"
            ) from None
        return folder

    def entries(self) -> Iterator[str]:  # noqa: D102
        for folder, folders, names in os.walk(self.root):
            below = "" if folder == str(self.root) else f"{Path(folder).relative_to(self.root).as_posix()}/"
            yield from (below + name for name in (names if names or folders else [""]))

    def find(self, dataset: str, day: date, name: str) -> LandedFile | None:  # noqa: D102
        path = folder_of(self.root, dataset, day) / name
        return _as_landed(path, path.stat()) if path.exists() else None

    def publish(self, temporary: Path, dataset: str, day: date, name: str) -> Path:  # noqa: D102
        target = folder_of(self.root, dataset, day) / name
        target.parent.mkdir(exist_ok=True)
        temporary.chmod(0o644)
        temporary.replace(target)
        return target

    def vacate(self, dataset: str, day: date, name: str) -> None:  # noqa: D102
        folder = folder_of(self.root, dataset, day)
        (folder / name).unlink(missing_ok=True)
        if folder.is_dir() and {path.name for path in folder.iterdir()} <= {SUCCESS_MARKER}:
            (folder / SUCCESS_MARKER).unlink(missing_ok=True)
            folder.rmdir()

    def notes(self, below: str) -> list[str]:  # noqa: D102
        found = (self.root / below).rglob("*")
        return sorted(path.relative_to(self.root).as_posix() for path in found if path.is_file())

    def read_note(self, entry: str) -> bytes | None:  # noqa: D102
        try:
            return (self.root / entry).read_bytes()
        except FileNotFoundError:
            return None

    def write_note(self, entry: str, content: bytes | Path, *, anew: bool = False) -> bool:  # noqa: D102
        target = self.root / entry
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = content if isinstance(content, Path) else target.with_name(f".{uuid.uuid4().hex}.tmp")
        if isinstance(content, bytes):
            temporary.write_bytes(content)
        temporary.chmod(0o644)
        if not anew:
            temporary.replace(target)
            return True
        try:
            target.hardlink_to(temporary)
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        return True

    def publish_note(self, entry: str, dataset: str, day: date, name: str) -> None:  # noqa: D102
        folder = folder_of(self.root, dataset, day)
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            (self.root / entry).replace(folder / name)

    def drop_note(self, entry: str) -> None:  # noqa: D102
        path = self.root / entry
        path.unlink(missing_ok=True)
        for folder in path.parents[: len(Path(entry).parts) - 2]:  # not the dataset's own folder
            try:
                folder.rmdir()
            except OSError:  # it holds more, or is gone
                break

    @contextmanager
    def alone(self) -> Iterator[None]:  # noqa: D102
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _as_landed(path: Path, status: os.stat_result) -> LandedFile:
    return LandedFile(path, status.st_size, max(status.st_mtime_ns, status.st_ctime_ns))


def _is_open_for_writing(path: Path) -> bool | None:
    """Whether any process of this machine may write to a file; None where that can't be told.

    Linux gives a lease for reading only on a file that nobody has open for writing, to the file's owner and to root.
    It is given back at once; one who opens the file in between waits for that, and the signal that tells us so is one
    that is ignored.
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        return None
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    finally:
        os.close(file)
    return False


def _look_at(path: Path) -> LandedFile | None:
    """What lies under a delivery's name; None for a folder."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return LandedFile(path, 0, 0, trouble="is a link to a file that does not exist; correct or remove it")
    except OSError as error:
        return LandedFile(path, 0, 0, trouble=f"can't be read ({error.strerror}); change its permissions or remove it")
    if stat.S_ISDIR(status.st_mode):
        return None
    file = _as_landed(path, status)
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would block for ever
        return replace(file, trouble="is a pipe or a device, not a file; remove it")
    return replace(file, trouble=unreadable_name(path.name))


def _may_be_a_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, or can't be looked at, which `Folder.files` tells of."""
    try:  # of a folder it is known without a look at it
        return entry.is_dir(follow_symlinks=False) or stat.S_ISDIR(entry.stat().st_mode)
    except OSError:
        return True
