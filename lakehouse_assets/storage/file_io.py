"""How PyIceberg, Arrow and DuckDB read and write files in an S3 store."""

from __future__ import annotations

from typing import Any

from pyarrow import NativeFile, PythonFile
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileSystemHandler, PyFileSystem
from pyiceberg.io import S3_ENDPOINT, S3_REGION
from pyiceberg.io.pyarrow import PyArrowFileIO

from lakehouse_assets.storage.s3 import arrow_store, patiently


class StoreFileIO(PyArrowFileIO):
    """PyIceberg's own, with this project's S3 client.

    PyIceberg has no property for `allow_delayed_open`, without which every manifest is a multipart upload. Its last
    request can't be repeated once it was done, so a commit would fail where only the answer was lost.
    """

    def _initialize_s3_fs(self, netloc: str | None) -> FileSystem:
        return PyFileSystem(
            _PatientFiles(arrow_store(self.properties[S3_REGION], self.properties.get(S3_ENDPOINT, "")))
        )


class _PatientFiles(FileSystemHandler):
    """A file system whose files are read `patiently`; everything else is the other file system's own.

    A file is opened anew each time, for each scan: two that read from one Python file share its position, and one of
    them gets the other's bytes.
    """

    def __init__(self, store: FileSystem) -> None:
        self._store = store

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _PatientFiles) and bool(self._store == other._store)

    def __ne__(self, other: object) -> bool:  # asked for by Arrow
        return not self == other

    __hash__ = None  # type: ignore[assignment]

    def open_input_file(self, path: str) -> NativeFile:
        return PythonFile(patiently(self._store.open_input_file(path)), mode="r")

    def open_input_stream(self, path: str) -> NativeFile:
        return self.open_input_file(path)

    def open_output_stream(self, path: str, metadata: Any) -> NativeFile:
        return self._store.open_output_stream(path, compression=None, metadata=metadata)

    def open_append_stream(self, path: str, metadata: Any) -> NativeFile:
        return self._store.open_append_stream(path, compression=None, metadata=metadata)

    def get_type_name(self) -> str:
        return f"patient {self._store.type_name}"

    def normalize_path(self, path: str) -> str:
        return str(self._store.normalize_path(path))

    def get_file_info(self, paths: list[str]) -> list[FileInfo]:
        return list(self._store.get_file_info(paths))

    def get_file_info_selector(self, selector: FileSelector) -> list[FileInfo]:
        return list(self._store.get_file_info(selector))

    def create_dir(self, path: str, recursive: bool) -> None:
        self._store.create_dir(path, recursive=recursive)

    def delete_dir(self, path: str) -> None:
        self._store.delete_dir(path)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool) -> None:
        self._store.delete_dir_contents(path, missing_dir_ok=missing_dir_ok)

    def delete_root_dir_contents(self) -> None:
        self._store.delete_dir_contents("/", accept_root_dir=True)

    def delete_file(self, path: str) -> None:
        self._store.delete_file(path)

    def move(self, source: str, target: str) -> None:
        self._store.move(source, target)

    def copy_file(self, source: str, target: str) -> None:
        self._store.copy_file(source, target)
