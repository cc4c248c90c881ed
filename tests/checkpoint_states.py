"""States of every kind, and stores that fail where a test says."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import torch
from hypothesis import strategies as st

from crown_exp.checkpoints.checkpoints import Checkpoints
from crown_exp.checkpoints.layout import SIZES
from crown_exp.checkpoints.tree import bits, is_tensor
from crown_exp.clock import Clock, SystemClock
from crown_exp.errors import StoreError
from crown_exp.folder.paths import RunPaths
from crown_exp.storage import BlobStore, Portal
from crown_exp.storage.memory import MemoryStore

PATHS = RunPaths("r261122-k7f3q2")
DTYPES = [getattr(torch, name) for name in SIZES]


class Moved(SystemClock):
    """The clock of a store, which a test moves on."""

    def __init__(self, by: timedelta = timedelta()) -> None:
        self.by = by

    def now(self) -> datetime:
        return super().now() + self.by


def memory_store(clock: Clock | None = None) -> MemoryStore:
    return MemoryStore(uuid4().hex, clock)


def attempt(portal: Portal, blobs: BlobStore, number: int = 1, **options: Any) -> Checkpoints:
    return Checkpoints(portal, blobs, PATHS, number, **options)


def begin(portal: Portal, blobs: BlobStore, number: int) -> None:
    """As if that attempt had claimed the run: all before are superseded."""
    portal.call(blobs.put, PATHS.attempt(number), b"{}")


def saved(checkpoints: Checkpoints, step: int, state: Any, **options: Any) -> Any:
    """Save, wait, and say what came of it."""
    checkpoints.save(step, state, **options)
    checkpoints.wait()
    return checkpoints.outcome()


def listed(portal: Portal, blobs: BlobStore) -> list[str]:
    return [
        entry.path.removeprefix(f"{PATHS.root}/") for entry in portal.call(blobs.list, PATHS.root)
    ]


def contents(portal: Portal, blobs: BlobStore) -> dict[str, bytes]:
    entries = portal.call(blobs.list, "")
    return {entry.path: portal.call(blobs.get, entry.path) for entry in entries}


def store_of(portal: Portal, blobs: Mapping[str, bytes]) -> MemoryStore:
    store = memory_store()
    for path, data in blobs.items():
        portal.call(store.put, path, data)
    return store


class FailingStore:
    """A store whose calls fail from the `at`-th that changes something on; `late`: once that one is done.

    error: what is raised. only: of which calls it is true. once: the calls after that succeed again.
    """

    def __init__(
        self, blobs: BlobStore, at: int, late: bool = False, once: bool = False, only: str = ""
    ) -> None:
        self.blobs, self.at, self.late, self.once, self.only = blobs, at, late, once, only
        self.calls = 0
        self.url = blobs.url
        self.error: Exception = StoreError("the store is gone")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.blobs, name)

    @contextmanager
    def counted(self, path: str) -> Iterator[None]:
        if self.only in path:
            self.calls += 1
        fails = self.calls == self.at if self.once else self.calls >= self.at
        if fails and not (self.late and self.calls == self.at):
            raise self.error
        yield
        if fails:
            raise self.error

    async def put(self, path: str, data: bytes | memoryview, *, create: bool = False) -> None:
        with self.counted(path):
            await self.blobs.put(path, data, create=create)

    async def delete(self, path: str) -> None:
        with self.counted(path):
            await self.blobs.delete(path)


# --- states -----------------------------------------------------------------------------------------------


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    """Of any dtype, with any bits, in any layout that torch calls dense or not."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    count = torch.Size(shape).numel() * dtype.itemsize
    torch.manual_seed(draw(st.integers(0, 2**16)))
    bits = torch.randint(0, 2 if dtype is torch.bool else 256, (count,), dtype=torch.uint8)
    made = bits.view(dtype).view(shape) if count else torch.empty(shape, dtype=dtype)
    match draw(
        st.sampled_from(
            ["plain", "transposed", "strided", "expanded", "conj", "parameter", "channels"]
        )
    ):
        case "transposed" if made.ndim >= 2:
            return made.transpose(0, -1)
        case "strided" if made.ndim:
            return made[::2]
        case "expanded":
            return made.expand(3, *made.shape)
        case "conj" if dtype in (torch.complex64, torch.complex128):
            return draw(st.sampled_from([made.conj(), made.conj().imag]))
        case "parameter" if dtype.is_floating_point:
            return torch.nn.Parameter(made)
        case "channels" if made.ndim == 3:
            return made.unsqueeze(0).contiguous(memory_format=torch.channels_last)
    return made


def as_module(tree: dict[str, Any]) -> Any:
    made: Any = OrderedDict(tree)
    made._metadata = OrderedDict({"": {"version": 2}, "0.1": {"version": 1}})
    return made


KEYS = st.text(max_size=4) | st.integers() | st.sampled_from(["$tensor", "$dict", "$", "a.b"])
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
    | st.sampled_from([2**4095, 2**4096, -(10**4000), "\ud800", float("nan"), -0.0]) | tensors()
)  # fmt: skip
STATES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.builds(as_module, st.dictionaries(st.text(max_size=4), inner, max_size=3))
        | inner.map(lambda value: [value, {"tied": value}])
    ),
    max_leaves=10,
)


def same(was: Any, now: Any) -> bool:
    """Whether a restored tree is the saved one: kinds, order of keys, bits, strides."""
    if is_tensor(was):
        return is_tensor(now) and same_tensor(was, now)
    if isinstance(was, dict):
        return (
            type(was) is type(now)
            and list(was) == list(now)
            and getattr(was, "_metadata", None) == getattr(now, "_metadata", None)
            and all(same(value, now[key]) for key, value in was.items())
        )
    if isinstance(was, list | tuple):
        return type(was) is type(now) and len(was) == len(now) and all(map(same, was, now))
    if isinstance(was, float) and isinstance(now, float):
        return was.hex() == now.hex()
    return type(was) is type(now) and bool(was == now)


def same_tensor(was: torch.Tensor, now: torch.Tensor) -> bool:
    was = was.detach()
    dense = torch.empty_like(was, memory_format=torch.preserve_format)
    both_contiguous = now.is_contiguous() and dense.is_contiguous()
    return (
        (was.dtype, was.shape) == (now.dtype, now.shape)
        and torch.equal(bits(was), bits(now))
        and (now.numel() == 0 or now.stride() == dense.stride() or both_contiguous)
    )
