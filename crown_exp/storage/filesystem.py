"""A file system of fsspec's kind, as a store calls it: awaited, and with what it tells in one form."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

from crown_exp.storage.parallel import left_behind

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_TIMES = ("LastModified", "last_modified", "updated", "mtime", "modified", "created")
"""What file systems call the time of the last write, in what `info` gives."""

_CREATES = Lock()
"""Held while a file system that has no server makes a blob: it looks, and then writes."""

Info = dict[str, Any]
"""What a file system tells of a file or folder: name, type, size, and what it likes."""

Work = Callable[[], Awaitable[Any]]


class FileSystem:
    """system: of fsspec's kind, synchronous or not."""

    def __init__(self, system: AbstractFileSystem) -> None:
        self.system = system

    @property
    def name(self) -> str:
        """What its class is called."""
        return type(self.system).__name__

    def key(self, url: str, path: str) -> str:
        """What it calls a path below a URL."""
        root = str(self.system._strip_protocol(url)).rstrip("/")
        return f"{root}/{path}" if path else root

    def takes(self, method: str, name: str) -> bool:
        """Whether a method of it has a parameter of this name."""
        act = getattr(self.system, f"_{method}" if self.system.async_impl else method)
        return name in inspect.signature(act).parameters

    def work(self, method: str, *args: object, **kwargs: object) -> Work:
        """A method of it, to be awaited: in its own event loop, or in a thread."""
        system = self.system
        if system.async_impl:
            # As a coroutine it ends when its deadline does; a thread would go on.
            begin = partial(getattr(system, f"_{method}"), *args, **kwargs)
            return partial(_in_loop, system, begin)
        act = partial(getattr(system, method), *args, **kwargs)
        return partial(left_behind, partial(_alone, act) if kwargs.get("mode") == "create" else act)


async def _in_loop(system: AbstractFileSystem, begin: Callable[[], Any]) -> Any:
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(begin(), system.loop))


def _alone(act: Callable[[], Any]) -> Any:
    with _CREATES:
        return act()


def base_name(info: Info) -> str:
    """The last name of a file or folder."""
    return str(info["name"]).rstrip("/").rpartition("/")[2]


def written(info: Info) -> datetime | None:
    """When a file was last written (UTC), in whole seconds, as some file systems tell no more everywhere.

    None if it is not told.
    """
    told = next((info[name] for name in _TIMES if info.get(name)), None)
    if told is None:
        return None
    if isinstance(told, str):
        told = datetime.fromisoformat(told)
    if isinstance(told, datetime):
        told = told if told.tzinfo else told.replace(tzinfo=UTC)
        return told.astimezone(UTC).replace(microsecond=0)
    return datetime.fromtimestamp(int(told), UTC)


def writes_through_open(system: AbstractFileSystem) -> bool:
    """Whether writing a whole file is left to the base class of fsspec, which does it through `open`."""
    from fsspec import AbstractFileSystem
    from fsspec.asyn import AsyncFileSystem

    inner = getattr(system, "fs", None)
    if isinstance(inner, AbstractFileSystem) and inner is not system:  # a wrapper, as dir://
        return writes_through_open(inner)
    kind = type(system)
    if system.async_impl:
        return getattr(kind, "_pipe_file", None) is AsyncFileSystem._pipe_file
    return kind.pipe_file is AbstractFileSystem.pipe_file
