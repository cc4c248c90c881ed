"""A store in a folder of a file system, local or shared.

A blob is written to a hidden file beside its place, made durable, and then takes its place in one
step: by a rename, or, where it must not exist yet, by a hard link, which fails if there is one.
So neither a crash nor a race leaves half a blob, or two that both believe they were first.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from io import FileIO
from pathlib import Path
from typing import ParamSpec, TypeVar

from crown_exp.errors import StoreError
from crown_exp.storage.base import (
    HIDDEN,
    AlreadyExists,
    Entries,
    Entry,
    Names,
    NotFound,
    checked,
    checked_folder,
    checked_prefix,
    wrong_size,
)
from crown_exp.storage.parallel import in_thread

TEMPORARY = f"{HIDDEN}temp-"
LOCK = f"{HIDDEN}lock"
LITTER_AGE_S = 24 * 3600.0
"""A temporary file of this age was left by a writer that was killed, and is removed when met."""

FOLDER_TRIES = 20
COPY_BYTES = 2**20

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_ELSEWHERE = "or set CROWN_STORAGE__ROOT to another place"
_ADVICE = {
    errno.ENOSPC: f"free some space there {_ELSEWHERE}",
    errno.EDQUOT: f"free some of your quota {_ELSEWHERE}",
    errno.EROFS: f"mount it writable {_ELSEWHERE}",
    errno.EACCES: f"change the permissions {_ELSEWHERE}",
    errno.EPERM: f"change the permissions {_ELSEWHERE}",
    errno.ENOTDIR: "a file stands where a folder is needed; move it away",
    errno.EISDIR: "a folder stands where a file is needed; move it away",
    errno.ENAMETOOLONG: "choose a shorter name",
}

P = ParamSpec("P")
T = TypeVar("T")


class FileStore:
    """`file:///path`: every blob is a file below `root`, which is made when first written to, but not twice."""

    def __init__(self, root: Path | str) -> None:
        try:
            self.root = Path(root).expanduser().resolve()
        except (
            RuntimeError,
            OSError,
        ) as error:  # a loop of links is a RuntimeError before Python 3.13
            raise StoreError(f"{root} leads nowhere: {error}") from None
        self.url = self.root.as_uri()
        self.was_there = self.root.is_dir()

    async def put(self, path: str, data: bytes | memoryview, *, create: bool = False) -> None:
        """See BlobStore.put."""
        await in_thread(self._put, path, data, create)

    async def get(self, path: str) -> bytes:
        """See BlobStore.get."""
        return await in_thread(self._get, path)

    async def prepare(self) -> None:
        """See BlobStore.prepare: what keeps files keeps to what is asked of it."""

    async def get_into(self, path: str, buffer: memoryview, *, start: int | None = None) -> None:
        """See BlobStore.get_into."""
        await in_thread(self._get_into, path, buffer, start)

    async def copy(self, source: str, target: str) -> None:
        """See BlobStore.copy: a hard link, or where there are none, a copy."""
        await in_thread(self._copy, source, target)

    async def list(self, prefix: str) -> Entries:
        """See BlobStore.list."""
        return await in_thread(self._list, prefix)

    async def folders(self, prefix: str) -> Names:
        """See BlobStore.folders."""
        return await in_thread(self._folders, prefix)

    async def delete(self, path: str) -> None:
        """See BlobStore.delete."""
        await in_thread(self._delete, path)

    async def stat(self, path: str) -> Entry:
        """See BlobStore.stat."""
        return await in_thread(self._stat, path)

    async def now(self) -> datetime:
        """See BlobStore.now: on a shared file system that is the clock of its server."""
        return await in_thread(self._now)

    def local_path(self, path: str) -> Path:
        """Where the blob is, or would be: to read, map, or append to by its only writer."""
        return self.root / checked(path)

    async def link(self, path: str, seconds: float, *, put: bool = False) -> str:
        """See BlobStore.link: the file's own URL."""
        return self.local_path(path).as_uri()

    def _put(self, path: str, data: bytes | memoryview, create: bool) -> None:
        self._publish(path, lambda temporary: _write(temporary, data), create)

    def _copy(self, source: str, target: str) -> None:
        original = self.local_path(source)
        with self._explained("read", source):
            if not stat.S_ISREG(original.stat().st_mode):
                raise IsADirectoryError
        self._publish(target, lambda temporary: _link_or_copy(original, temporary), create=False)

    def _publish(self, path: str, make: Callable[[Path], None], create: bool) -> None:
        """Let `make` make a file beside the blob's place, and give it that place."""
        target = self.local_path(path)
        temporary = target.with_name(f"{TEMPORARY}{os.urandom(8).hex()}")
        if (
            self.was_there and not self.root.is_dir()
        ):  # a new one would hold the half of what it held
            raise StoreError(f"{self.root} is gone; it was there before: put it back to go on")
        with self._explained("write", path):
            try:
                _make_in_folder(temporary, make)
                if create:
                    _publish_new(temporary, target)
                else:
                    temporary.replace(target)
            finally:
                with suppress(OSError):
                    temporary.unlink()
            _sync_folder(target.parent)
        self.was_there = True

    def _get(self, path: str) -> bytes:
        with self._explained("read", path):
            return self.local_path(path).read_bytes()

    def _get_into(self, path: str, buffer: memoryview, start: int | None) -> None:
        with self._explained("read", path), self.local_path(path).open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size == len(buffer) if start is None else size >= start + len(buffer):
                file.seek(start or 0)
                if (done := _fill(buffer, file)) == len(buffer):
                    return
                size = done  # cut while it was read
        raise wrong_size(path, str(self.root), size, len(buffer), start)

    def _stat(self, path: str) -> Entry:
        with self._explained("read", path):
            target = self.local_path(path)
            if target.is_dir():
                raise IsADirectoryError
            return _entry(path, target.stat())

    def _list(self, prefix: str) -> Entries:
        folder = checked_prefix(prefix).rpartition("/")[0]
        with self._explained("list", folder):
            found = [entry for entry in self._walk(folder) if entry.path.startswith(prefix)]
        return sorted(found, key=lambda entry: entry.path)

    def _walk(self, folder: str) -> Iterator[Entry]:
        """All blobs below `folder`. Files that vanish meanwhile are passed over."""
        for item in _scan(self.root / folder):
            path = f"{folder}/{item.name}" if folder else item.name
            if item.is_dir():
                yield from self._walk(path)
            else:
                with suppress(FileNotFoundError):
                    yield _entry(path, item.stat())

    def _folders(self, prefix: str) -> Names:
        folder = checked_folder(prefix)
        with self._explained("list", folder):
            return sorted(item.name for item in _scan(self.root / folder) if item.is_dir())

    def _delete(self, path: str) -> None:
        target = self.local_path(path)
        with self._explained("delete", path), suppress(*_ABSENT):
            if not target.is_dir():  # unlink says EPERM of a folder on some systems
                target.unlink()
                self._prune(target.parent)

    def _prune(self, folder: Path) -> None:
        """Remove a folder that is empty now, and those above it: folders are only there for blobs."""
        while folder != self.root:
            try:
                folder.rmdir()
            except OSError:  # not empty; or someone else removed it
                break
            folder = folder.parent
        with suppress(FileNotFoundError):
            _sync_folder(folder)

    def _now(self) -> datetime:
        probe = self.root / f"{TEMPORARY}{os.urandom(8).hex()}"
        try:
            descriptor = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except OSError:  # no root yet, or nothing can be written: nothing can beat either
            return datetime.now(UTC)
        try:
            return _moment(os.fstat(descriptor))
        finally:
            os.close(descriptor)
            with suppress(OSError):
                probe.unlink()

    @contextmanager
    def _explained(self, doing: str, path: str) -> Iterator[None]:
        """Every OSError as a StoreError: what failed, where, what to do."""
        try:
            yield
        except FileExistsError:
            raise AlreadyExists(f"{path} exists in {self.root}") from None
        except _ABSENT as error:
            if doing == "read":
                raise NotFound(f"{path} is not in {self.root}") from None
            raise self._failed(doing, path, error) from error
        except OSError as error:
            raise self._failed(doing, path, error) from error

    def _failed(self, doing: str, path: str, error: OSError) -> StoreError:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        advice = _ADVICE.get(error.errno or 0, "check the disk or the mount")
        return StoreError(
            f"cannot {doing} {path or 'the store'} in {self.root}: {reason}; {advice}"
        )


def _make_in_folder(target: Path, make: Callable[[Path], None]) -> None:
    """Make a new file in its folder, which is made again if another removes it while it is empty."""
    for tried in range(FOLDER_TRIES):
        try:
            _make_folder(target.parent)
            make(target)
        except FileNotFoundError:
            if tried + 1 == FOLDER_TRIES:
                raise
        else:
            return


def _write(target: Path, data: bytes | memoryview) -> None:
    rest = memoryview(data)
    with target.open("xb", buffering=0) as file:  # straight from the caller's memory
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())


def _fill(buffer: memoryview, file: FileIO) -> int:
    """How many bytes could be read."""
    done = 0
    while done < len(buffer) and (count := file.readinto(buffer[done:])):
        done += count
    return done


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS | {errno.EXDEV, errno.EMLINK}:
            raise
        with source.open("rb") as original, target.open("xb") as file:
            shutil.copyfileobj(original, file, COPY_BYTES)
            file.flush()
            os.fsync(file.fileno())


def _publish_new(temporary: Path, target: Path) -> None:
    """Give the file its place. Raises FileExistsError if that is taken."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "") from None
        # NFS repeats a request whose answer was lost: then the link that is there is ours.
        if temporary.stat().st_nlink < 2:
            raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _publish_locked(temporary, target)


def _publish_locked(temporary: Path, target: Path) -> None:
    """As `_publish_new`, on a file system without hard links: one creator at a time per folder."""
    with (target.parent / LOCK).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # given back when the process ends, however it ends
        if target.exists():
            raise FileExistsError
        temporary.replace(target)


def _make_folder(folder: Path) -> None:
    """Make the folder and what is above it, durably."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    try:
        folder.mkdir()
    except FileExistsError:
        found = folder.lstat().st_mode  # not found: another removed it, and it is made again
        if not stat.S_ISDIR(found) and not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "") from None
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems have no such thing
            raise
    finally:
        os.close(descriptor)


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, without what the store hides; nothing if there is no such folder."""
    try:
        with os.scandir(folder) as items:
            found = list(items)
    except (FileNotFoundError, NotADirectoryError):
        return []
    for item in found:
        if item.name.startswith(TEMPORARY):
            _drop_litter(item)
    return [item for item in found if not item.name.startswith(HIDDEN)]


def _drop_litter(item: os.DirEntry[str]) -> None:
    with suppress(OSError):
        if time.time() - item.stat().st_mtime > LITTER_AGE_S:
            Path(item).unlink()


def _entry(path: str, status: os.stat_result) -> Entry:
    return Entry(path, status.st_size, _moment(status))


def _moment(status: os.stat_result) -> datetime:
    return _EPOCH + timedelta(microseconds=status.st_mtime_ns // 1000)
