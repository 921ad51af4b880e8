"""Updates the tables of a moved or copied lakehouse to the new place of their files.

Iceberg's metadata names every file by its absolute path, so a lakehouse that was moved, or is a copy, names files of
the place it came from. Its metadata is written again when it is first opened. See docs/decisions/0012-places.md.
"""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import ManifestFile, read_manifest_list, write_manifest, write_manifest_list
from pyiceberg.table.metadata import TableMetadata, TableMetadataUtil
from sqlalchemy import Engine, text

from lakehouse_assets.addresses import on_s3
from lakehouse_assets.settings import Settings
from lakehouse_assets.storage.place import WrongPlace, check_warehouse, record, recorded, sqlite_file

_FILE_PATH, _MANIFEST_PATH, _MANIFEST_LENGTH = 1, 0, 1  # their positions in Iceberg's records
_CODEC: Final = "deflate"
_logger = logging.getLogger(__name__)


def settle(settings: Settings, engine: Engine) -> None:
    """Rewrite the metadata of a moved or copied lakehouse's tables for the new place, and record the place.

    New metadata is written beside the old, and one transaction of the catalog changes over to it, so that an end at any
    moment leaves all as it was. Where the lakehouse came from nothing is written.

    Args:
        settings: of the lakehouse.
        engine: of the embedded catalog's database; nobody else may be opening it meanwhile.

    Raises:
        WrongPlace: the tables are not where the settings say, or they are those of the lakehouse this is a copy of.
    """
    root = settings.warehouse_uri
    query = text(
        "select table_namespace, table_name, metadata_location from iceberg_tables where metadata_location is not null"
    )
    with engine.connect() as connection:
        places = {(space, name): place for space, name, place in connection.execute(query)}
    astray = {
        (space, name): place
        for (space, name), place in places.items()
        if f"/{space}/{name}/metadata/" in place and not place.startswith(f"{root}/{space}/{name}/metadata/")
    }
    if not astray or len(astray) < len(places):  # else all of them were copied
        check_warehouse(settings)
    former = _check_all_here(astray, root) if astray else ""
    if recorded(settings) != settings.home_path and os.access(settings.home_path, os.W_OK):
        record(settings)
    if not astray:
        return
    if not (os.access(root, os.W_OK) and os.access(sqlite_file(settings), os.W_OK)):
        raise WrongPlace(
            f"the tables in {root} were made in {former} and name their files there, and {root} can't be written "
            "to; make it writable, or copy the lakehouse"
        )
    _logger.warning("the tables in %s were made in %s; updating their metadata to the new place", root, former)
    led = {(space, name): _led(place, f"{root}/{space}/{name}") for (space, name), place in astray.items()}
    change = text(
        "update iceberg_tables set metadata_location = :here, previous_metadata_location = null "
        "where table_namespace = :space and table_name = :name and metadata_location = :there"
    )
    with engine.begin() as connection:
        for (space, name), here in led.items():
            there = astray[space, name]
            connection.execute(change, {"here": here, "space": space, "name": name, "there": there})


def _check_all_here(astray: Mapping[tuple[str, str], str], root: str) -> str:
    """Where the tables came from, if every one of them is under the warehouse now."""
    for (space, name), place in astray.items():
        former, below, file = place.rpartition(f"/{space}/{name}/metadata/")
        if on_s3(root) or on_s3(former):
            raise WrongPlace(
                f"{space}.{name} is in {former}, and LAKEHOUSE_WAREHOUSE names {root}; tables can't be moved from or "
                f"to a bucket: name {former} again, or begin a new lakehouse with another LAKEHOUSE_HOME"
            )
        if not Path(root + below + file).exists():
            raise WrongPlace(
                f"{space}.{name} was made in {former}, and LAKEHOUSE_WAREHOUSE names {root}, where it is not; move the "
                f"folder of the tables there (mount it, if it is a disk), or name {former} again"
            )
    return former


def _led(place: str, folder: str) -> str:
    """Write a table's metadata again with every path under ``folder``, where its files are now; the new file.

    Args:
        place: the current metadata file, where it was.
        folder: of the table, where it is.
    """
    former, _, file = place.rpartition("/metadata/")

    def here(path: str) -> str:
        return folder + path.removeprefix(former) if path.startswith(f"{former}/") else path

    current = Path(f"{folder}/metadata/{file}")
    try:
        said = json.loads(current.read_bytes())
        metadata = TableMetadataUtil.parse_obj(said)
        lead_list = _leader(metadata, here)
        for snapshot in said.get("snapshots", ()):
            snapshot["manifest-list"] = lead_list(snapshot)
    except (OSError, ValueError, EOFError) as error:
        raise WrongPlace(
            f"{current} or a file it names can't be read ({error}), so the table can't be used at its new place; "
            "repair it where it was made (`lakehouse maintain --repair`), then move or copy the lakehouse again"
        ) from error
    said["metadata-log"] = []  # earlier files name the former place; the next `maintain` finds that nobody needs them
    said = _with_strings(said, lambda value: folder if value == former else here(value))
    led = current.with_name(f"{int(file.partition('-')[0]) + 1:05d}-{uuid.uuid4()}.metadata.json")
    led.write_text(json.dumps(said), encoding="utf-8")
    return str(led)


def _leader(metadata: TableMetadata, here: Callable[[str], str]) -> Callable[[Mapping[str, Any]], str]:
    """What writes a snapshot's manifest list again, and the manifests it names, each once; returns the new list."""
    storage = PyArrowFileIO()
    manifests: dict[str, tuple[str, int]] = {}

    def lead_manifest(manifest: ManifestFile) -> ManifestFile:
        path = manifest.manifest_path
        if path not in manifests:
            manifest[_MANIFEST_PATH] = here(path)
            new = _beside(manifest.manifest_path)
            spec = metadata.specs()[manifest.partition_spec_id]
            entries = manifest.fetch_manifest_entry(storage, discard_deleted=False)
            output = storage.new_output(new)
            with write_manifest(
                metadata.format_version, spec, metadata.schema(), output, manifest.added_snapshot_id or 0, _CODEC
            ) as sink:
                for entry in entries:
                    entry.data_file[_FILE_PATH] = here(entry.data_file.file_path)
                    sink.add_entry(entry)
            manifests[path] = new, Path(new).stat().st_size
        manifest[_MANIFEST_PATH], manifest[_MANIFEST_LENGTH] = manifests[path]
        return manifest

    def lead_list(snapshot: Mapping[str, Any]) -> str:
        old = here(snapshot["manifest-list"])
        led = [lead_manifest(manifest) for manifest in list(read_manifest_list(storage.new_input(old)))]
        new = _beside(old)
        with write_manifest_list(
            metadata.format_version,
            storage.new_output(new),
            snapshot["snapshot-id"],
            snapshot.get("parent-snapshot-id"),
            snapshot.get("sequence-number", 0),
            _CODEC,
        ) as sink:
            sink.add_manifests(led)
        return new

    return lead_list


def _beside(path: str) -> str:
    """A new name for a metadata file; a snapshot's manifest list goes on beginning with ``snap-``."""
    kind = "snap-" if Path(path).name.startswith("snap-") else ""
    return str(Path(path).with_name(f"{kind}{uuid.uuid4()}.avro"))


def _with_strings(value: Any, change: Callable[[str], str]) -> Any:
    """A JSON value with every text changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _with_strings(item, change) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_with_strings(item, change) for item in value]
    return value
