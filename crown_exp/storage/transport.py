"""A bucket by obstore, one request a call: no retry, no deadline, and obstore's own errors.

`answer_of` tells what an error means. Of S3 all is told to obstore that it needs; for Google's and
Azure's buckets, which are untested, it looks for credentials itself.
"""

from __future__ import annotations

import atexit
import os
import re
import time
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

from crown_exp.errors import StoreError
from crown_exp.storage.aws import Way, told_region, way_to_s3
from crown_exp.storage.parallel import left_behind
from crown_exp.storage.trouble import FOREIGN_KEY, Answer, answer_in

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore as Handle

T = TypeVar("T")

CONNECT = timedelta(seconds=10)
PAGE = 1000
CHUNK = 2**19
"""Bytes that are copied at once to where they are to lie: so long the interpreter is held up."""

ONE_PUT = 2**30
"""An object of more bytes goes in parts, unless it is create-only."""

PART, PARTS_AT_ONCE = 64 * 2**20, 4

_STATUS = re.compile(r"non-2xx status code: (\d{3})[^:\n]*:(.*?)(?:\n\nDebug source|\Z)", re.DOTALL)
_CAUSES = re.compile(r"Debug source:(.*)", re.DOTALL)
_UNLISTABLE = re.compile(r'invalid path: Path "(.*?)" contained')
_PROVIDER = re.compile(r"External \w+ credential provider: (\w+): (.*?)(?:\n\nDebug|\Z)", re.DOTALL)
_METADATA = ("169.254.169.254", "169.254.170.2", "fd00:ec2::254")


_USERS: dict[str, int] = {}
"""The process that first used obstore: what is forked from it has none of obstore's threads, and would hang."""


_UNDER_WAY: WeakSet[Any] = WeakSet()
SETTLE_S = 1.0


@dataclass(frozen=True, slots=True)
class Object:
    """What a bucket says of an object. version: its ETag; another if its bytes are others."""

    key: str
    size: int
    modified: datetime
    version: str | None


class Transport:
    """A bucket of S3, connected to at the first call.

    access: as `open_blobs` takes it.
    """

    def __init__(self, bucket: str, access: Mapping[str, str]) -> None:
        self._bucket, self._access = bucket, access
        self._handle: Handle | None = None
        self._lock = Lock()
        self.way = Way()

    async def connect(self) -> Handle:
        """The way to the bucket, found once: files are read for it, and a big library may be imported.

        Afterwards `way` is the one that is taken. Raises SettingsError; StoreError in a forked process.
        """
        if _USERS.setdefault("first", os.getpid()) != os.getpid():
            raise StoreError(
                f"cannot reach s3://{self._bucket} from a process that was forked "
                'from one that had; start it anew (multiprocessing "spawn"), or leave it to the main process'
            )
        return self._handle if self._handle is not None else await left_behind(self._connect)

    async def put(self, key: str, data: bytes | memoryview, *, create: bool) -> None:
        """Write an object, from where its bytes lie."""
        import obstore

        put = obstore.put_async(
            await self.connect(),
            key,
            data,
            mode="create" if create else "overwrite",
            use_multipart=len(data) > ONE_PUT and not create,
            chunk_size=PART,
            max_concurrency=PARTS_AT_ONCE,
        )
        await _noted(put)

    async def get(self, key: str) -> bytes:
        """All bytes of an object."""
        import obstore

        result = await _noted(obstore.get_async(await self.connect(), key))
        return bytes(await _noted(result.bytes_async()))

    async def begin(self, key: str, length: int) -> tuple[bytes, Object]:
        """The first bytes of an object, `length` of them or all; what is empty has none to give (416)."""
        import obstore

        options: Any = {"range": (0, length)}
        result = await _noted(obstore.get_async(await self.connect(), key, options=options))
        if result.range != (0, min(length, result.meta["size"])):
            raise RangesIgnored
        return bytes(await _noted(result.bytes_async())), _object(result.meta)

    async def fill(self, key: str, first: int, part: memoryview) -> Object:
        """Fill `part` with the bytes of an object from `first` on, or with as many as there are."""
        import obstore

        options: Any = {"range": (first, first + len(part))}
        result = await _noted(obstore.get_async(await self.connect(), key, options=options))
        if result.range != (first, min(first + len(part), result.meta["size"])):
            raise RangesIgnored
        stream, at = result.stream(CHUNK), 0
        with suppress(StopAsyncIteration):
            while True:
                chunk = await _noted(anext(stream))
                part[at : at + len(chunk)] = chunk
                at += len(chunk)
        return _object(result.meta)

    async def look(self, key: str) -> Object:
        """What a GET says of an object; its bytes are left on the way."""
        import obstore

        return _object((await _noted(obstore.get_async(await self.connect(), key))).meta)

    async def head(self, key: str) -> Object:
        """What a HEAD says of an object."""
        import obstore

        return _object(await _noted(obstore.head_async(await self.connect(), key)))

    async def objects(self, folder: str, *, first_page: bool = False) -> list[Object]:
        """The objects below a folder, which has no slash at the end: all, or what one request lists."""
        import obstore

        found: list[Object] = []
        pages = obstore.list(await self.connect(), folder or None, chunk_size=PAGE)
        with suppress(StopAsyncIteration):
            while not (first_page and found):
                found += map(_object, await _noted(anext(pages)))
        return found

    async def folders(self, folder: str) -> list[str]:
        """The keys of the folders right below one; none of them ends in a slash."""
        import obstore

        listed = await _noted(
            obstore.list_with_delimiter_async(await self.connect(), folder or None)
        )
        return [key.rstrip("/") for key in listed["common_prefixes"]]

    async def delete(self, key: str) -> None:
        """Remove an object."""
        import obstore

        await _noted(obstore.delete_async(await self.connect(), key))

    async def copy(self, source: str, target: str) -> None:
        """Make an object of another's bytes, on the server."""
        import obstore

        await _noted(obstore.copy_async(await self.connect(), source, target))

    async def sign(self, key: str, seconds: float, *, put: bool) -> str:
        """A URL to read or to write an object with, good for so long."""
        import obstore

        handle: Any = await self.connect()
        lasting = timedelta(seconds=seconds)
        link = obstore.sign_async(handle, "PUT" if put else "GET", key, lasting)
        return str(await _noted(link))

    def _connect(self) -> Handle:
        with self._lock:
            if self._handle is None:
                atexit.register(_settle)
                self._handle = self._to_s3()
            return self._handle

    def _to_s3(self) -> Handle:
        from obstore.store import S3Store

        way = way_to_s3(self._access)
        if not way.region and not way.endpoint:
            way = replace(way, region=told_region(self._bucket))
        self.way = way
        options = _client()
        if way.authority is not None:
            options["root_certificate"] = way.authority
        config: dict[str, Any] = {
            "region": way.region or "us-east-1",
            "disable_bulk_delete": True,  # DELETE is what all servers have
            # A bucket's name with dots is no name of the certificate's.
            "virtual_hosted_style_request": not way.endpoint and "." not in self._bucket,
            **way.machine,
        }
        if way.endpoint:
            config["endpoint"] = way.endpoint
        retry: Any = {"max_retries": 0}
        provider: Any = way.credentials
        return S3Store(
            self._bucket,
            config=config,  # type: ignore[arg-type]
            client_options=options,
            retry_config=retry,
            credential_provider=provider,
        )


def _noted(work: Awaitable[T]) -> Awaitable[T]:
    """What obstore does, remembered until it has let go of it."""
    _UNDER_WAY.add(work)
    return work


def _settle() -> None:
    """Let obstore's threads be done with the interpreter before it ends.

    One that hands over a result just then aborts the process, whatever its exit
    code was to be (4 of 10 processes on a busy core that ended right after a call).
    """
    import obstore

    until = time.monotonic() + SETTLE_S
    while _UNDER_WAY and time.monotonic() < until:
        obstore.parse_scheme("s3://b")  # any call lets go of what those threads have left
        time.sleep(0.001)


class RangesIgnored(Exception):
    """A server gave other bytes than were asked for."""


def answer_of(error: Exception) -> Answer | None:
    """What obstore raised, as what the server answered; None if it is about no server."""
    from obstore.exceptions import BaseError

    if isinstance(error, RangesIgnored):
        return Answer(code="NotImplemented")
    if not isinstance(error, BaseError | FileNotFoundError):
        return None
    text = str(error)
    if "UnexpectedRange" in text:
        return Answer(code="NotImplemented")
    if any(host in text for host in _METADATA):
        return Answer(code="NoCredentials")
    if provider := _PROVIDER.search(text):
        passing = provider[1] == "OSError"
        return Answer(code="" if passing else "NoCredentials", said=provider[2])
    if status := _STATUS.search(text):
        return answer_in(int(status[1]), status[2])
    if "Received redirect without LOCATION" in text:
        return Answer(301)
    if key := _UNLISTABLE.search(text):
        return Answer(code=FOREIGN_KEY, said=key[1])
    causes = _CAUSES.search(text)
    return Answer(said=causes[1] if causes else text)


def _client() -> Any:
    return {
        "timeout": timedelta(days=1),  # each call has a deadline of ours
        "connect_timeout": CONNECT,
        "allow_http": True,  # where the endpoint says http
    }


def _object(meta: ObjectMeta) -> Object:
    # A listing tells milliseconds where a HEAD tells seconds.
    modified = meta["last_modified"].replace(microsecond=0)
    return Object(meta["path"], meta["size"], modified, meta["e_tag"])
