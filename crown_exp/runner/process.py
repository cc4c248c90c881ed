"""What an attempt sets in its process, and puts back: a second run in it must not feel the first."""

from __future__ import annotations

import logging
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def process_globals(root: Path) -> Iterator[None]:
    """Restore random states, sys.path and logging at the end; `root` can be imported from inside."""
    import numpy

    path, level, handlers = list(sys.path), logging.root.level, list(logging.root.handlers)
    python_state, numpy_state = random.getstate(), numpy.random.get_state()
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    if not handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logging.root.addHandler(handler)
    logging.root.setLevel(min(level, logging.INFO))
    try:
        yield
    finally:
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
        random.setstate(python_state)
        numpy.random.set_state(numpy_state)
        sys.path[:] = path


def seed_all(seed: int) -> None:
    """Seed python, numpy and, if the task has imported it, torch on every device."""
    import numpy

    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)
