"""Where a user's project is, and which conf directories lie over the built-in one.

A project is a directory whose pyproject.toml has a `[tool.crown_exp]` table (it may be empty):

    [tool.crown_exp]
    conf = "conf"                 # where its config groups are; this is the default
    store = "s3://team/store"     # where its runs go, unless the environment says otherwise

Asked for at every start, so nothing heavy is imported here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from crown_exp.errors import CrownError, SettingsError

TABLE = "[tool.crown_exp]"
KEYS = ("conf", "store")

_PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Project:
    """A user's project.

    root: the directory of its pyproject.toml, absolute; it is put on sys.path.
    conf: its conf directories, the topmost first; all exist.
    store: the store's root as written in pyproject.toml, if it is.
    """

    root: Path
    conf: tuple[Path, ...] = ()
    store: str | None = None


def builtin_conf(package: Path = _PACKAGE) -> Path:
    """The framework's own conf directory: in the package (installed), else beside it (checkout).

    Raises CrownError if there is none: the installation is broken.
    """
    candidates = (package / "conf", package.parent / "conf")
    for directory in candidates:
        if (directory / "config.yaml").is_file():
            return directory
    raise CrownError(
        f"crown_exp has no config.yaml in {candidates[0]} or {candidates[1]}; "
        "install it again: pip install --force-reinstall crown-exp"
    )


def find_project(start: Path) -> Project | None:
    """The project that `start` (a directory or a file) lies in: the nearest one up the tree.

    Raises SettingsError, with file and line, for a pyproject.toml that names crown_exp and is not
    TOML, or whose table holds something else than the keys above.
    """
    here = start.resolve()
    for folder in (here, *here.parents):
        if (project := _project_at(folder)) is not None:
            return project
    return None


def conf_dirs(project: Project | None, extra: Sequence[Path] = ()) -> tuple[Path, ...]:
    """The directories over the built-in conf, the topmost first: `extra`, then the project's.

    Each one once (by what it resolves to), only those that exist, never the built-in one itself.
    """
    seen = {builtin_conf().resolve()}
    found = []
    for directory in (*extra, *(project.conf if project else ())):
        if (real := directory.resolve()) not in seen and real.is_dir():
            seen.add(real)
            found.append(directory)
    return tuple(found)


def _project_at(folder: Path) -> Project | None:
    path = folder / "pyproject.toml"
    try:
        data = path.read_bytes()
    except OSError:  # none here, or none that we may read
        return None
    if b"crown_exp" not in data:  # somebody else's: not worth parsing, nor complaining about
        return None
    table = _table(path, data)
    return None if table is None else _project(path, data, table)


def _table(path: Path, data: bytes) -> Mapping[str, object] | None:
    """What stands under `[tool.crown_exp]`; None if that is absent."""
    import tomllib

    try:
        tool = tomllib.loads(data.decode()).get("tool")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{path}:{line}: is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        at = re.search(r" \(at line (\d+), column \d+\)", str(error))
        line = int(at[1]) if at else data.count(b"\n") + 1
        raise SettingsError(f"{path}:{line}: is not TOML: {error}") from None
    table = tool.get("crown_exp") if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise SettingsError(f"{path}: tool.crown_exp: expected a table, written {TABLE}")
    return table


def _project(path: Path, data: bytes, table: Mapping[str, object]) -> Project:
    problems = [
        f"{_place(path, data, key)}: {TABLE} {problem}"
        for key, value in table.items()
        if (problem := _problem(key, value))
    ]
    if problems:
        raise SettingsError("\n".join(problems))
    root, conf, store = path.parent, table.get("conf"), table.get("store")
    directory = root / os.path.expanduser(str(conf or "conf"))  # noqa: PTH111 - ~nobody may stay
    if conf and not directory.is_dir():
        raise SettingsError(
            f"{_place(path, data, 'conf')}: {TABLE} conf: {directory} is no directory"
        )
    return Project(
        root=root,
        conf=(directory,) if directory.is_dir() else (),
        store=str(store) if store else None,
    )


def _problem(key: str, value: object) -> str | None:
    if key not in KEYS:
        from crown_exp.config.nearest import did_you_mean

        return f"{key}: is not a key; {did_you_mean(key, KEYS)}"
    if not isinstance(value, str) or not value.strip():
        return f"{key}: expected a string that is not empty"
    return None


def _place(path: Path, data: bytes, key: str) -> str:
    """The file, and the line in which the key is set if it is found the plain way."""
    _, head, table = data.partition(TABLE.encode())
    before = data.count(b"\n") - table.count(b"\n")
    for number, line in enumerate(table.split(b"\n") if head else [], before + 1):
        if re.match(rb"\s*[\"']?" + re.escape(key.encode()) + rb"[\"']?\s*=", line):
            return f"{path}:{number}"
    return str(path)
