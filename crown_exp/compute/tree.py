"""Every file of a project as it is now: what a machine gets that does not see this one's files.

A run's record may leave out what is too large or no code (`compute.code`); a job that runs without it would
fail, or do something else. So here nothing is left out for its size: what does not fit is refused.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from crown_exp.compute import archive
from crown_exp.compute.archive import File, Taken
from crown_exp.compute.code import inside, secrets_in
from crown_exp.compute.git import Repository, find_repository
from crown_exp.config.secrets import guard_text
from crown_exp.errors import ConfigError, Problem

MAX_FILE = 50_000_000
"""Bytes of one file that travels."""

MAX_TREE = 200_000_000
"""Bytes of all files that travel, before compression."""

MAX_FILES = 20_000
SHOWN = 5
"""So many of the largest files are named where they are too many or too large."""

NO_CHECKOUT = "a submodule that is not checked out: git submodule update --init"


@dataclass
class Tree:
    """The files of a project.

    files: by path, relative to the root. skipped: (path, why) of what stays here, by path.
    """

    files: list[File] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)


def project_tree(root: Path, exclude: Sequence[Path], secrets: Mapping[str, str]) -> Tree:
    """What git tracks (as it is on disk) and what it neither tracks nor ignores; also in repositories within.

    exclude: directories or files to leave out; ignored where not inside `root`. secrets: name and value of
    those in the environment. Left out are `.env*`, and, if not tracked, virtual environments, caches and what
    is no file. Without git it is what `archive.walk` finds. Raises ConfigError, naming the files, if they are
    too large, cannot be read, or hold a secret that git does not have yet.
    """
    root = root.resolve()
    tree, new, problems = Tree(), [], []
    for part in _parts(root, "", exclude, tree.skipped):
        problems += _secrets_in_changes(part, secrets)
        tree.skipped += part.skipped
        new += [part.path(name) for name in part.new]
        tree.files += [File(part.path(name)) for name in part.tracked]
    known = {file.path for file in tree.files}
    sizes = _sizes(root, [*known, *(path for path in new if path not in known)], tree.skipped)
    _check_sizes(sizes, find_repository(root) is not None)
    tree.files = []
    for path in sorted(sizes):
        try:
            tree.files.append(archive.read(root, path))
        except OSError as error:
            problems.append(Problem(path, f"cannot be read, so it cannot travel: {error.strerror}"))
    untracked = set(new)
    found = (guard_text(f.path, f.data, secrets) for f in tree.files if f.path in untracked)
    problems += [problem for problem in found if problem]
    if problems:
        raise ConfigError(problems)
    tree.skipped.sort()
    return tree


@dataclass
class _Part:
    """The files of one repository, or of a folder without: names relative to it, which lies at `prefix`."""

    prefix: str
    exclude: list[str]
    repository: Repository | None = None
    tracked: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def path(self, name: str) -> str:
        return f"{self.prefix}{name}"


def _parts(
    root: Path, prefix: str, exclude: Sequence[Path], skipped: list[tuple[str, str]]
) -> Iterator[_Part]:
    """The project's own files, then those of every repository within."""
    top = root / prefix
    part = _Part(prefix, inside(top.resolve(), exclude))
    part.repository = find_repository(top)
    if part.repository is None:
        taken = Taken()
        part.new = archive.walk(top, part.exclude, taken)
        if taken.skipped:
            raise _refused(f"more than {archive.MAX_LISTED} files", [], git=False)
        yield part
        return
    if prefix and part.repository.prefix:  # the one around it: nothing is checked out here
        skipped.append((prefix, NO_CHECKOUT))
        return
    tracked, untracked = part.repository.files(part.exclude)
    part.tracked, within = _divided(top, tracked)
    kept = _without_environments(untracked, part)
    part.new, others = _divided(top, kept)
    if part.repository.commit is None:
        part.new += part.tracked  # git has none of it yet
    yield part
    for name in (*within, *others):
        yield from _parts(root, f"{prefix}{name}/", exclude, skipped)


def _divided(top: Path, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Files and links, and the folders that are repositories of their own."""
    folders = [name for name in names if (top / name).is_dir() and not (top / name).is_symlink()]
    apart = set(folders)
    return [name for name in names if name not in apart], folders


def _without_environments(names: Sequence[str], part: _Part) -> list[str]:
    """Untracked files that may be code; virtual environments are told."""
    environments = {
        folder
        for path in map(PurePosixPath, names)
        if path.name == archive.ENVIRONMENT and (folder := path.parent).parts
    }
    part.skipped += [
        (f"{part.path(str(folder))}/", "a virtual environment") for folder in environments
    ]
    return [
        name
        for name in names
        if not archive.ALWAYS_IGNORED.intersection(name.split("/"))
        and not environments.intersection(PurePosixPath(name).parents)
    ]


def _sizes(root: Path, paths: Sequence[str], skipped: list[tuple[str, str]]) -> dict[str, int]:
    """Path and bytes of what travels; what is tracked and gone does not."""
    sizes = {}
    for path in paths:
        if any(name.startswith(".env") for name in path.split("/")):
            skipped.append((path, "may hold secrets; name them in compute.secrets"))
            continue
        try:
            status = (root / path).lstat()
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
            sizes[path] = status.st_size
        else:
            skipped.append((path, "not a file"))
    return sizes


def _check_sizes(sizes: Mapping[str, int], git: bool) -> None:
    """Raises ConfigError if the files are too many or too large to travel."""
    largest = sorted(sizes, key=lambda path: (-sizes[path], path))
    large = [path for path in largest if sizes[path] > MAX_FILE]
    total = sum(sizes.values())
    if large:
        what = f"{len(large)} of its files are" if len(large) > 1 else "one of its files is"
        raise _refused(f"{what} over {_mb(MAX_FILE)}", _shown(large, sizes), git=git)
    if total > MAX_TREE:
        what = f"{_mb(total)} in {len(sizes)} files, over {_mb(MAX_TREE)}"
        raise _refused(what, _shown(largest, sizes), git=git)
    if len(sizes) > MAX_FILES:
        raise _refused(f"{len(sizes)} files, over {MAX_FILES}", _folders(sizes), git=git)


def _refused(what: str, names: Sequence[str], *, git: bool) -> ConfigError:
    largest = f" (the largest: {', '.join(names)})" if names else ""
    way = "list what is no code in .gitignore"
    way = way if git else f"`git init`, and {way}"
    return ConfigError.of(
        "code",
        f"the project is too big to travel to another machine: {what}{largest}; {way}, "
        "and keep data in the store",
    )


def _shown(paths: Sequence[str], sizes: Mapping[str, int]) -> list[str]:
    return [f"{_name(path)} {_mb(sizes[path])}" for path in paths[:SHOWN]]


def _folders(sizes: Mapping[str, int]) -> list[str]:
    """The top folders with the most files."""
    count: dict[str, int] = {}
    for path in sizes:
        folder = path.rpartition("/")[0].partition("/")[0]
        count[folder] = count.get(folder, 0) + 1
    most = sorted(count, key=lambda folder: (-count[folder], folder))
    return [f"{_name(folder) or '.'}/ {count[folder]} files" for folder in most[:SHOWN]]


def _name(path: str) -> str:
    return path if path.isprintable() else ascii(path)


def _mb(size: int) -> str:
    return f"{size / 1e6:.4g} MB"


def _secrets_in_changes(part: _Part, secrets: Mapping[str, str]) -> list[Problem]:
    """Secrets in what differs from the commit."""
    if part.repository is None or not (changes := part.repository.changes(part.exclude)):
        return []
    large = [change.path for change in changes if change.size > archive.MAX_FILE]
    left = [*part.exclude, *large]
    diff = part.repository.diff(left) if len(large) < len(changes) else b""
    problems = secrets_in(part.repository, diff, left, secrets)
    for name in large:
        path = part.repository.root / name
        if path.is_file() and path.stat().st_size <= MAX_FILE:
            problems += filter(None, [guard_text(part.path(name), path.read_bytes(), secrets)])
    return problems
