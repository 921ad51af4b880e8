"""Storage that is full or can't be written, said in one sentence, whoever met it: Python, SQLite, Arrow or Java."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from lakehouse_assets.addresses import on_s3
from lakehouse_assets.settings import Settings
from lakehouse_assets.storage.catalog import name_lock
from lakehouse_assets.storage.catalog_errors import CatalogError

_FULL = ("No space left on device", "database or disk is full", "Disk quota exceeded")
_LOCKED_UP = ("Read-only file system", "readonly database", "unable to open database file", "Permission denied")


class StorageTrouble(CatalogError):
    """A folder is full or can't be written; the message says which and what to do."""


class Troubles:
    """What was met in a run that concerns every table, so that its later steps need not meet it again."""

    def __init__(self) -> None:
        self._met: dict[str, Exception] = {}

    def note(self, run_id: str, error: Exception) -> None:
        """An error of a step that every later step of the run would meet too."""
        self._met[run_id] = error

    def raise_met(self, run_id: str) -> None:
        """Raise what a step of the run has met, if one has."""
        if run_id in self._met:
            raise self._met[run_id]


def name_trouble(error: BaseException | None, settings: Settings) -> None:
    """Look whether an error, or one that it was caused by, comes from storage that is full, read-only or locked.

    Raises:
        StorageTrouble: it is full or read-only.
        CatalogLocked: another process holds the catalog.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        name_lock(error, settings)
        text = str(error)
        if any(words in text for words in _FULL):
            raise StorageTrouble(
                f"no space is left; nothing half-written was published: {_room(settings)}. Make room and run again"
            ) from None
        if any(words in text for words in _LOCKED_UP):
            check_writable(settings)
        seen.add(id(error))
        error = error.__cause__ or error.__context__


def check_writable(settings: Settings) -> None:
    """Fail at once where nothing could be written.

    Raises:
        StorageTrouble: the lakehouse's folder or the tables' folder is read-only or belongs to another user.
    """
    for variable, folder in _folders(settings).items():
        if not os.access(_existing(folder), os.W_OK):
            raise StorageTrouble(f"{folder} can't be written to; make it writable, or set {variable} to another folder")


def _room(settings: Settings) -> str:
    folders = [*_folders(settings).values(), settings.spill_path]
    free = {folder: shutil.disk_usage(_existing(folder)).free for folder in folders}
    return ", ".join(f"{folder} has {room / 1e6:,.0f} MB free" for folder, room in free.items())


def _folders(settings: Settings) -> dict[str, Path]:
    folders = {"LAKEHOUSE_HOME": settings.home_path}
    if not on_s3(settings.warehouse_uri):
        folders["LAKEHOUSE_WAREHOUSE"] = Path(settings.warehouse_uri)
    return folders


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.parents) if parent.exists())
