"""A store in a bucket: S3 and what speaks like it; Google's and Azure's, untested.

A blob is one object, written by one PUT whose signature holds the hash of its bytes. Big ones are read
by ranges, several at a time. How long a call may take, and when it is made again, say `Calls`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

import anyio

from crown_exp.errors import SettingsError, StoreError
from crown_exp.storage.base import (
    CLOCK,
    LONGEST_LINK_S,
    Entries,
    Entry,
    Names,
    NotFound,
    checked,
    checked_folder,
    checked_prefix,
    is_hidden,
    wrong_size,
)
from crown_exp.storage.calls import Calls, Refused, deadline_of
from crown_exp.storage.fitness import make_fit
from crown_exp.storage.parallel import each
from crown_exp.storage.transport import Object, Transport, answer_of
from crown_exp.storage.trouble import PASSING, Kind, Place, Verb

RANGE = 8 * 2**20
"""Bytes of one GET of a blob that is read into memory."""

FIRST = 2**18
"""Bytes of the first GET of a blob whose size is not known: most are whole in it."""

RANGES_AT_ONCE = 4
LEAST_S = 1.0
"""Of a deadline that two calls share, what is left to the second at the least."""

READS = 5
"""How often the reading of a blob that is replaced meanwhile is begun again."""


_URL = re.compile(r"s3://([^/@:?#]+)(?:/(.*))?")


class ObjectStore:
    """`s3://bucket/prefix`: every blob is the object of its path below the prefix.

    access: as `open_blobs` takes it. Nothing is imported, read or asked before the first call. Raises
    SettingsError if the URL names no bucket, or DEADLINE no time.
    """

    def __init__(self, url: str, access: Mapping[str, str] | None = None) -> None:
        self.url = url.rstrip("/")
        bucket, self._root = bucket_parts(self.url)
        self._access = dict(access or {})
        self._deadline_s = deadline_of(self._access)
        self._transport = Transport(bucket, self._access)

    async def put(self, path: str, data: bytes | memoryview, *, create: bool = False) -> None:
        """See BlobStore.put."""
        await self._put(checked(path), data, create)

    async def get(self, path: str) -> bytes:
        """See BlobStore.get."""
        return await self._get(checked(path))

    async def prepare(self) -> None:
        """See BlobStore.prepare."""
        await make_fit(self)

    async def get_into(self, path: str, buffer: memoryview, *, start: int | None = None) -> None:
        """See BlobStore.get_into."""
        checked(path)
        for _ in range(READS if buffer else 0):
            try:
                versions = await self._fill(path, buffer, start)
            except _OtherSize:
                await self._refuse_size(path, buffer, start)
                continue  # it had another size then
            if len(versions) == 1:
                return
        await self._refuse_size(path, buffer, start)
        if buffer:
            raise StoreError(
                f"cannot read {path} in {self.url}: it was replaced each time it was read; try again later"
            )

    async def copy(self, source: str, target: str) -> None:
        """See BlobStore.copy: the server does it."""
        if checked(source) == checked(target):  # which S3 refuses
            await self._stat(source)
            return
        act = partial(self._transport.copy, self._root + source, self._root + target)
        await (await self._calls()).again(act, Verb.COPY, source)

    async def list(self, prefix: str) -> Entries:
        """See BlobStore.list."""
        folder = checked_prefix(prefix).rpartition("/")[0]
        act = partial(self._transport.objects, self._root + folder if folder else self._root[:-1])
        found = map(self._entry, await (await self._calls()).again(act, Verb.LIST, folder))
        ours = (
            entry for entry in found if entry.path.startswith(prefix) and not is_hidden(entry.path)
        )
        return sorted(ours, key=lambda entry: entry.path)

    async def folders(self, prefix: str) -> Names:
        """See BlobStore.folders."""
        folder = self._root + checked_folder(prefix)
        act = partial(self._transport.folders, folder[:-1])
        found = await (await self._calls()).again(act, Verb.LIST, prefix.rstrip("/"))
        return sorted({key[len(folder) :] for key in found} - {""})

    async def delete(self, path: str) -> None:
        """See BlobStore.delete."""
        act = partial(self._transport.delete, self._root + checked(path))
        with suppress(NotFound):
            await (await self._calls()).again(act, Verb.DELETE, path)

    async def stat(self, path: str) -> Entry:
        """See BlobStore.stat."""
        return await self._stat(checked(path))

    async def now(self) -> datetime:
        """See BlobStore.now: when the server says that it wrote a blob just now."""
        await self._put(CLOCK, b"", create=False)
        return (await self._stat(CLOCK)).modified

    def local_path(self, path: str) -> Path | None:
        """None: no blob is a file of this machine."""
        checked(path)
        return None

    async def link(self, path: str, seconds: float, *, put: bool = False) -> str:
        """See BlobStore.link: signed here, with the credentials of now."""
        key = self._root + checked(path)
        act = partial(self._transport.sign, key, min(seconds, LONGEST_LINK_S), put=put)
        return await (await self._calls()).again(act, Verb.WRITE if put else Verb.READ, path)

    async def write_own(self, name: str, data: bytes) -> None:
        """See fitness.Raw."""
        await self._put(name, data, create=True)

    async def read_own(self, name: str) -> bytes:
        """See fitness.Raw."""
        return await self._get(name)

    async def first_names(self) -> Names:
        """See fitness.Raw."""
        act = partial(self._transport.objects, self._root[:-1], first_page=True)
        found = await (await self._calls()).again(act, Verb.LIST, "")
        names = (self._entry(item).path for item in found)
        return [name for name in names if name]  # some tools make an object of the folder itself

    async def _put(self, path: str, data: bytes | memoryview, create: bool) -> None:
        calls, key = await self._calls(), self._root + path
        act = partial(self._transport.put, key, data, create=create)
        if create:
            await calls.create(act, partial(self._transport.get, key), path, data)
        else:
            await calls.again(act, Verb.WRITE, path, size=len(data))

    async def _get(self, path: str) -> bytes:
        calls, key = await self._calls(), self._root + path
        begin, whole = partial(self._transport.begin, key, FIRST), partial(self._transport.get, key)
        try:
            data, found = await calls.again(begin, Verb.READ, path, size=FIRST)
        except Refused as error:
            if error.trouble.kind is not Kind.SHORT:
                raise
            return await calls.again(whole, Verb.READ, path)  # it is empty, which has no first byte
        if found.size == len(data):
            return data
        buffer = bytearray(found.size)
        buffer[: len(data)] = data
        with suppress(_OtherSize):
            if await self._fill(path, memoryview(buffer), None, len(data)) == {found.version}:
                return bytes(buffer)
        # It was replaced meanwhile, which one answer does not mind.
        return await calls.again(whole, Verb.READ, path, size=found.size)

    async def _fill(
        self, path: str, buffer: memoryview, start: int | None, done: int = 0
    ) -> set[str | None]:
        """Read the blob into the buffer behind `done`: which versions of it that was. Raises _OtherSize."""
        versions: set[str | None] = set()
        fetch = partial(self._fetch, path, buffer, start, versions)
        await each(fetch, range(done, len(buffer), RANGE), at_once=RANGES_AT_ONCE)
        return versions

    async def _fetch(
        self,
        path: str,
        buffer: memoryview,
        start: int | None,
        versions: set[str | None],
        offset: int,
    ) -> None:
        """Fill the buffer's range at `offset`, and note which version of the blob it is of."""
        part = buffer[offset : offset + RANGE]
        first = (start or 0) + offset
        act = partial(self._transport.fill, self._root + path, first, part)
        try:
            found = await (await self._calls()).again(act, Verb.READ, path, size=len(part))
        except Refused as error:
            raise _OtherSize if error.trouble.kind is Kind.SHORT else error from error
        if found.size < first + len(part) or (start is None and found.size != len(buffer)):
            raise _OtherSize
        versions.add(found.version)

    async def _refuse_size(self, path: str, buffer: memoryview, start: int | None) -> None:
        """Raises WrongSize if the blob has another size than is asked for."""
        size = (await self._stat(path)).size
        if size != len(buffer) if start is None else size < start + len(buffer):
            raise wrong_size(path, self.url, size, len(buffer), start)

    async def _stat(self, path: str) -> Entry:
        calls, key = await self._calls(), self._root + path
        until = anyio.current_time() + self._deadline_s
        try:
            return self._entry(
                await calls.again(partial(self._transport.head, key), Verb.LOOK, path)
            )
        except (NotFound, Refused) as error:
            if isinstance(error, Refused) and error.trouble.kind in PASSING:
                raise
        # A HEAD is refused, or finds nothing, without a word why; what answers a GET says it.
        rest = replace(calls, deadline_s=max(LEAST_S, until - anyio.current_time()))
        return self._entry(await rest.again(partial(self._transport.look, key), Verb.READ, path))

    def _entry(self, found: Object) -> Entry:
        return Entry(found.key[len(self._root) :], found.size, found.modified)

    async def _calls(self) -> Calls:
        try:
            with anyio.fail_after(self._deadline_s):
                await self._transport.connect()
        except TimeoutError:
            raise StoreError(
                f"cannot reach {self.url}: to find the way to it took more than {self._deadline_s:g} s; "
                "check the network, and whether the disk of ~/.aws answers"
            ) from None
        way = self._transport.way
        place = Place(self.url, way.endpoint, way.region)
        return Calls(place, answer_of, self._deadline_s)


class _OtherSize(Exception):
    """A blob has not the size that was asked for."""


def bucket_parts(url: str) -> tuple[str, str]:
    """The bucket, and what all keys begin with: empty, or a prefix and a slash."""
    match = _URL.fullmatch(url)
    if match is None:  # not the URL itself: it may hold a password
        raise SettingsError(
            "CROWN_STORAGE__ROOT: a bucket's URL is s3://bucket or s3://bucket/prefix; keys go to "
            "CROWN_STORAGE__ACCESS_KEY_ID and CROWN_STORAGE__SECRET_ACCESS_KEY"
        )
    bucket, prefix = match[1], match[2] or ""
    try:
        return bucket, f"{checked(prefix)}/" if prefix else ""
    except StoreError:
        raise SettingsError(f"CROWN_STORAGE__ROOT: not a prefix for keys: {prefix!r}") from None
