"""Whether a remote place is one for runs: ours or nobody's, and one that keeps create-only writes."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Awaitable
from typing import Protocol, TypeVar

from crown_exp.errors import CrownError, SettingsError, StoreError
from crown_exp.storage.base import HIDDEN, AlreadyExists, NotFound
from crown_exp.storage.calls import Refused
from crown_exp.storage.trouble import MIS_SET

MARKER = f"{HIDDEN}store"
FORMAT = 1

_ID = r"[A-Za-z0-9][\w.-]*"
_PARTS = (
    r"run\.json|config\.yaml|result\.json|(?:code|jobs|attempts|log|text|checkpoints|packs|files)/"
)
_OURS = re.compile(rf"{re.escape(HIDDEN)}|runs(?:/{_ID})?\Z|runs/{_ID}/(?:{_PARTS})", re.ASCII)
"""What may lie in a place without a marker that is ours: runs that were copied there, and their folders."""

T = TypeVar("T")


class Raw(Protocol):
    """A remote store beneath its checks of names: what tells whether it is fit.

    name: below the store's root. All raise as the methods of BlobStore do.
    """

    url: str

    async def write_own(self, name: str, data: bytes) -> None:
        """Write it create-only. Raises AlreadyExists."""

    async def read_own(self, name: str) -> bytes:
        """Its bytes. Raises NotFound."""

    async def first_names(self) -> list[str]:
        """Some blobs below the root, the store's own too: all, or as many as one request lists."""


async def make_fit(raw: Raw) -> None:
    """Make the place a store of runs if it is nobody's, and see that it can be one.

    Two requests where it is one already, four at first. Raises SettingsError, StoreError.
    """
    if await _set(_has_marker(raw)):
        await _set(_keeps_create_only(raw))
        return
    names = await _set(raw.first_names())
    foreign = next((name for name in names if not _OURS.match(name)), None)
    if foreign is not None:
        raise SettingsError(
            f"{raw.url} holds other things (first: {_shown(foreign)}); set CROWN_STORAGE__ROOT to an "
            f"empty prefix, as {raw.url}/crown"
        )
    try:
        await _set(raw.write_own(MARKER, _mark()))
    except AlreadyExists:
        pass  # another machine was faster
    await _set(_keeps_create_only(raw))


def _mark(**more: str) -> bytes:
    return json.dumps({"format": FORMAT} | more, separators=(",", ":")).encode()


async def _has_marker(raw: Raw) -> bool:
    try:
        mark = await raw.read_own(MARKER)
    except NotFound:
        return False
    try:
        format = json.loads(mark)["format"]
    except (ValueError, KeyError, TypeError):
        raise SettingsError(
            f"{raw.url}/{MARKER} is not what this program writes; set CROWN_STORAGE__ROOT to another prefix"
        ) from None
    if format != FORMAT:
        raise SettingsError(
            f"{raw.url} is of format {format}, and this program knows {FORMAT}: install the newer crown-exp"
        )
    return True


async def _keeps_create_only(raw: Raw) -> None:
    """The marker is there: to create it must fail. Where it does not, it is as good a marker as before.

    Bytes of its own, as a create-only write whose answer was lost succeeds where its bytes are found.
    """
    try:
        await raw.write_own(MARKER, _mark(probe=secrets.token_hex(8)))
    except AlreadyExists:
        return
    raise SettingsError(
        f"{raw.url} does not keep create-only writes (If-None-Match: *), without which two machines could "
        "write one run; set CROWN_STORAGE__ROOT to a store that does: AWS S3, MinIO, Ceph, R2, a folder"
    )


async def _set(call: Awaitable[T]) -> T:
    """What is wrong because of how things are set is the user's to mend, not the server's."""
    try:
        return await call
    except Refused as error:
        kind: type[CrownError] = SettingsError if error.trouble.kind in MIS_SET else StoreError
        raise kind(str(error)) from error


def _shown(name: str) -> str:
    return name if name.isprintable() else repr(name)
