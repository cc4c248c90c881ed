"""The files that git does not know: chosen, read, and packed to equal bytes for equal files."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath

from crown_exp.config.secrets import guard_text
from crown_exp.errors import Problem

MAX_FILE = 5_000_000
"""Bytes; a larger file is data, not code."""

MAX_ARCHIVE = 50_000_000
"""Bytes of all files of an archive together, before compression."""

MAX_FILES = 10_000
"""Files of an archive."""

MAX_LISTED = 50_000
"""Files that are looked at where no git says which ones matter."""

_CODE = frozenset({".py", ".pyi", ".yaml", ".yml", ".toml", ".cfg", ".ini", ".sh"})
ALWAYS_IGNORED = frozenset({".git", ".venv", "venv", "__pycache__", "node_modules", ".crown"})
"""Names of files and folders that are no code, even where git does not ignore them."""

_IGNORED_WITHOUT_GIT = ALWAYS_IGNORED | {"dist", "build"}
ENVIRONMENT = "pyvenv.cfg"
"""The file by which a virtual environment is known."""


@dataclass(frozen=True)
class File:
    """A file of an archive. link: what it points to, if it is a symbolic link."""

    path: str
    executable: bool = False
    data: bytes = b""
    link: str | None = None


@dataclass
class Taken:
    """What a pass over a project's files found.

    files: by path. skipped: (path, why) of what belongs to the project and was left out.
    problems: the secrets in what would have been taken.
    """

    files: list[File] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def take(
        self, root: Path, paths: Sequence[str], secrets: Mapping[str, str], *, text_only: bool
    ) -> None:
        """Read files: source code first, then from small to large until the archive is full."""
        room = MAX_ARCHIVE
        sizes = self._candidates(root, paths)
        for path in sorted(sizes, key=lambda path: (not _is_code(path), sizes[path], path)):
            if sizes[path] > room or len(self.files) >= MAX_FILES:
                self.skipped.append((path, _full()))
                continue
            try:
                file = read(root, path)
            except OSError as error:
                self.skipped.append((path, f"cannot be read: {error.strerror}"))
                continue
            if why := _unfit(file, text_only):
                self.skipped.append((path, why))
            elif problem := guard_text(path, file.data, secrets):
                self.problems.append(problem)
            else:
                self.files.append(file)
                room -= len(file.data)
        self.files.sort(key=lambda file: file.path)

    def _candidates(self, root: Path, paths: Sequence[str]) -> dict[str, int]:
        """Path and size of what may be taken."""
        environments = {
            folder
            for path in map(PurePosixPath, paths)
            if path.name == ENVIRONMENT and (folder := path.parent).parts
        }
        self.skipped += [(f"{folder}/", "a virtual environment") for folder in environments]
        sizes = {}
        for path in paths:
            if ALWAYS_IGNORED.intersection(path.split("/")) or environments.intersection(
                PurePosixPath(path).parents
            ):
                continue
            try:
                status = (root / path).lstat()
            except OSError:  # tracked and deleted, or gone since it was listed
                continue
            if why := _no_candidate(status):
                self.skipped.append((path, why))
            else:
                sizes[path] = status.st_size
        return sizes


def walk(root: Path, excluded: Sequence[str], taken: Taken) -> list[str]:
    """Files and links below a root that no git describes, relative to it; shallow ones first."""
    found = [*islice(_walk(root, frozenset(excluded)), MAX_LISTED + 1)]
    if len(found) > MAX_LISTED:
        taken.skipped.append(
            ("…", f"more than {MAX_LISTED} files, and no git to say which ones are code")
        )
    return found[:MAX_LISTED]


def pack(files: Sequence[File]) -> bytes:
    """A tar.gz of the files: owner 0, time 0, mode 755 or 644; links as links."""
    import gzip
    import io
    import tarfile

    buffer = io.BytesIO()
    with (
        gzip.GzipFile(filename="", fileobj=buffer, mode="wb", compresslevel=6, mtime=0) as packed,
        tarfile.open(
            fileobj=packed,
            mode="w",
            format=tarfile.GNU_FORMAT,
            encoding="utf-8",
            errors="surrogateescape",
        ) as archive,
    ):
        for file in files:
            entry = tarfile.TarInfo(file.path)
            entry.mode = 0o755 if file.executable else 0o644
            entry.size = len(file.data)
            if file.link is not None:
                entry.type, entry.linkname = tarfile.SYMTYPE, file.link
            archive.addfile(entry, io.BytesIO(file.data))
    return buffer.getvalue()


def is_binary(data: bytes) -> bool:
    """As git sees it: there is a zero among the first bytes."""
    return b"\0" in data[:8000]


def too_large(size: int) -> str:
    """Why a file of so many bytes is left out."""
    return f"{size / 1e6:.1f} MB, over the {MAX_FILE / 1e6:g} MB a file may have"


def _walk(root: Path, excluded: frozenset[str]) -> Iterator[str]:
    folders = deque([root])
    while folders:
        folder = folders.popleft()
        try:
            inner = {path.name: path for path in sorted(folder.iterdir())}
        except OSError:  # not ours to read
            continue
        if ENVIRONMENT in inner and folder != root:
            inner = {ENVIRONMENT: inner[ENVIRONMENT]}
        for name, path in inner.items():
            relative = path.relative_to(root).as_posix()
            if relative in excluded or name.startswith(".env"):
                continue
            if path.is_symlink() or not path.is_dir():
                yield relative
            elif not name.startswith(".") and name not in _IGNORED_WITHOUT_GIT:
                folders.append(path)


def read(root: Path, path: str) -> File:
    """A file or link below the root. Raises OSError."""
    full = root / path
    if full.is_symlink():
        return File(path, link=str(full.readlink()))
    return File(path, bool(full.stat().st_mode & 0o100), full.read_bytes())


def _no_candidate(status: os.stat_result) -> str | None:
    if stat.S_ISDIR(status.st_mode):
        return "a repository of its own"
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISLNK(status.st_mode):
        return "not a file"
    return too_large(status.st_size) if status.st_size > MAX_FILE else None


def _unfit(file: File, text_only: bool) -> str | None:
    if text_only and is_binary(file.data):
        return "binary, and no git to say that it is code"
    if file.link is not None:
        target = os.path.normpath(PurePosixPath(file.path).parent / file.link)
        if target.startswith("/") or PurePosixPath(target).parts[:1] == ("..",):
            return "a link out of the project"
    return None


def _is_code(path: str) -> bool:
    return PurePosixPath(path).suffix in _CODE


def _full() -> str:
    return f"over the {MAX_ARCHIVE / 1e6:g} MB or {MAX_FILES} files that untracked code may have"
