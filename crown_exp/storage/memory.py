"""A store in this process's memory: for tests, and for runs that are to leave nothing."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from threading import Lock

from crown_exp.clock import Clock, SystemClock
from crown_exp.storage.base import (
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

Blobs = dict[str, tuple[bytes, datetime]]

_SPACES: dict[str, Blobs] = {}
_LOCK = Lock()


class MemoryStore:
    """`memory://name`: all stores of one name in a process share their blobs."""

    def __init__(self, name: str = "", clock: Clock | None = None) -> None:
        self.url = f"memory://{name}"
        self._clock = clock or SystemClock()
        with _LOCK:
            self._blobs = _SPACES.setdefault(name, {})

    async def put(self, path: str, data: bytes | memoryview, *, create: bool = False) -> None:
        """See BlobStore.put."""
        checked(path)
        with _LOCK:  # portals of several threads may share the blobs
            if create and path in self._blobs:
                raise AlreadyExists(f"{path} exists in {self.url}")
            self._blobs[path] = (bytes(data), self._clock.now())

    async def get(self, path: str) -> bytes:
        """See BlobStore.get."""
        return self._find(path)[0]

    async def prepare(self) -> None:
        """See BlobStore.prepare: it always is."""

    async def get_into(self, path: str, buffer: memoryview, *, start: int | None = None) -> None:
        """See BlobStore.get_into."""
        data = self._find(path)[0]
        if len(data) != len(buffer) if start is None else len(data) < start + len(buffer):
            raise wrong_size(path, self.url, len(data), len(buffer), start)
        begin = start or 0
        buffer[:] = data[begin : begin + len(buffer)]

    async def copy(self, source: str, target: str) -> None:
        """See BlobStore.copy."""
        checked(target)
        data = self._find(source)[0]
        with _LOCK:
            self._blobs[target] = (data, self._clock.now())

    async def list(self, prefix: str) -> Entries:
        """See BlobStore.list."""
        checked_prefix(prefix)
        with _LOCK:
            found = [
                Entry(path, len(data), modified)
                for path, (data, modified) in self._blobs.items()
                if path.startswith(prefix)
            ]
        return sorted(found, key=lambda entry: entry.path)

    async def folders(self, prefix: str) -> Names:
        """See BlobStore.folders."""
        start = len(checked_folder(prefix))
        with _LOCK:
            below = [path[start:] for path in self._blobs if path.startswith(prefix)]
        return sorted({rest.partition("/")[0] for rest in below if "/" in rest})

    async def delete(self, path: str) -> None:
        """See BlobStore.delete."""
        with _LOCK:
            self._blobs.pop(checked(path), None)

    async def stat(self, path: str) -> Entry:
        """See BlobStore.stat."""
        data, modified = self._find(path)
        return Entry(path, len(data), modified)

    async def now(self) -> datetime:
        """See BlobStore.now."""
        return self._clock.now()

    def local_path(self, path: str) -> Path | None:
        """None: the blobs are no files."""
        checked(path)
        return None

    async def link(self, path: str, seconds: float, *, put: bool = False) -> str | None:
        """None: nobody else reaches this process's memory."""
        checked(path)
        return None

    def _find(self, path: str) -> tuple[bytes, datetime]:
        with _LOCK:
            found = self._blobs.get(checked(path))
        if found is None:
            raise NotFound(f"{path} is not in {self.url}")
        return found
