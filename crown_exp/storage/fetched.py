"""A file, or a blob of any store, as a file of this machine whose bytes are known."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

from crown_exp.errors import SettingsError, StoreError
from crown_exp.folder.urls import file_path
from crown_exp.storage.base import BlobStore, NotFound
from crown_exp.storage.parallel import in_thread
from crown_exp.storage.urls import open_blobs

PIECE = 16 * 2**20
"""Bytes that are read at a time."""

KEPT = 3
"""Files that stay in the folder; those that were used longest ago go."""


async def as_file(
    url: str, folder: Path, access: Mapping[str, str], digest: str = ""
) -> tuple[Path, str]:
    """The file at a path or a URL, and the sha256 of its bytes; what lies in a store is fetched into `folder`.

    access: as `open_blobs` takes it. digest: how the sha256 begins, if that is known: what was fetched before
    is then used again. Raises NotFound, StoreError if it cannot be read, SettingsError for a URL that is none.
    """
    path = _local(url)
    if path is not None:
        try:
            return path, await in_thread(file_digest, path)
        except OSError as error:
            raise NotFound((error.strerror or str(error)).lower()) from None
    place, _, name = url.rpartition("/")
    return await fetched(open_blobs(place, access), name, folder, digest)


def _local(url: str) -> Path | None:
    """The file of this machine that a path or a URL names; None if a store has it."""
    if not url.lower().startswith("file://"):
        return None if "://" in url else Path(url).expanduser()
    try:
        return Path(file_path(url))
    except ValueError as error:
        raise SettingsError(str(error)) from None


async def fetched(blobs: BlobStore, path: str, folder: Path, digest: str = "") -> tuple[Path, str]:
    """The blob as a file in `folder`, with the sha256 of its bytes; one that is there already is used.

    digest: how the sha256 begins, if that is known. Raises NotFound, WrongSize if the blob changes while it is
    read, StoreError also if the folder does not take it.
    """
    ending = Path(path).suffix
    try:
        if digest:
            for known in sorted(folder.glob(f"{digest}*{ending}")):
                if known.is_file() and (whole := await in_thread(file_digest, known)) == known.stem:
                    os.utime(known)
                    return known, whole
        return await download(blobs, path, folder, ending)
    except OSError as error:
        raise StoreError(f"{folder}: {(error.strerror or str(error)).lower()}") from None


async def download(blobs: BlobStore, path: str, folder: Path, ending: str) -> tuple[Path, str]:
    """As `fetched`, whatever is there."""
    size = (await blobs.stat(path)).size
    folder.mkdir(parents=True, exist_ok=True)
    part = (
        folder / f".{secrets.token_hex(8)}.part"
    )  # of several containers, ids of processes are the same
    hashed, buffer = sha256(), memoryview(bytearray(min(PIECE, size)))
    try:
        with part.open("xb") as file:
            for start in range(0, size, PIECE):
                piece = buffer[: min(PIECE, size - start)]
                await blobs.get_into(path, piece, start=start)
                await in_thread(hashed.update, piece)
                await in_thread(file.write, piece)
        if await in_thread(file_digest, part) != hashed.hexdigest():
            raise StoreError(f"{folder}: this disk does not give back what was written to it")
        target = folder / f"{hashed.hexdigest()}{ending}"
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    drop_old(folder, target)
    return target, target.stem


def drop_old(folder: Path, newest: Path) -> None:
    """Remove all but the files that were used last."""
    found = [file for file in folder.iterdir() if file != newest and not file.name.startswith(".")]
    for file in sorted(found, key=lambda file: file.stat().st_mtime, reverse=True)[KEPT - 1 :]:
        file.unlink(missing_ok=True)


def file_digest(path: Path, told: Callable[[int], object] = lambda _: None) -> str:
    """The sha256 of a file's bytes, hexadecimal. told: of each piece's bytes, as it is read."""
    hashed = sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            hashed.update(piece)
            told(len(piece))
    return hashed.hexdigest()
