"""How PyIceberg reads and writes files in an S3 store."""

from __future__ import annotations

from typing import cast

from pyarrow import NativeFile
from pyarrow.fs import FileSystem
from pyiceberg.io import S3_ENDPOINT, S3_REGION, InputStream
from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO

from lakehouse_assets.io.s3 import arrow_store, patiently


class StoreFileIO(PyArrowFileIO):
    """PyIceberg's own, with this project's S3 client.

    PyIceberg has no property for `allow_delayed_open`, without which every manifest is a multipart upload. Its last
    request can't be repeated once it was done, so a commit would fail where only the answer was lost.
    """

    def _initialize_s3_fs(self, netloc: str | None) -> FileSystem:
        return arrow_store(self.properties[S3_REGION], self.properties.get(S3_ENDPOINT, ""))

    def new_input(self, location: str) -> PyArrowFile:
        """A file to read."""
        scheme, netloc, path = self.parse_location(location, self.properties)
        return _StoreFile(location, path, self.fs_by_scheme(scheme, netloc))


class _StoreFile(PyArrowFile):
    def open(self, seekable: bool = True) -> InputStream:
        opens = super().open
        return patiently(lambda: cast("NativeFile", opens()))
