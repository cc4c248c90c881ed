"""What travels to a machine that does not see this one's files, as a folder that is sent as it is.

<folder>/<digest>/ code.tar.gz  lock.txt  crown_exp-<version>-py3-none-any.whl
                   start.py  environment.py  bundle.json

Equal for all runs of a sweep, and for all launches between two edits.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import site
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any, Literal

from crown_exp.compute import archive
from crown_exp.compute.archive import File
from crown_exp.compute.lock import Lock, make_lock
from crown_exp.compute.tree import project_tree
from crown_exp.compute.wheel import Wheel, own_wheel
from crown_exp.identity import canonical_json

CODE, LOCK, FACTS = "code.tar.gz", "lock.txt", "bundle.json"
PROGRAMS = ("start.py", "environment.py")
VERSION = 1
IMAGE = "image"


KEPT_DAYS = 60
"""After so many days without a job that begins in it a bundle is deleted; on a cluster jobs run in them."""


@dataclass(frozen=True)
class Bundle:
    """What travels.

    folder: where it lies here, named by its digest. digest: sha256 over all that is in it, hexadecimal.
    environment: the key of the environment, sha256 of lock.txt; `image`: it has none, the machine's Python
    is used. size: bytes. skipped: (what, why) of files and packages that stay here although they belong to
    the project or are installed.
    """

    folder: Path
    digest: str
    environment: str
    size: int
    skipped: tuple[tuple[str, str], ...]


def make_bundle(
    root: Path,
    folder: Path,
    *,
    exclude: Sequence[Path],
    secrets: Mapping[str, str],
    environment: Literal["lock", "image"] = "lock",
) -> Bundle:
    """The bundle of a project as it is now, in `folder`; one that is there already is used.

    exclude: what stays here ($CROWN_HOME). secrets: name and value of those in the environment. environment:
    `compute.environment`. Raises ConfigError, before anything is written, if the project is too large or holds
    a secret; CrownError if crown_exp's own files are gone.
    """
    root = root.resolve()
    tree = project_tree(root, [*exclude, folder], secrets)
    lock = make_lock(root, _installed(root)) if environment == "lock" else None
    wheel = own_wheel()
    programs = {name: Path(__file__).with_name(name).read_bytes() for name in PROGRAMS}
    facts = {
        "version": VERSION,
        "environment": lock.key if lock else IMAGE,
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "paths": _import_paths(root),
        "wheel": wheel.name,
    }
    digest = _digest(facts, tree.files, wheel, programs)
    target = folder / digest
    if not _is_whole(target):
        _write(target, {**facts, "digest": digest}, _contents(tree.files, lock, wheel, programs))
    os.utime(target)
    _forget(folder, target)
    return Bundle(
        folder=target,
        digest=digest,
        environment=str(facts["environment"]),
        # not all that lies there: on a shared file system jobs begin in this folder
        size=sum((target / name).stat().st_size for name in (FACTS, *_files(target))),
        skipped=(*tree.skipped, *(lock.left_out if lock else ())),
    )


def _contents(
    files: Sequence[File], lock: Lock | None, wheel: Wheel, programs: Mapping[str, bytes]
) -> dict[str, bytes]:
    locked = {LOCK: lock.text.encode()} if lock else {}
    return {CODE: archive.pack(files), wheel.name: wheel.pack(), **programs, **locked}


def _digest(
    facts: Mapping[str, Any], files: Sequence[File], wheel: Wheel, programs: Mapping[str, bytes]
) -> str:
    """Over the contents, not over how they are packed; the lock is in the facts by its key."""
    digest = hashlib.sha256()

    def add(*parts: bytes) -> None:
        for part in parts:
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)

    add(canonical_json(facts).encode(), *programs.values())
    for file in files:
        kind = b"link" if file.link is not None else b"executable" if file.executable else b"file"
        add(os.fsencode(file.path), kind, os.fsencode(file.link or ""), file.data)
    add(b"wheel")
    for name, data in wheel.files.items():
        add(name.encode(), data)
    return digest.hexdigest()


def _is_whole(target: Path) -> bool:
    """Whether a bundle is there with the bytes that it was written with."""
    try:
        return all(_sha256(target / name) == digest for name, digest in _files(target).items())
    except (OSError, ValueError):
        return False


def _files(target: Path) -> dict[str, str]:
    """Name and sha256 of what a bundle was written with."""
    files: dict[str, str] = json.loads((target / FACTS).read_bytes())["files"]
    return files


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(target: Path, facts: Mapping[str, Any], contents: Mapping[str, bytes]) -> None:
    """Make the folder, at once or not at all; another process may be making the same."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=".part-", dir=target.parent))
    try:
        for name, data in contents.items():
            (part / name).write_bytes(data)
        files = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
        text = json.dumps({**facts, "files": files}, indent=1, sort_keys=True)
        (part / FACTS).write_text(f"{text}\n", encoding="utf-8")
        part.chmod(0o755)  # a temporary folder is only ours
        if target.exists() and not _is_whole(target):
            shutil.rmtree(target)
        try:
            part.rename(target)
        except OSError:
            if not _is_whole(target):
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _forget(folder: Path, used: Path) -> None:
    """Delete bundles that nobody made anew and no job began in for a long time."""
    before = time.time() - KEPT_DAYS * 86400
    for path in folder.iterdir():
        try:
            if path != used and path.stat().st_mtime < before:
                shutil.rmtree(path, ignore_errors=True)
        except OSError:  # another process was quicker
            continue


def _installed(root: Path) -> Iterator[Distribution]:
    """What is installed, without what only lies in the project (which the current directory may show)."""
    prefix = Path(sys.prefix).resolve()
    for found in distributions():
        place = Path(str(found.locate_file(""))).resolve()
        if place.is_relative_to(prefix) or not place.is_relative_to(root):
            yield found


def _import_paths(root: Path) -> list[str]:
    """Folders of the project that are imported from because it is installed editable: `src`."""
    folders = [*site.getsitepackages(), site.getusersitepackages()]
    lines = [
        line.strip()
        for folder in folders
        for file in sorted(Path(folder).glob("*.pth"))
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines()
    ]
    paths = [Path(line).resolve() for line in lines if line.startswith(os.sep)]
    below = [path for path in paths if path != root and path.is_relative_to(root) and path.is_dir()]
    return sorted({path.relative_to(root).as_posix() for path in below})
