"""Objects of an S3 store: their addresses, reading one like a file, and a bucket as a landing zone's storage.

Listing, uploading and deleting go through dagster-aws's `S3Resource` (boto3). Reading goes through Arrow's S3 client,
which Spark's Python workers have loaded anyway, reads by ranges and repeats a range that broke off. Both take their
keys from the standard AWS chain: nothing here holds one.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

from lakehouse_assets.addresses import SCHEME, on_s3
from lakehouse_assets.errors import LakehouseError

if TYPE_CHECKING:
    from pyarrow import NativeFile
    from pyarrow.fs import S3FileSystem

    from lakehouse_assets.settings import Settings

_ATTEMPTS = 10  # of a request that Arrow sends; its default of 3 fails in one of 37 where 30 % are told to slow down
_CONNECT_SECONDS, _ANSWER_SECONDS = 10, 30  # longest waits of one attempt
_BUFFER_BYTES = 4 << 20  # what one request reads


class StorageError(LakehouseError):
    """The S3 store can't be used as it is set; the message says what to mend."""


@dataclass(frozen=True)
class S3Path:
    """The address of an object or of a prefix: what the landing zone needs of a path.

    Attributes:
        bucket: name of the bucket.
        key: everything behind it.
        region: region to sign for.
        endpoint: address of a store that is not AWS's own.
    """

    bucket: str
    key: str
    region: str
    endpoint: str = ""

    @property
    def name(self) -> str:
        """The part behind the last slash."""
        return self.key.rsplit("/", 1)[-1]

    @property
    def location(self) -> str:
        """All that a task on another machine needs to open the object but the keys."""
        options = {"region": self.region} | ({"endpoint": self.endpoint} if self.endpoint else {})
        return f"{SCHEME}{self.bucket}/{quote(self.key)}?{urlencode(options)}"

    def __truediv__(self, below: str) -> S3Path:
        key = f"{self.key}/{below}" if self.key else below
        return S3Path(self.bucket, key, self.region, self.endpoint)

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}"


def name_unserved(error: Exception, address: str) -> None:
    """Tell a store that did not serve an object from an object that is damaged.

    Raises:
        StorageError: the store answered with an error, or not at all.
    """
    if isinstance(error, OSError) and "AWS Error" in str(error):
        why = str(error).splitlines()[0]
        raise StorageError(f"{address}: the S3 store does not serve it ({why}); try again when it does") from error


def readable(location: str) -> str:
    """An address as people write it."""
    return unquote(location.partition("?")[0]) if on_s3(location) else location


def name_of(location: str) -> str:
    """The file's own name in an address."""
    return PurePosixPath(readable(location)).name


def arrow_store(region: str, endpoint: str) -> S3FileSystem:
    """Arrow's client of an S3 store.

    Args:
        region: region to sign for.
        endpoint: address of a store that is not AWS's own.
    """
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    return S3FileSystem(
        region=region,
        endpoint_override=endpoint or None,
        connect_timeout=_CONNECT_SECONDS,
        request_timeout=_ANSWER_SECONDS,
        allow_delayed_open=True,  # a small file is one request, not three
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
    )


def patiently(opened: NativeFile) -> io.RawIOBase:
    """An opened object, for one reader, its reads repeated where Arrow's client does not repeat them.

    The client writes whatever is answered into a buffer of the size it asked for. A busy store's answer does not fit
    where a few bytes are read, which the client takes for a failure of this machine's.

    Args:
        opened: as that client opened it.
    """
    return _Object(opened)


def open_object(location: str) -> tuple[io.BufferedReader, int]:
    """An object as a seekable stream, and its size.

    Args:
        location: as `S3Path.location`.
    """
    address, _, query = location.removeprefix(SCHEME).partition("?")
    options = dict(parse_qsl(query))
    opened = arrow_store(options["region"], options.get("endpoint", "")).open_input_file(unquote(address))
    return io.BufferedReader(patiently(opened), _BUFFER_BYTES), opened.size()


class _Object(io.RawIOBase):
    """What `patiently` gives."""

    def __init__(self, opened: NativeFile) -> None:
        from tenacity import Retrying, retry_if_exception_message, stop_after_attempt, wait_random_exponential

        self._opened = opened
        self._patiently = Retrying(
            retry=retry_if_exception_message(match=".*Failed to flush response stream"),
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.1, max=5),
            reraise=True,
        )

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return int(self._patiently(self._opened.readinto, buffer))

    def readall(self) -> bytes:
        return bytes(self._patiently(self._opened.read))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._opened.seek(offset, whence))

    def tell(self) -> int:
        return int(self._opened.tell())

    def close(self) -> None:
        self._opened.close()
        super().close()


class Store:
    """One S3 store as the settings name it."""

    def __init__(self, settings: Settings) -> None:
        self._region = settings.s3_region
        self._endpoint = settings.s3_endpoint

    def path(self, address: str) -> S3Path:
        """The address ``s3://bucket/prefix`` in this store."""
        bucket, _, key = address.removeprefix(SCHEME).partition("/")
        return S3Path(bucket, key.strip("/"), self._region, self._endpoint)

    @cached_property
    def client(self) -> Any:
        """boto3's client."""
        from dagster_aws.s3 import S3Resource

        return S3Resource(region_name=self._region, endpoint_url=self._endpoint or None).get_client()

    def check(self, address: str) -> None:
        """Ask the store for a bucket, so that what is set wrong is said at once and in one sentence.

        Raises:
            StorageError: no keys, wrong keys, no such bucket, or nobody answers.
        """
        path = self.path(address)
        with self.errors(path):
            self.client.list_objects_v2(Bucket=path.bucket, Prefix=path.key, MaxKeys=1)

    @contextmanager
    def errors(self, path: S3Path) -> Iterator[None]:
        """Say what the store answered in a sentence that tells what to do."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

        where = self._endpoint or f"S3 in {self._region}"
        try:
            yield
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise StorageError(
                f"{path} can't be opened: no S3 keys were found ({error}); "
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile or role of the AWS chain"
            ) from None
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            todo = {
                "NoSuchBucket": f"make the bucket {path.bucket} or name another",
                "InvalidAccessKeyId": "the store does not know AWS_ACCESS_KEY_ID",
                "SignatureDoesNotMatch": "AWS_SECRET_ACCESS_KEY is not the secret of AWS_ACCESS_KEY_ID",
                "AccessDenied": f"the user of these keys needs a policy that lets it use the bucket {path.bucket}",
            }.get(code, "look at the store's own log")
            raise StorageError(f"{path} can't be used: {where} answered {code}; {todo}") from None
        except (BotoCoreError, Boto3Error) as error:
            raise StorageError(f"{path} can't be reached at {where} ({error}); is S3_ENDPOINT right?") from None
