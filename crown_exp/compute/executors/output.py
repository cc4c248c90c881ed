"""What a job has printed into a file of this machine."""

from __future__ import annotations

from pathlib import Path

_MOST_BYTES = 256 << 10


def tail(file: Path, lines: int) -> str:
    """The last lines of a text file; "" if there is none. At most 256 KiB are read."""
    try:
        with file.open("rb") as opened:
            opened.seek(max(0, file.stat().st_size - _MOST_BYTES))
            text = opened.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:]) if lines > 0 else ""
