"""What differs between the code of two runs: files, with lines added and removed.

Where the repository has both commits, git makes a tree of each snapshot (in a directory of its own; nothing is
written into the repository) and compares them. Else files are compared as far as the snapshots hold them.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

from crown_exp.compute.archive import File, is_binary
from crown_exp.config.settings import git_environment
from crown_exp.errors import CrownError
from crown_exp.folder import RunPaths
from crown_exp.storage import BlobStore, NotFound

COUNTED = 200_000
"""Bytes of a file up to which lines are counted where there is no git to do it."""


class NoTree(CrownError):
    """Git cannot make the tree of a snapshot: the commit is of another repository, say."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The code of a run as its folder has it: see `crown_exp.compute.code`. prefix: "" or "a/b/"."""

    commit: str | None
    prefix: str
    diff: bytes
    untracked: bytes


@dataclass(frozen=True, slots=True)
class Changed:
    """A file that differs: lines that came and went; None if they cannot be counted."""

    path: str
    added: int | None = None
    removed: int | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """Files that differ, by path. whole: False if only what differs from the two commits was compared."""

    files: tuple[Changed, ...]
    whole: bool = True


async def read_snapshot(blobs: BlobStore, run_id: str) -> Snapshot | None:
    """The code of a run; None if its folder has none. Raises StoreError if that cannot be read."""
    paths = RunPaths(run_id)
    try:
        head = (await blobs.get(paths.code_commit)).decode("utf-8", "surrogateescape").split("\n")
        diff, untracked = await blobs.get(paths.code_diff), await blobs.get(paths.code_untracked)
    except NotFound:
        return None
    return Snapshot(head[0] or None, head[1] if len(head) > 1 else "", diff, untracked)


def difference(root: Path, old: Snapshot, new: Snapshot) -> Difference:
    """What became of the files from `old` to `new`. root: a directory of the repository, if there is one.

    Raises CrownError if an archive is damaged.
    """
    if old.commit is None and new.commit is None:
        return _of_files(_files(old.untracked), _files(new.untracked))
    try:
        return _of_trees(root, old, new)
    except (NoTree, OSError):
        return Difference(_of_parts(_parts(old), _parts(new)), whole=False)


# --- by git -------------------------------------------------------------------------------------------


def _of_trees(root: Path, old: Snapshot, new: Snapshot) -> Difference:
    top, common = _git(root, {}, "rev-parse", "--show-toplevel", "--git-common-dir").splitlines()
    objects = (root / os.fsdecode(common) / "objects").resolve()
    with tempfile.TemporaryDirectory(prefix="crown-exp-") as folder:
        scratch, work = Path(folder), Path(os.fsdecode(top))
        (scratch / "objects").mkdir()
        extra = {
            "GIT_OBJECT_DIRECTORY": str(scratch / "objects"),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(objects),
        }
        trees = [_tree(work, scratch, extra, one) for one in (old, new)]
        options = ("--numstat", "-z", "--no-renames", "--no-ext-diff", "--no-textconv")
        where = (old.prefix,) if old.prefix and old.prefix == new.prefix else ()
        found = _git(work, extra, "diff", *options, *trees, "--", *where)
    return Difference(tuple(map(_changed, found.split(b"\0")[:-1])))


def _changed(line: bytes) -> Changed:
    added, removed, path = line.split(b"\t", 2)
    if added == b"-":
        return Changed(os.fsdecode(path))
    return Changed(os.fsdecode(path), int(added), int(removed))


def _tree(work: Path, scratch: Path, extra: Mapping[str, str], snapshot: Snapshot) -> str:
    """The tree of a snapshot: the commit, the patch, then the files that git did not know."""
    if snapshot.commit is None:
        raise NoTree("no commit")
    env = {**extra, "GIT_INDEX_FILE": str(scratch / "index")}
    _git(work, env, "read-tree", snapshot.commit)
    if snapshot.diff:
        _git(work, env, "apply", "--cached", "--whitespace=nowarn", stdin=snapshot.diff)
    files = list(_files(snapshot.untracked).values())
    for number, file in enumerate(files):  # by number: a name may lead anywhere
        (scratch / str(number)).write_bytes(os.fsencode(file.link) if file.link else file.data)
    names = "".join(f"{scratch / str(number)}\n" for number in range(len(files)))
    blobs = _git(
        work, env, "hash-object", "-w", "--no-filters", "--stdin-paths", stdin=names.encode()
    )
    entries = [
        f"{_mode(file)} {blob}\t{snapshot.prefix}{file.path}\0"
        for file, blob in zip(files, blobs.decode().split(), strict=True)
    ]
    _git(
        work,
        env,
        "update-index",
        "-z",
        "--add",
        "--replace",
        "--index-info",
        stdin=os.fsencode("".join(entries)),
    )
    return _git(work, env, "write-tree").decode().strip()


def _mode(file: File) -> str:
    return "120000" if file.link else "100755" if file.executable else "100644"


def _git(where: Path, extra: Mapping[str, str], *command: str, stdin: bytes = b"") -> bytes:
    """What git says. Raises NoTree if it refuses, or is not there."""
    answer = subprocess.run(
        ["git", *command], cwd=where, env={**git_environment(), **extra}, input=stdin,
        capture_output=True, check=False,
    )  # fmt: skip
    if answer.returncode:
        raise NoTree(answer.stderr.decode(errors="replace").strip())
    return answer.stdout


# --- by what the snapshots hold -----------------------------------------------------------------------


def _files(archive: bytes) -> dict[str, File]:
    """The files of an archive, by path. Raises CrownError if it is damaged."""
    found = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), errors="surrogateescape") as packed:
            for entry in packed:
                data = packed.extractfile(entry) if entry.isfile() else None
                link = entry.linkname if entry.issym() else None
                found[entry.name] = File(
                    entry.name, bool(entry.mode & 0o100), data.read() if data else b"", link
                )
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise CrownError(f"the archive of a run's untracked files is damaged: {error}") from None
    return found


def _of_files(old: Mapping[str, File], new: Mapping[str, File]) -> Difference:
    changed = [path for path in sorted(old.keys() | new.keys()) if old.get(path) != new.get(path)]
    return Difference(tuple(_counted(path, old.get(path), new.get(path)) for path in changed))


def _counted(path: str, old: File | None, new: File | None) -> Changed:
    """A file with lines that came and went."""
    before, after = (one.data if one else b"" for one in (old, new))
    if len(before) + len(after) > COUNTED or is_binary(before) or is_binary(after):
        return Changed(path)
    one, other = before.splitlines(), after.splitlines()
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    same = sum(block.size for block in matcher.get_matching_blocks())
    return Changed(path, len(other) - same, len(one) - same)


def _parts(snapshot: Snapshot) -> dict[str, object]:
    """Everything by which a snapshot differs from its commit, by path."""
    found: dict[str, object] = {}
    for part in re.split(rb"^diff --git ", snapshot.diff, flags=re.MULTILINE)[1:]:
        names = part.partition(b"\n")[0]  # `a/x b/x`, or both in quotes: two equal halves
        found[os.fsdecode(names[: len(names) // 2].strip(b'"').removeprefix(b"a/"))] = part
    files = _files(snapshot.untracked)
    return found | {f"{snapshot.prefix}{path}": file for path, file in files.items()}


def _of_parts(old: Mapping[str, object], new: Mapping[str, object]) -> tuple[Changed, ...]:
    names = sorted(old.keys() | new.keys())
    return tuple(Changed(name) for name in names if old.get(name) != new.get(name))
