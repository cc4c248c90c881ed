"""What an attempt sets in its process, and puts back: a second run in it must not feel the first."""

from __future__ import annotations

import gc
import logging
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

from crown_exp.config.settings import environment_kept
from crown_exp.runner.imports import when_imported


@contextmanager
def process_globals(root: Path, seed: int) -> Iterator[MutableMapping[str, str]]:
    """Put back at the end what a run or its task changed in the process; yields the environment.

    Inside, modules of `root` can be imported, log records of INFO and above are shown, and `random` and
    numpy are seeded. torch is `crown_exp.devices.precision.torch_globals`' to seed.
    """
    with ExitStack() as undo:
        environment = undo.enter_context(environment_kept())
        undo.enter_context(same_directory())
        undo.enter_context(warnings.catch_warnings())
        undo.enter_context(importable(root))
        undo.enter_context(shown_logging())
        undo.enter_context(seeded_random(seed))
        undo.enter_context(seeded_numpy(seed))
        yield environment


@contextmanager
def same_directory() -> Iterator[None]:
    """Go back to the current directory at the end, if it is still there.

    SkyPilot deletes the home of a machine that it gives back under a run that still saves.
    """
    before = Path.cwd()
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            os.chdir(before)


@contextmanager
def imported_at_rest() -> Iterator[Callable[[], None]]:
    """The garbage collector rests until what is yielded is called, and leaves alone what was made by then.

    Importing torch makes a million objects and next to no garbage; looking through them again and again is a
    tenth of the time to the first step.
    """
    enabled, frozen = gc.isenabled(), gc.get_freeze_count()

    def wake() -> None:
        if enabled:
            gc.freeze()
            gc.enable()

    gc.disable()
    try:
        yield wake
    finally:
        if enabled:
            gc.enable()
            if not frozen:
                gc.unfreeze()


@contextmanager
def importable(root: Path) -> Iterator[None]:
    """The project's modules can be imported."""
    before = list(sys.path)
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    try:
        yield
    finally:
        sys.path[:] = before


class StandardError(logging.StreamHandler[TextIO]):
    """Writes to what sys.stderr is at the time: a progress bar may stand in between."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        """Where records go now."""
        return sys.stderr


@contextmanager
def shown_logging() -> Iterator[None]:
    """Records of INFO and above reach the user, unless logging was set up already."""
    root, level, handlers = logging.root, logging.root.level, list(logging.root.handlers)
    if not handlers:
        root.addHandler(StandardError())
        root.setLevel(min(level, logging.INFO))
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


@contextmanager
def seeded_random(seed: int) -> Iterator[None]:
    """Seed `random`."""
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)


@contextmanager
def seeded_numpy(seed: int) -> Iterator[None]:
    """Seed numpy's global generator: now, or as soon as the task imports it."""
    numpy = sys.modules.get("numpy.random")
    before = numpy.get_state() if numpy else None
    with when_imported("numpy.random", lambda: seed_numpy(seed)):
        try:
            yield
        finally:
            if numpy:
                numpy.set_state(before)


def seed_numpy(seed: int) -> None:
    """Seed what was imported."""
    sys.modules["numpy.random"].seed(seed % 2**32)


def seed_again(seed: int) -> None:
    """Seed whatever is there: the task starts here, whatever its imports drew."""
    random.seed(seed)
    if "numpy.random" in sys.modules:
        seed_numpy(seed)
    if "torch" in sys.modules:
        from crown_exp.devices.precision import seed_torch

        seed_torch(seed)
