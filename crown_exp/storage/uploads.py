"""Data in a store under `data/<digest>/<name>`: the same bytes are there once, and are verified when fetched.

The digest is of all names and bytes: half an upload, or one that somebody changed, is told from a whole.
"""

from __future__ import annotations

import mmap
import os
import re
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath

from crown_exp.errors import ConfigError, StoreError
from crown_exp.folder.records import Damaged
from crown_exp.identity import canonical_json
from crown_exp.storage.base import BlobStore, Entry, NotFound
from crown_exp.storage.fetched import PIECE, file_digest
from crown_exp.storage.parallel import each, in_thread

DIGITS = 16
"""Of the sha256 of what is uploaded, hexadecimal."""

AT_ONCE = 8
"""Files that are sent together: of small ones each takes as long as the way there and back."""

_URL = re.compile(rf"(.+)/(data/[0-9a-f]{{{DIGITS}}}/[^/]+)/?")
_LEFT_OUT = frozenset({".crown", "__pycache__", ".DS_Store", ".git", ".ipynb_checkpoints"})

Told = Callable[[int], object]
"""Is told of so many bytes more that are done."""


@dataclass(frozen=True)
class Listing:
    """What lies at a path, before any of it is read. files, size: as in `Upload`."""

    name: str
    files: Mapping[str, Path]
    size: int


@dataclass(frozen=True)
class Upload(Listing):
    """What is to be put into a store. files: by their path below `data/<digest>/`, their place here.

    size: bytes of all of them.
    """

    digest: str

    @property
    def path(self) -> str:
        """Its path in the store."""
        return f"data/{self.digest}/{self.name}"


def parse_upload(url: str) -> tuple[str, str] | None:
    """The store and the path in it of an upload's URL; None if it is none."""
    match = _URL.fullmatch(url.strip())
    return (match[1], match[2]) if match else None


def listed(source: Path) -> Listing:
    """What lies at a path, a file or a folder. Reads none of it.

    Raises ConfigError if nothing does, or what holds secrets by its name (`.env`).
    """
    source = Path(os.path.normpath(source.absolute()))
    try:
        files = named_files(source)
        size = sum(path.stat().st_size for path in files.values())
    except OSError as error:
        raise ConfigError.of(str(source), (error.strerror or str(error)).lower()) from None
    return Listing(source.name, files, size)


def surveyed(source: Path | Listing, told: Told = lambda _: None) -> Upload:
    """What lies at a path, with its digest: reads all of it. Raises as `listed`."""
    found = source if isinstance(source, Listing) else listed(source)
    digests = {}
    for name, path in found.files.items():
        try:
            digests[name] = file_digest(path, told)
        except OSError as error:
            raise ConfigError.of(str(path), (error.strerror or str(error)).lower()) from None
    return Upload(found.name, found.files, found.size, digest_of(digests))


def named_files(source: Path) -> dict[str, Path]:
    """The files at a path by their names from its own on. Raises ConfigError, OSError."""
    if source.is_dir():
        inner = (
            path for path in sorted(source.rglob("*"))
            if path.is_file() and _LEFT_OUT.isdisjoint(path.relative_to(source).parts)
        )  # fmt: skip
        files = {f"{source.name}/{path.relative_to(source).as_posix()}": path for path in inner}
    else:
        source.stat()
        files = {source.name: source} if source.is_file() else {}
    if not files or not source.name:
        raise ConfigError.of(str(source), "expected a file, or a folder with files in it")
    for name in files:
        base = PurePosixPath(name).name
        if base.startswith(".env") and base != ".env.example":
            raise ConfigError.of(name, "is where secrets are kept; they belong in no store")
    return files


def digest_of(digests: Mapping[str, str]) -> str:
    """Of an upload, by the sha256 of each of its files."""
    return sha256(canonical_json(digests).encode()).hexdigest()[:DIGITS]


async def send(blobs: BlobStore, upload: Upload, told: Told = lambda _: None) -> int:
    """Put what is not there yet into a store, some at once; how many files that were. Raises StoreError."""
    known = {entry.path: entry.size for entry in await blobs.list(f"data/{upload.digest}/")}
    sent = 0

    async def one(item: tuple[str, Path]) -> None:
        nonlocal sent
        name, path = item
        target, size = f"data/{upload.digest}/{name}", path.stat().st_size
        if known.get(target) != size:
            await send_file(blobs, target, path, size)
            sent += 1
        told(size)

    await each(one, upload.files.items(), at_once=AT_ONCE)
    return sent


async def send_file(blobs: BlobStore, target: str, path: Path, size: int) -> None:
    """One file, which is not read into memory as a whole."""
    if size == 0:
        await blobs.put(target, b"")
        return
    try:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as view,
        ):
            await blobs.put(target, view)
    except OSError as error:
        raise StoreError(f"{path}: {(error.strerror or str(error)).lower()}") from None


async def fetch(blobs: BlobStore, path: str, folder: Path, told: Told = lambda _: None) -> Path:
    """What was uploaded to a path of a store, on this machine: in the store itself, or once in `folder`.

    Raises NotFound; Damaged if it is not whole, or not what was uploaded; StoreError also if the folder does
    not take it.
    """
    local = blobs.local_path(path)
    if local is not None:
        if not local.exists():
            raise NotFound(f"there is no {path} in {blobs.url}")
        return local
    _, digest, name = path.split("/")
    target = folder / digest
    if not target.exists():
        part = folder / f".{secrets.token_hex(8)}.part"
        try:
            await download(blobs, digest, part, told)
            keep(part, target)
        except OSError as error:
            raise StoreError(f"{folder}: {(error.strerror or str(error)).lower()}") from None
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return target / name


async def download(blobs: BlobStore, digest: str, folder: Path, told: Told) -> None:
    """All of an upload into a folder. Raises as `fetch`."""
    prefix = f"data/{digest}/"
    entries = await blobs.list(prefix)
    if not entries:
        raise NotFound(f"there is no {prefix} in {blobs.url}")
    digests = {}
    for entry in entries:
        name = entry.path.removeprefix(prefix)
        digests[name] = await copy_out(blobs, entry, folder / name)
        told(entry.size)
    if digest_of(digests) != digest:
        raise Damaged(
            f"{blobs.url}/{prefix}: is not whole, or not what was uploaded; upload it once more"
        )


async def copy_out(blobs: BlobStore, entry: Entry, target: Path) -> str:
    """A blob as a file; the sha256 of its bytes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    hashed, buffer = sha256(), memoryview(bytearray(min(PIECE, entry.size)))
    with target.open("xb") as file:
        for start in range(0, entry.size, PIECE):
            piece = buffer[: min(PIECE, entry.size - start)]
            await blobs.get_into(entry.path, piece, start=start)
            await in_thread(hashed.update, piece)
            await in_thread(file.write, piece)
    return hashed.hexdigest()


def keep(part: Path, target: Path) -> None:
    """Give a folder its name, unless another process was quicker."""
    try:
        part.rename(target)
    except OSError:
        if not target.is_dir():
            raise
