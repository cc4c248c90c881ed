"""What a store of blobs is: the Protocol, its values and its errors.

A store keeps bytes under paths. Every write is whole or absent for every reader, durable once it
returns, and can be made create-only; of many who create the same path at once, one succeeds. All
else (one writer per run, checkpoints that commit) is built on that.
`crown_exp.testing.StoreContract` tests a store for it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from crown_exp.errors import StoreError


class NotFound(StoreError):
    """There is no blob at the path."""


class AlreadyExists(StoreError):
    """There is a blob at the path, and the write was create-only."""


class WrongSize(StoreError):
    """The blob has another size than was asked for."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A blob as it is listed: its path, its size in bytes, when it was last written (UTC)."""

    path: str
    size: int
    modified: datetime


Entries = list[Entry]
Names = list[str]
"""As a store's method is named `list`, its class cannot spell these types."""

HIDDEN = ".crown-"
"""Names that begin so are the stores' own: never listed, refused as paths."""

LONGEST_LINK_S = 7 * 24 * 3600.0
"""S3 makes no link that is good for longer."""

CLOCK = f"{HIDDEN}clock"
"""What a remote store writes anew to learn its server's time."""

# S3 takes no half of a surrogate pair, and no terminal shows control characters.
_UNSPEAKABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


class BlobStore(Protocol):
    """Bytes under paths.

    A path is relative to the store's root, POSIX, of names parted by single slashes; `.`, `..`, a
    slash at either end and control characters are refused (StoreError, as `checked` does). A path
    cannot be both a blob and a folder of blobs. Every method raises StoreError, with one line made
    for the user, if the store cannot be reached, read or written.
    """

    url: str

    async def put(self, path: str, data: bytes | memoryview, *, create: bool = False) -> None:
        """Write a blob: readers see the old bytes or the new, never a part; durable on return.

        With `create`, raises AlreadyExists if the path has a blob, and leaves that as it is.
        """

    async def get(self, path: str) -> bytes:
        """The bytes of a blob. Raises NotFound."""

    async def prepare(self) -> None:
        """Called once by who is about to make runs here: whether the store is fit for that.

        Raises SettingsError, with what to set, if it never will be as it is set (no such place, another's
        place, no create-only writes); StoreError if it cannot be told now.
        """

    async def get_into(self, path: str, buffer: memoryview, *, start: int | None = None) -> None:
        """Read a blob into `buffer`, which it must fill. Raises NotFound; WrongSize if it does not.

        start: read what begins at this byte instead, of which the blob may have more; WrongSize if it has less.
        buffer: writable, of bytes. What is in it after an error is not defined.
        """

    async def copy(self, source: str, target: str) -> None:
        """Make `target` the bytes that `source` has, as `put` would, without reading them here.

        Raises NotFound if there is no `source`. On a file system both may become one file: only for
        blobs that are replaced as a whole, never appended to.
        """

    async def list(self, prefix: str) -> Entries:
        """All blobs whose path begins with `prefix` (the string: `a/b` finds `a/bc/d`), by path."""

    async def folders(self, prefix: str) -> Names:
        """The names of the folders right below `prefix`, which is empty or ends in a slash, sorted.

        A folder is what has a blob below it; one whose blobs were deleted may still be named.
        Costs one look, however many blobs there are.
        """

    async def delete(self, path: str) -> None:
        """Remove a blob. One that is not there is fine."""

    async def stat(self, path: str) -> Entry:
        """A blob's entry. Raises NotFound."""

    async def now(self) -> datetime:
        """The time by the clock that tells `Entry.modified` (UTC)."""

    def local_path(self, path: str) -> Path | None:
        """Where the blob is, or would be, as a file of this machine; None if the store has none."""

    async def link(self, path: str, seconds: float, *, put: bool = False) -> str | None:
        """A URL by which who has no access to the store reads this one blob, or with `put` writes it.

        `https://…` for a GET or a PUT, good for so many seconds, a week at the most, and no longer than the
        access it was made with; `file://…` of a file of this machine, for as long as it is there; None if the
        store has no such thing. It is a secret. Nobody asks whether there is a blob.
        """


def checked(path: str) -> str:
    """`path` itself, if it is one for a blob. Raises StoreError if not."""
    if any(name in ("", ".", "..") for name in path.split("/")) or _UNSPEAKABLE.search(path):
        raise StoreError(f"not a path within a store: {path!r}")
    if is_hidden(path):
        raise StoreError(f"names that begin with {HIDDEN} are the store's own: {path!r}")
    return path


def is_hidden(path: str) -> bool:
    """Whether a path is one of the store's own."""
    return any(name.startswith(HIDDEN) for name in path.split("/"))


def checked_prefix(prefix: str) -> str:
    """`prefix` itself, if paths can begin with it. Raises StoreError if not."""
    if "/" in prefix:
        checked(prefix.rpartition("/")[0])
    return prefix


def checked_folder(prefix: str) -> str:
    """`prefix` itself, if it is empty or ends in a slash. Raises StoreError if not."""
    if prefix and not prefix.endswith("/"):
        raise StoreError(f"not a folder within a store (it must end in a slash): {prefix!r}")
    return checked_prefix(prefix)


def wrong_size(path: str, where: str, size: int, wanted: int, start: int | None) -> WrongSize:
    """The error of a blob of `size` bytes, of which `wanted` were asked for, from `start` on."""
    asked = f"{wanted}" if start is None else f"{wanted} from byte {start} on"
    return WrongSize(f"{path} in {where} has {size} bytes, not {asked}")
