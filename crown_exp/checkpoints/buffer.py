"""The host memory that a state is copied to and read into: allocated once, used again."""

from __future__ import annotations

import mmap
from contextlib import suppress
from typing import Any


class Buffer:
    """One piece of memory, which grows when more is asked for. pin: as CUDA copies to fastest."""

    def __init__(self, pin: bool = False) -> None:
        self.pin = pin
        self._memory: Any = None
        self._size = 0
        self._lent: Any = None

    def ready(self, size: int, *, to_save: bool) -> None:
        """Have `size` bytes that nobody else holds. Raises MemoryError or OSError if there are none.

        What was lent and is still held (an optimizer keeps the tensors that it is given) is left to its holder.
        to_save: it will be copied to again and again, rather than read into once.
        """
        if self._lent is not None:
            if not self._lent.expired():
                self._memory, self._size = None, 0
            self._lent = None
        if self._size < size or self._memory is None:
            self._memory, self._size = None, 0  # freed first: never two at once
            self._memory, self._size = allocate(size, self.pin, huge=to_save), size

    def bytes(self, size: int) -> memoryview:
        """The first `size` bytes, to read and to write."""
        return memoryview(self._memory)[:size]

    def tensor(self) -> Any:
        """The memory as a tensor of uint8."""
        import torch

        return torch.frombuffer(self._memory, dtype=torch.uint8)

    def lend(self) -> Any:
        """As `tensor`; the memory is used again only once nothing of it is held any more."""
        from torch.multiprocessing.reductions import StorageWeakRef

        self._advise("MADV_DOFORK")  # a forked worker may be given what lies in it
        lent = self.tensor()
        self._lent = StorageWeakRef(lent.untyped_storage())  # type: ignore[no-untyped-call]
        return lent

    def keep_from_children(self) -> None:
        """Leave it out of forked processes: copying it on write would cost each save a page fault per page."""
        self._advise("MADV_DONTFORK")

    def _advise(self, what: str) -> None:
        if isinstance(self._memory, mmap.mmap):
            advise(self._memory, what)


def allocate(size: int, pin: bool, huge: bool) -> Any:
    """Zeroed memory of at least `size` bytes, aligned to a page. Raises MemoryError or OSError.

    huge: in huge pages, which are copied to up to twice as fast, but cost 5 s a GB at first in virtual machines
    that give free ones back to their host.
    """
    if pin:
        import torch

        pinned: Any = torch.zeros(max(size, 1), dtype=torch.uint8, pin_memory=True).numpy()
        return memoryview(pinned)
    memory = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if huge:
        advise(memory, "MADV_HUGEPAGE")
    return memory


def advise(memory: mmap.mmap, what: str) -> None:
    """Tell the kernel, where it listens."""
    if hasattr(mmap, what):
        with suppress(OSError):
            memory.madvise(getattr(mmap, what))
