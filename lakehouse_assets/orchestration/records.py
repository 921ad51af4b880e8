"""Taking users' ids out of Dagster's records: the events of runs hold sample rows, and messages name rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from sqlalchemy import URL, Engine, create_engine, inspect, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.types import String

from lakehouse_assets.people import People
from lakehouse_assets.settings import Settings
from lakehouse_assets.storage.forgetting import ErasureUnfinished

_SQLITE = b"SQLite format 3\0"
_WAIT_SECONDS = 60  # for another process that holds a database
_AT_ONCE = 500


def redact_records(settings: Settings, people: People) -> int:
    """Put a mark in place of the users' ids in every record and log that Dagster keeps of a lakehouse.

    Returns:
        How many records and lines changed.

    Raises:
        ErasureUnfinished: another process holds a database.
    """
    changed = 0
    address = settings.dagster_postgres_url.get_secret_value()
    if address:
        engine = create_engine(address.replace("postgres://", "postgresql://", 1))
        changed += _redact(engine, people)
        _vacuum(engine, "VACUUM FULL")
    for path in sorted(settings.dagster_path.rglob("*")) if settings.dagster_path.exists() else ():
        if path.is_symlink() or not path.is_file():
            continue
        with path.open("rb") as stream:
            is_database = stream.read(len(_SQLITE)) == _SQLITE
        if is_database:
            changed += _redact_file(path, people)
        elif not path.name.endswith(("-wal", "-shm", "-journal")):
            changed += _redact_text(path, people)
    return changed


def _redact_file(path: Path, people: People) -> int:
    """Redact a SQLite database; freed pages and its log go too."""
    if not any(_holds(part, people) for part in (path, path.with_name(f"{path.name}-wal"))):
        return 0
    engine = create_engine(URL.create("sqlite", database=str(path)), connect_args={"timeout": _WAIT_SECONDS})
    try:
        changed = _redact(engine, people)
        _vacuum(engine, "PRAGMA wal_checkpoint(TRUNCATE)", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)")
    except OperationalError as error:
        raise ErasureUnfinished(
            f"{path} can't be changed ({error.orig}); if `lakehouse dev` or a command is using it, stop that, then run "
            "this again with the same users"
        ) from error
    return changed


def _holds(path: Path, people: People) -> bool:
    """Whether a file's bytes hold the letters of an id."""
    return path.exists() and bool(people.may_be_in(pa.array([path.read_bytes()], pa.large_binary()))[0].as_py())


def _redact(engine: Engine, people: People) -> int:
    """Redact every text of every table of a database."""
    row = {"sqlite": "rowid", "postgresql": "ctid"}[engine.dialect.name]
    quote = engine.dialect.identifier_preparer.quote
    changed = 0
    inspector = inspect(engine)
    with engine.begin() as connection:
        for table in inspector.get_table_names():
            for column in inspector.get_columns(table):
                if not isinstance(column["type"], String):
                    continue
                named = quote(column["name"])
                found = connection.execute(
                    text(f"SELECT {row}, {named} FROM {quote(table)} WHERE {named} IS NOT NULL")  # noqa: S608  its own names
                )
                new = [(key, redacted) for key, redacted in _redacted(iter(found), people)]
                for key, redacted in new:
                    connection.execute(
                        text(f"UPDATE {quote(table)} SET {named} = :text WHERE {row} = :row"),  # noqa: S608
                        {"text": redacted, "row": key},
                    )
                changed += len(new)
    return changed


def _redacted(rows: Iterator[tuple[object, ...]], people: People) -> Iterator[tuple[object, str]]:
    """Of rows of key and text those whose text names the users, redacted."""
    while batch := [row for _, row in zip(range(_AT_ONCE), rows, strict=False)]:
        perhaps = people.may_be_in(
            pa.array([str(value) for _, value in batch], pa.large_string()).cast(pa.large_binary())
        )
        for looked_at, (key, value) in zip(perhaps.to_pylist(), batch, strict=True):
            if looked_at and (redacted := people.redacted(str(value))) != value:
                yield key, redacted


def _vacuum(engine: Engine, *statements: str) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def _redact_text(path: Path, people: People) -> int:
    """Redact a log, line by line."""
    if not _holds(path, people):
        return 0
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    redacted = [people.redacted(line) for line in lines]
    if redacted != lines:
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_text("\n".join(redacted), encoding="utf-8", errors="surrogateescape")
        temporary.replace(path)
    return sum(one != other for one, other in zip(lines, redacted, strict=True))
