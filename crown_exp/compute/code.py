"""The code of a run: an exact snapshot of the project, and the hash of what the run imported.

A snapshot is a commit, the patch from it to the files as they are, and the files git does not know.
To have the project's files again: check the commit out, `git apply` the patch at the top of the
work tree, then unpack the archive in the project's root. Without git all is in the archive.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from crown_exp.compute import archive
from crown_exp.compute.archive import File, Taken
from crown_exp.compute.git import Repository, find_repository
from crown_exp.config.secrets import guard_text
from crown_exp.errors import ConfigError, Problem
from crown_exp.identity import canonical_json

CODE_VERSION = "v1"

_PACKED = b"\nGIT binary patch\n"


@dataclass(frozen=True)
class CodeSnapshot:
    """The code of a run.

    commit: HEAD, if there is one. prefix: where the project lies in the work tree ("" or "a/b/").
    dirty: the commit alone does not give these files.
    digest: sha256, hexadecimal, over commit, prefix, diff and every file of the archive.
    diff: for `git apply` at the top of the work tree, not below it.
    untracked: a tar.gz with paths relative to the project's root; equal bytes for equal files.
    lock: the installed packages, as `installed()` gives them; no part of the digest.
    skipped: (path, why) of what was left out although it belongs to the project, by path.
    """

    commit: str | None
    prefix: str
    dirty: bool
    digest: str
    diff: bytes
    untracked: bytes
    lock: bytes
    skipped: tuple[tuple[str, str], ...]


def snapshot(root: Path, exclude: Sequence[Path], secrets: Mapping[str, str]) -> CodeSnapshot:
    """The project's code as it is now.

    exclude: directories or files to leave out ($CROWN_HOME); ignored where not inside `root`.
    secrets: name and value of those in the environment.
    Left out are `.env*`, what git ignores, files over 5 MB, repositories within (a submodule keeps
    its commit), virtual environments, and links that lead out of the project.
    Raises ConfigError, naming the files, if what would be taken holds a secret or git fails.
    """
    root = root.resolve()
    excluded = inside(root, exclude)
    repository = find_repository(root)
    taken = Taken()
    if repository is None:
        diff, changed = b"", True
        taken.take(root, archive.walk(root, excluded, taken), secrets, text_only=True)
    else:
        diff, changed = _changes(repository, excluded, secrets, taken)
        taken.take(root, repository.untracked(excluded), secrets, text_only=False)
    if taken.problems:
        raise ConfigError(taken.problems)
    commit, prefix = (repository.commit, repository.prefix) if repository else (None, "")
    return CodeSnapshot(
        commit=commit,
        prefix=prefix,
        dirty=commit is None or changed or bool(taken.files),
        digest=_digest(commit, prefix, diff, taken.files),
        diff=diff,
        untracked=archive.pack(taken.files),
        lock=installed(),
        skipped=tuple(sorted(taken.skipped)),
    )


def imported_files(root: Path, modules: Mapping[str, ModuleType] | None = None) -> dict[str, str]:
    """Path (relative to `root`, POSIX) and sha256 of every project file that is imported now.

    Installed packages are none, even if their environment lies in the project. The files are read
    as they are on disk now. modules: sys.modules unless given.
    """
    # a module's path may or may not go through the links that lead to the project
    bases = {f"{base}{os.sep}": base for base in (root.absolute(), root.resolve())}
    environment = f"{sys.prefix}{os.sep}"
    found = {}
    for module in list((sys.modules if modules is None else modules).values()):
        file = getattr(module, "__file__", None) or os.sep
        path = file if file.startswith(os.sep) else str(Path(file).absolute())  # of thousands
        base = next((base for start, base in bases.items() if path.startswith(start)), None)
        if base is None or (path.startswith(environment) and environment not in bases):
            continue
        relative = Path(path).relative_to(base)
        if {"site-packages", "dist-packages", ".venv"}.intersection(relative.parts):
            continue
        try:
            found[relative.as_posix()] = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        except OSError:  # imported from an archive, or gone since
            continue
    return dict(sorted(found.items()))


def code_hash(files: Mapping[str, str]) -> str:
    """`v1:` and the sha256 of what `imported_files` gave."""
    return f"{CODE_VERSION}:{hashlib.sha256(canonical_json(files).encode()).hexdigest()}"


def installed() -> bytes:
    """The installed packages, `name==version` a line, sorted, after a line `# python 3.11.7`.

    Names are normalised (PEP 503); of two packages of one name the one that is imported counts.
    """
    from importlib.metadata import distributions

    versions: dict[str, str] = {}
    for package in distributions():
        # only the head is read: to parse each file as the e-mail it is costs ten times as much
        text = package.read_text("METADATA") or package.read_text("PKG-INFO") or ""
        head = dict(re.findall(r"^(Name|Version): *(\S+)", text.partition("\n\n")[0], re.M))
        if len(head) == 2:
            name = re.sub(r"[-_.]+", "-", head["Name"]).lower()
            versions.setdefault(name, head["Version"])
    python = ".".join(map(str, sys.version_info[:3]))
    lines = [f"# python {python}", *(f"{name}=={versions[name]}" for name in sorted(versions))]
    return "".join(f"{line}\n" for line in lines).encode()


def secrets_in(
    repository: Repository, diff: bytes, exclude: Sequence[str], secrets: Mapping[str, str]
) -> list[Problem]:
    """The secrets that a patch of the repository would give away. exclude: what it was made without."""
    parts = _readable(diff)
    if _PACKED in diff:
        parts += _contents(repository.root, repository.packed(exclude))
    found = (guard_text(name, text, secrets) for name, text in parts)
    return [problem for problem in found if problem]


def inside(root: Path, paths: Sequence[Path]) -> list[str]:
    """Those below the root, relative to it."""
    resolved = [path.resolve() for path in paths]
    return [
        path.relative_to(root).as_posix()
        for path in resolved
        if path != root and path.is_relative_to(root)
    ]


def _changes(
    repository: Repository, excluded: list[str], secrets: Mapping[str, str], taken: Taken
) -> tuple[bytes, bool]:
    """The patch, and whether tracked files differ at all."""
    changes = repository.changes(excluded)
    large = {change.path: change.size for change in changes if change.size > archive.MAX_FILE}
    taken.skipped += [(path, archive.too_large(size)) for path, size in large.items()]
    diff = repository.diff([*excluded, *large]) if len(large) < len(changes) else b""
    taken.problems += secrets_in(repository, diff, [*excluded, *large], secrets)
    return diff, bool(changes)


def _readable(diff: bytes) -> list[tuple[str, bytes]]:
    """File name and text of each part of a patch that is not packed."""
    parts = []
    for part in re.split(rb"^diff --git ", diff, flags=re.MULTILINE)[1:]:
        if _PACKED not in part:
            names = part.partition(b"\n")[0]  # `a/x b/x`, or both in quotes: two equal halves
            name = names[: len(names) // 2].strip(b'"').removeprefix(b"a/")
            parts.append((os.fsdecode(name), part))
    return parts


def _contents(root: Path, paths: Sequence[str]) -> list[tuple[str, bytes]]:
    files = [(path, root / path) for path in paths]
    return [
        (path, file.read_bytes())
        for path, file in files
        if file.is_file() and not file.is_symlink()
    ]


def _digest(commit: str | None, prefix: str, diff: bytes, files: Sequence[File]) -> str:
    parts = [(commit or "").encode(), os.fsencode(prefix), diff]
    for file in files:
        kind = "link" if file.link is not None else "executable" if file.executable else "file"
        parts += [os.fsencode(file.path), kind.encode(), os.fsencode(file.link or ""), file.data]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()
