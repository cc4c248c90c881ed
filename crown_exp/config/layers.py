"""Which conf directories lie over the built-in one in this process: what the search-path plugin asks.

Hydra calls search-path plugins in every Hydra application of the environment, so nothing is layered
unless one of our own entrances said so.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from crown_exp.config.project import Project, conf_dirs

_LAYERS: ContextVar[tuple[Path, ...]] = ContextVar("crown_exp_conf_layers", default=())


def layers() -> tuple[Path, ...]:
    """The directories, the topmost first; empty in an application that is not ours."""
    return _LAYERS.get()


@contextmanager
def layered(directories: Sequence[Path]) -> Iterator[None]:
    """Lay these directories over the built-in conf, the first on top."""
    token = _LAYERS.set(tuple(directories))
    try:
        yield
    finally:
        _LAYERS.reset(token)


def conf_layers(project: Project | None) -> tuple[Path, ...]:
    """What lies over the built-in conf for a project: CROWN_CONF, then the project's own.

    Raises SettingsError if CROWN_CONF names what is no directory.
    """
    from crown_exp.config.settings import load_settings, variables

    extra = load_settings(project).conf if variables(project).get("CROWN_CONF") else ()
    return conf_dirs(project, extra)


def make_importable(root: Path) -> None:
    """Put a project's root on sys.path, where `python -m` would have put the current directory."""
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
