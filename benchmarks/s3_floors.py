"""The least that each part of a checkpoint on S3 can take: bytes as they are, in one piece of memory."""

from __future__ import annotations

import asyncio
import mmap
from collections.abc import Callable, Mapping
from typing import Any

import torch

from benchmarks.s3_server import obstore_of

PART = 16 * 2**20
AT_ONCE = 4
PACK = 64 * 2**20


class S3Floors:
    """As many bytes as the state has, copied, put and got again by obstore, without a hash or a commit."""

    def __init__(self, access: Mapping[str, str], size: int) -> None:
        self.store, self.size = obstore_of(access), size
        self.flat = torch.empty(size, dtype=torch.uint8).random_()
        self.again = torch.zeros_like(self.flat)
        self.bytes = memoryview(self.flat.numpy())

    def put(self) -> None:
        """One object, in parts of 16 MiB, four at once."""
        import obstore

        obstore.put(
            self.store, "raw/one", self.bytes, chunk_size=PART, max_concurrency=AT_ONCE,
            use_multipart=True,
        )  # fmt: skip

    def put_packs(self) -> None:
        """Objects of 64 MiB, four at once: the requests that a save of ours makes."""
        import obstore

        async def one(start: int) -> None:
            await obstore.put_async(
                self.store, f"raw/{start}", self.bytes[start : start + PACK], use_multipart=False
            )

        asyncio.run(each(one, range(0, self.size, PACK)))

    def get(self) -> None:
        """The object, by ranges of 16 MiB, four at once, into memory that was used before."""
        self.by_ranges(memoryview(self.again.numpy()))

    def get_fresh(self) -> None:
        """Likewise into memory that the kernel gives only now, as a process that was just started has it."""
        with mmap.mmap(-1, self.size) as fresh, memoryview(fresh) as into:
            self.by_ranges(into)

    def by_ranges(self, into: memoryview) -> None:
        """Read the object."""
        import obstore

        async def one(start: int) -> None:
            end = min(start + PART, self.size)
            into[start:end] = await obstore.get_range_async(
                self.store, "raw/one", start=start, end=end
            )

        asyncio.run(each(one, range(0, self.size, PART)))

    def clean(self) -> None:
        """Remove what was put."""
        import obstore

        for page in obstore.list(self.store, "raw"):
            obstore.delete(self.store, [item["path"] for item in page])


async def each(work: Callable[[int], Any], items: range) -> None:
    """All of it, so many at once."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(item: int) -> None:
        async with turns:
            await work(item)

    await asyncio.gather(*map(one, items))
