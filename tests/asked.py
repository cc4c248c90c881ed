"""A store that counts what it is asked, and whose blobs can be dated by another clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, cast

from crown_exp.storage import BlobStore
from crown_exp.storage.base import Entry

REQUESTS = frozenset({"put", "get", "get_into", "copy", "list", "folders", "delete", "stat"})


class Asked:
    """Hands on what is asked. made: how often what. dated: the time of a write; None: the store's own."""

    def __init__(self, real: BlobStore, dated: Callable[[], datetime] | None = None) -> None:
        self.real, self.dated = real, dated
        self.made: Counter[str] = Counter()
        self.written: dict[str, datetime] = {}

    @property
    def store(self) -> BlobStore:
        """Itself, as what it is used for."""
        return cast(BlobStore, self)

    def take(self) -> Counter[str]:
        """What was asked since this was called last."""
        made, self.made = self.made, Counter()
        return made

    async def put(self, path: str, data: bytes | memoryview, *, create: bool = False) -> None:
        self.made["put"] += 1
        await self.real.put(path, data, create=create)
        if self.dated is not None:
            self.written[path] = self.dated()

    async def list(self, prefix: str) -> list[Entry]:
        self.made["list"] += 1
        return [
            replace(it, modified=self.written.get(it.path, it.modified))
            for it in await self.real.list(prefix)
        ]

    async def stat(self, path: str) -> Entry:
        self.made["stat"] += 1
        found = await self.real.stat(path)
        return replace(found, modified=self.written.get(path, found.modified))

    async def now(self) -> datetime:
        return await self.real.now() if self.dated is None else self.dated()

    def __getattr__(self, name: str) -> Any:
        if name in REQUESTS:
            self.made[name] += 1
        return getattr(self.real, name)
