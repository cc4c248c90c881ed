"""A folder for what is not to last."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from types import FrameType

from crown_exp.errors import StoreError
from crown_exp.launch.signals import handle, handling


@contextmanager
def throw_away_folder() -> Iterator[Path]:
    """A folder in the system's temporary directory (TMPDIR), gone at the end, also when a signal is the end.

    Raises StoreError if there is no such directory.
    """
    try:
        made = TemporaryDirectory(prefix="crown-debug-", ignore_cleanup_errors=True)
    except OSError as error:
        raise StoreError(
            f"no folder to throw away afterwards: {error.strerror}; set TMPDIR"
        ) from None

    def clear(number: int, frame: FrameType | None) -> None:
        """Whoever handles the signal may end the process without a word to us."""
        if before[number] is not signal.SIG_IGN:
            rmtree(made.name, ignore_errors=True)
        handle(before[number], number, frame)

    with made as folder, handling(clear) as before:
        yield Path(folder).resolve()
