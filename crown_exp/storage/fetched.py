"""A file, or a blob of any store, as a file of this machine whose bytes are known."""

from __future__ import annotations

import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from crown_exp.errors import StoreError
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
    path = Path(url.removeprefix("file://")).expanduser()
    if "://" not in str(url).removeprefix("file://"):
        try:
            return path, await in_thread(file_digest, path)
        except OSError as error:
            raise NotFound((error.strerror or str(error)).lower()) from None
    place, _, name = url.rpartition("/")
    return await fetched(open_blobs(place, access), name, folder, digest)


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
    part = folder / f".{os.getpid()}.part"
    hashed, buffer = sha256(), memoryview(bytearray(min(PIECE, size)))
    try:
        with part.open("wb") as file:
            for start in range(0, size, PIECE):
                piece = buffer[: min(PIECE, size - start)]
                await blobs.get_into(path, piece, start=start)
                await in_thread(hashed.update, piece)
                await in_thread(file.write, piece)
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


def file_digest(path: Path) -> str:
    """The sha256 of a file's bytes, hexadecimal."""
    hashed = sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            hashed.update(piece)
    return hashed.hexdigest()
