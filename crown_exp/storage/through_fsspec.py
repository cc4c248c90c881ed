"""A store in any file system that fsspec knows, and in S3 by s3fs where obstore is not installed.

Used are only calls that write or read a blob as a whole (`pipe_file`, `cat_file`), never `open`: s3fs
and others publish what was written so far when a writer's `with` block ends by an exception. Who
calls, and how often, is `crown_exp.storage.calls`.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from crown_exp.errors import SettingsError, StoreError
from crown_exp.storage.aws import endpoint_of, region_of, way_to_s3
from crown_exp.storage.base import (
    CLOCK,
    LONGEST_LINK_S,
    AlreadyExists,
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
from crown_exp.storage.filesystem import (
    FileSystem,
    Info,
    Work,
    base_name,
    writes_through_open,
    written,
)
from crown_exp.storage.fitness import make_fit
from crown_exp.storage.parallel import each
from crown_exp.storage.s3fs_options import s3fs_options
from crown_exp.storage.trouble import Kind, Place, Verb, kind_of
from crown_exp.storage.vendor_errors import answer_of

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

RANGE = 16 * 2**20
"""Bytes of one read of a big blob."""

FIRST = 2**18
"""Bytes of the first read of a blob whose size is not known."""

RANGES_AT_ONCE = 4
ONE_PUT = 2**29
"""s3fs writes a blob of twice as many bytes in parts, where not every server keeps create-only."""

READS = 5
"""How often a blob that is replaced while it is read is begun again."""

FIRST_FOLDERS = 20
"""So many folders are looked into for what a place holds, before it becomes a store."""

S3 = ("s3", "s3a")

Infos = list[Info]


class FsspecStore:
    """`scheme://root`: every blob is the file of its path below the root.

    access: as `open_blobs` takes it. filesystem: to use instead of one made for the URL at the first call.
    Raises SettingsError for a scheme that fsspec does not know, or not without something to be installed.
    """

    def __init__(
        self,
        url: str,
        access: Mapping[str, str] | None = None,
        filesystem: AbstractFileSystem | None = None,
    ) -> None:
        self._scheme = url.partition("://")[0].lower()
        if filesystem is None:
            _check_scheme(self._scheme)
        self.url = url.rstrip("/")
        self._access = dict(access or {})
        self._made = None if filesystem is None else FileSystem(filesystem)
        self._lock = Lock()
        endpoint = endpoint_of(self._access) if self._scheme in S3 else ""
        place = Place(self.url, endpoint, region_of(self._access))
        self._calls = Calls(place, answer_of, deadline_of(self._access))

    async def put(self, path: str, data: bytes | memoryview, *, create: bool = False) -> None:
        """See BlobStore.put."""
        await self._put(_allowed(path), data, create)

    async def get(self, path: str) -> bytes:
        """See BlobStore.get."""
        return await self._get(_allowed(path))

    async def prepare(self) -> None:
        """See BlobStore.prepare."""
        name = self.filesystem().name
        if writes_through_open(self.filesystem().system):
            raise SettingsError(
                f"{self.url}: {name} writes through open(), which publishes the part that "
                "was written when a writer dies; set CROWN_STORAGE__ROOT to another store: s3://, gs://, "
                "az://, a folder"
            )
        try:
            await make_fit(self)
        except (TypeError, NotImplementedError):  # its pipe_file knows no mode="create"
            raise SettingsError(
                f"{self.url}: {name} cannot write create-only, without which two machines "
                "could write one run; set CROWN_STORAGE__ROOT to another store"
            ) from None

    async def get_into(self, path: str, buffer: memoryview, *, start: int | None = None) -> None:
        """See BlobStore.get_into."""
        _allowed(path)
        if start is not None and 0 < len(buffer) <= RANGE and await self._fill(path, buffer, start):
            return
        for _ in range(READS):
            info = await self._info(path)
            size, begin = info["size"], start or 0
            if size != len(buffer) if start is None else size < begin + len(buffer):
                raise wrong_size(path, self.url, size, len(buffer), start)
            # One read is of one version; several may not be, and none of them tells the size.
            if await self._fill(path, buffer, begin) and (
                len(buffer) <= RANGE or await self._info(path) == info
            ):
                return
        raise StoreError(f"{path} in {self.url} changes while it is read")

    async def copy(self, source: str, target: str) -> None:
        """See BlobStore.copy."""
        if _allowed(source) == _allowed(target):  # S3 refuses that
            await self.stat(source)
            return
        await self._info(source)  # some copy a folder without a word
        work = self._work("cp_file", self._key(source), self._key(target))
        await self._calls.again(work, Verb.COPY, source)

    async def list(self, prefix: str) -> Entries:
        """See BlobStore.list."""
        folder, _, stem = checked_prefix(prefix).rpartition("/")
        key = self._key(folder)
        told = {"prefix": stem} if self.filesystem().takes("find", "prefix") else {}
        work = self._work("find", key, detail=True, **told)
        infos = await self._calls.again(_or_nothing(work, {}), Verb.LIST, folder)
        found = [self._entry(self._path(name), info) for name, info in infos.items() if info]
        shown = (entry for entry in found if _is_shown(entry.path))
        matching = (entry for entry in shown if entry.path.startswith(prefix))
        return sorted(matching, key=lambda entry: entry.path)

    async def folders(self, prefix: str) -> Names:
        """See BlobStore.folders."""
        infos = await self._ls(checked_folder(prefix).rstrip("/"))
        names = {base_name(info) for info in infos if info["type"] == "directory"}
        return sorted(name for name in names if not is_hidden(name))

    async def delete(self, path: str) -> None:
        """See BlobStore.delete."""
        work = self._work("rm_file", self._key(_allowed(path)))
        with suppress(NotFound):
            await self._calls.again(work, Verb.DELETE, path)

    async def stat(self, path: str) -> Entry:
        """See BlobStore.stat."""
        return self._entry(path, await self._info(_allowed(path)))

    async def now(self) -> datetime:
        """See BlobStore.now: when the server says that it wrote a blob just now."""
        await self._put(CLOCK, b"1", create=False)
        return self._entry(CLOCK, await self._info(CLOCK)).modified

    def local_path(self, path: str) -> Path | None:
        """None: no blob is a file of this machine."""
        _allowed(path)
        return None

    async def link(self, path: str, seconds: float, *, put: bool = False) -> str | None:
        """See BlobStore.link: None but for S3."""
        key = self._key(_allowed(path))
        if self._scheme not in S3:
            return None
        method = "put_object" if put else "get_object"
        work = self._work("url", key, int(min(seconds, LONGEST_LINK_S)), method)
        return str(await self._calls.again(work, Verb.WRITE if put else Verb.READ, path))

    async def write_own(self, name: str, data: bytes) -> None:
        """See fitness.Raw."""
        await self._put(name, data, create=True)

    async def read_own(self, name: str) -> bytes:
        """See fitness.Raw."""
        return await self._get(name)

    async def first_names(self) -> Names:
        """See fitness.Raw: in as many folders as are soon looked into."""
        names: Names = []
        folders = [""]
        for _ in range(FIRST_FOLDERS):
            if not folders:
                break
            folder = folders.pop(0)
            for info in await self._ls(folder):
                path = f"{folder}/{base_name(info)}" if folder else base_name(info)
                (folders if info["type"] == "directory" else names).append(path)
        return names

    async def _put(self, path: str, data: bytes | memoryview, create: bool) -> None:
        key, kept = self._key(path), bytes(data)  # no file system takes a view of memory
        in_one: dict[str, object] = {}
        if self.filesystem().takes("pipe_file", "chunksize"):
            in_one = {"chunksize": ONE_PUT}
        if not create:
            work = self._work("pipe_file", key, kept, **in_one)
            await self._calls.again(work, Verb.WRITE, path, size=len(kept))
            return
        mark = {"crown-write": secrets.token_hex(8)}
        marked: dict[str, object] = {"Metadata": mark} if self._scheme in S3 else {}
        write = self._work("pipe_file", key, kept, mode="create", **in_one, **marked)
        try:
            await self._calls.create(write, self._work("cat_file", key), path, kept)
        except AlreadyExists:
            # aiohttp, beneath s3fs, sends a PUT again by itself when the connection breaks before
            # the answer: what is there may be what it wrote the first time.
            if not marked or not await self._has_mark(path, mark):
                raise

    async def _has_mark(self, path: str, mark: Mapping[str, str]) -> bool:
        try:
            found = await self._calls.again(
                self._work("metadata", self._key(path)), Verb.READ, path
            )
        except NotFound:
            return False
        return all(found.get(name) == value for name, value in mark.items())

    async def _get(self, path: str) -> bytes:
        first = self._work("cat_file", self._key(path), start=0, end=FIRST)
        whole = self._work("cat_file", self._key(path))
        try:
            data = await self._calls.again(first, Verb.READ, path, size=FIRST)
        except Refused as error:
            if error.trouble.kind is not Kind.SHORT:
                raise
            return bytes(await self._calls.again(whole, Verb.READ, path))  # it is empty
        if len(data) != FIRST:
            return bytes(data)
        size = (await self._info(path))["size"]
        return bytes(await self._calls.again(whole, Verb.READ, path, size=size))

    async def _fill(self, path: str, buffer: memoryview, start: int) -> bool:
        """Read what begins at `start`, in ranges. False if the blob has become shorter."""
        missing: set[int] = set()

        async def read(first: int) -> None:
            wanted = len(buffer[first : first + RANGE])
            begin = start + first
            work = self._work("cat_file", self._key(path), start=begin, end=begin + wanted)
            try:
                data = await self._calls.again(work, Verb.READ, path, size=wanted)
            except Refused as error:
                if error.trouble.kind is not Kind.SHORT:
                    raise
                data = b""
            if len(data) == wanted:
                buffer[first : first + wanted] = data
            else:
                missing.add(first)

        await each(read, range(0, len(buffer), RANGE), at_once=RANGES_AT_ONCE)
        return not missing

    async def _info(self, path: str) -> Info:
        """What the file system tells of a blob. Raises NotFound, of a folder too."""
        look = self._work("info", self._key(path))
        try:
            info: Info = await self._calls.again(look, Verb.LOOK, path)
        except NotFound:
            if self._scheme not in S3:
                raise
            await self._ask_by_reading(path)  # which is answered with a word why, as a HEAD is not
            info = await self._calls.again(look, Verb.LOOK, path)
        if info["type"] == "directory":
            raise NotFound(f"{path} is not in {self.url}")
        return info

    async def _ask_by_reading(self, path: str) -> None:
        """Raises NotFound if S3 says in its words that there is no such blob."""
        work = self._work("cat_file", self._key(path), start=0, end=1)
        try:
            await self._calls.again(work, Verb.READ, path)
        except Refused as error:
            if error.trouble.kind is not Kind.SHORT:
                raise

    async def _ls(self, folder: str) -> Infos:
        """What lies right below a folder."""
        work = self._work("ls", self._key(folder), detail=True)
        found: Infos = await self._calls.again(_or_nothing(work, []), Verb.LIST, folder)
        return [info for info in found if not info["name"].endswith("/")]

    def _entry(self, path: str, info: Info) -> Entry:
        when = written(info)
        if when is None:
            raise SettingsError(
                f"{self.url}: {self.filesystem().name} does not tell when a blob was written; "
                "set CROWN_STORAGE__ROOT to another store"
            )
        return Entry(path, int(info["size"]), when)

    def _key(self, path: str) -> str:
        """What the file system calls a path."""
        return self.filesystem().key(self.url, path)

    def _path(self, key: str) -> str:
        return key.strip("/")[len(self._key("").strip("/")) :].lstrip("/")

    def filesystem(self) -> FileSystem:
        """What is called, made when it is first asked for."""
        with self._lock:
            if self._made is None:
                self._made = FileSystem(_made(self._scheme, self._access, self._calls.deadline_s))
            return self._made

    def _work(self, method: str, *args: object, **kwargs: object) -> Work:
        return self.filesystem().work(method, *args, **kwargs)


def _check_scheme(scheme: str) -> None:
    """Whether there is a file system for it. Imports none."""
    try:
        from fsspec.registry import known_implementations
    except ImportError:
        raise SettingsError(
            f"CROWN_STORAGE__ROOT: {scheme}:// needs fsspec: pip install 'crown-exp[s3]'"
        ) from None
    known = known_implementations.get(scheme)
    if known is None:
        # Not the whole URL: it may hold a password.
        raise SettingsError(
            f"CROWN_STORAGE__ROOT: no store speaks {scheme}://; known are file:///path, a plain path, "
            "memory://name, s3://bucket, and with their packages gs://bucket and az://container"
        )
    package = known["class"].partition(".")[0]
    if find_spec(package) is None:
        needed = "'crown-exp[s3]'" if scheme in S3 else package
        raise SettingsError(
            f"CROWN_STORAGE__ROOT: {scheme}:// needs {package}: pip install {needed}"
        )


def _made(scheme: str, access: Mapping[str, str], deadline_s: float) -> AbstractFileSystem:
    import fsspec

    options = s3fs_options(way_to_s3(access), access, deadline_s) if scheme in S3 else {}
    try:
        # What it lists is to be true now, and it is to be nobody else's.
        system = fsspec.filesystem(
            scheme, **options, use_listings_cache=False, skip_instance_cache=True
        )
    except (ImportError, TypeError) as error:  # or it wants arguments that no URL of ours holds
        raise SettingsError(f"CROWN_STORAGE__ROOT: {scheme}://: {error}") from None
    if scheme in S3:
        system.retries = 1  # what may be tried again is decided here
    return system


def _or_nothing(work: Work, nothing: object) -> Work:
    """The same work, but a folder that is not there holds nothing."""

    async def act() -> Any:
        try:
            return await work()
        except FileNotFoundError as error:
            answer = answer_of(error)
            if answer is not None and kind_of(answer, Verb.LIST) is not Kind.MISSING:
                raise
            return nothing

    return act


def _allowed(path: str) -> str:
    """`path` itself, if a blob of a user of the store may have it. Raises StoreError."""
    if "?versionId=" in checked(path):  # s3fs would write another blob
        raise StoreError(f"?versionId= cannot be part of a path here: {path!r}")
    return path


def _is_shown(path: str) -> bool:
    return not (path.endswith("/") or is_hidden(path))
