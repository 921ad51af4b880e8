"""Records where a lakehouse is, and checks that the folders in its settings are its own."""

from __future__ import annotations

from pathlib import Path

from lakehouse_assets.addresses import on_s3
from lakehouse_assets.settings import Settings, SettingsError


class WrongPlace(SettingsError):
    """The folders of a lakehouse are not where its records say, or are another's; the message says what to do."""


def sqlite_file(settings: Settings) -> Path:
    """The embedded catalog's database file."""
    return settings.home_path / "catalog.db"


def check_landing(settings: Settings) -> None:
    """Refuse a copy of a lakehouse that would land its files in the original.

    Raises:
        WrongPlace: ``LAKEHOUSE_LANDING`` names a folder in the lakehouse that this is a copy of.
    """
    original = original_of(settings)
    if original and is_inside(settings.landing_uri, original):  # one that lies outside may serve several
        raise WrongPlace(_still(settings, original, "LAKEHOUSE_LANDING", settings.landing_uri))


def check_warehouse(settings: Settings) -> None:
    """Refuse a copy of a lakehouse whose tables are the original's.

    Raises:
        WrongPlace: ``LAKEHOUSE_WAREHOUSE`` names a place that was not copied with it.
    """
    original = original_of(settings)
    if original and not is_inside(settings.warehouse_uri, settings.home_path):
        raise WrongPlace(_still(settings, original, "LAKEHOUSE_WAREHOUSE", settings.warehouse_uri))


def original_of(settings: Settings) -> Path | None:
    """The lakehouse that this one is a copy of, if it is one; a lakehouse that has moved has left none behind."""
    there = recorded(settings)
    return there if there and there != settings.home_path and (there / "catalog.db").exists() else None


def is_inside(place: str, folder: Path) -> bool:
    """Whether a folder lies in another; a bucket lies in none."""
    return not on_s3(place) and Path(place).is_relative_to(folder)


def _still(settings: Settings, original: Path, variable: str, place: str) -> str:
    todo = (
        "a bucket's tables can't be copied, so begin a new lakehouse in another folder"
        if on_s3(place)
        else f"copy that too and let {variable} name the copy"
    )
    return (
        f"{settings.home_path} is a copy of {original}, and {variable} still names the original's {place}; {todo} "
        f"(if this is the original, moved, delete {_record(settings)})"
    )


def recorded(settings: Settings) -> Path | None:
    """Where a lakehouse was when its tables were last opened; None for one that never had any."""
    try:
        return Path(_record(settings).read_text(encoding="utf-8").removesuffix("\n"))
    except (FileNotFoundError, NotADirectoryError):
        return None


def record(settings: Settings) -> None:
    """Record where a lakehouse is."""
    _record(settings).write_text(f"{settings.home_path}\n", encoding="utf-8")


def _record(settings: Settings) -> Path:
    return settings.home_path / "place"
