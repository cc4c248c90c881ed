"""All storage of a process behind one door."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from types import TracebackType

from crown_exp.errors import StoreError
from crown_exp.storage.base import BlobStore
from crown_exp.storage.urls import open_blobs


class StorageManager:
    """`async with StorageManager(root) as storage`: what is opened lives that long.

    root, access: as `open_blobs` takes them. Raises SettingsError if it names none.
    """

    def __init__(self, root: str, access: Mapping[str, str] | None = None) -> None:
        self.blobs: BlobStore = open_blobs(root, access)

    async def __aenter__(self) -> StorageManager:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing to close: a store of blobs holds nothing open between calls."""

    async def health(self) -> dict[str, str]:
        """Each part's name, with `ok` or one line on what is wrong. Never raises StoreError."""
        return {"blobs": await _health(self.blobs)}


async def _health(blobs: BlobStore) -> str:
    """Write, read and remove a blob that nobody else has."""
    path, data = f"health/{secrets.token_hex(8)}", secrets.token_bytes(16)
    try:
        await blobs.put(path, data, create=True)
        found = await blobs.get(path)
        await blobs.delete(path)
    except StoreError as error:
        return str(error)
    return "ok" if found == data else f"{blobs.url} returns other bytes than were written"
