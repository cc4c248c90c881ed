"""Where modules lie, found as the import system finds them and without importing any."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    PathFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from pathlib import Path
from typing import Any

LOADERS = (
    (ExtensionFileLoader, EXTENSION_SUFFIXES),
    (SourceFileLoader, SOURCE_SUFFIXES),
    (SourcelessFileLoader, BYTECODE_SUFFIXES),
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a module is.

    file: its source; None for a namespace package and for what has no source.
    inside: the folders of a package; empty for a module.
    opaque: it has code that cannot be read (C, bytecode, made at run time).
    sure: no name of its package, made at run time, may hide it.
    """

    name: str
    file: str | None = None
    inside: tuple[str, ...] = ()
    opaque: bool = False
    sure: bool = True

    @property
    def package(self) -> str:
        """What a relative import in it starts from."""
        return self.name if self.inside else self.name.rpartition(".")[0]


class Places:
    """Finds modules on a search path; `path` is sys.path if None."""

    def __init__(self, path: Sequence[str] | None = None) -> None:
        self.path = tuple(sys.path if path is None else path)
        self._found: dict[str, Place | None] = {}

    def top(self, name: str) -> Place | None:
        """A top-level module or package; None if there is none."""
        if name not in self._found:
            self._found[name] = self._top(name)
        return self._found[name]

    def child(self, parent: Place, name: str) -> Place | None:
        """A module or package inside a package; None if there is none."""
        full = f"{parent.name}.{name}"
        if full not in self._found:
            self._found[full] = _in_folders(full, parent.inside)
        return self._found[full]

    def names(self, parent: Place | None) -> list[str]:
        """The modules and packages in a package, or at the top (the standard library's too)."""
        folders = self.path if parent is None else parent.inside
        standard = sys.stdlib_module_names if parent is None else ()
        return sorted({*standard, *(name for one in folders for name in _modules_in(one))})

    def _top(self, name: str) -> Place | None:
        if name in sys.builtin_module_names:
            return Place(name, opaque=True)
        return _in_folders(name, self.path) or _by_finders(name, self.path)


def _in_folders(name: str, folders: Iterable[str]) -> Place | None:
    """The first folder with a module of this name wins; folders without `__init__` add up.

    The finder is made anew each time: a kept one trusts the folder's time stamp, which is too
    coarse to notice a file written just now.
    """
    portions: list[str] = []
    for folder in folders:
        spec = FileFinder(folder, *LOADERS).find_spec(name)
        if spec is None:
            continue
        if spec.loader is not None:
            return _place(name, spec)
        portions += spec.submodule_search_locations or ()
    return Place(name, inside=tuple(portions)) if portions else None


def _by_finders(name: str, path: Sequence[str]) -> Place | None:
    """What zip files, editable installs and other finders know; only asked for top-level names."""
    finders: list[Any] = [PathFinder, *sys.meta_path]
    for finder in finders:
        try:
            spec = finder.find_spec(name, list(path) if finder is PathFinder else None)
        except Exception:  # somebody else's broken finder is not the user's mistake
            continue
        if spec is not None:
            return _place(name, spec)
    return Place(name, opaque=True) if name in sys.modules else None


def _place(name: str, spec: ModuleSpec) -> Place:
    inside = tuple(spec.submodule_search_locations or ())
    if spec.origin is None and inside:
        return Place(name, inside=inside)
    readable = spec.origin is not None and spec.origin.endswith(tuple(SOURCE_SUFFIXES))
    if readable and Path(str(spec.origin)).is_file():
        return Place(name, spec.origin, inside)
    return Place(name, inside=inside, opaque=True)


def _modules_in(folder: str) -> Iterator[str]:
    """The names of the modules and packages that lie in a folder."""
    try:
        entries = list(Path(folder or ".").iterdir())
    except OSError:
        return
    for entry in entries:
        name, dot, _ = entry.name.partition(".")
        suffixes = (*SOURCE_SUFFIXES, *EXTENSION_SUFFIXES)
        importable = entry.name.endswith(suffixes) if dot else entry.is_dir()
        if name.isidentifier() and not name.startswith("__") and importable:
            yield name
