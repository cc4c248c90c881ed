"""What W&B wrote offline, read back; and its processes."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

BLOCK, HEAD = 32 << 10, 7
OWN = ("_step", "_timestamp", "_runtime", "step")

Row = tuple[int, dict[str, float]]


def records(path: Path) -> Iterator[Any]:
    """The records of a .wandb file, which is a LevelDB log: blocks of chunks, (crc32, length, kind, data)."""
    from wandb.proto import wandb_internal_pb2

    data = path.read_bytes()
    assert data[:4] == b":W&B"
    at, whole = HEAD, b""
    while at + HEAD <= len(data):
        if (left := BLOCK - at % BLOCK) < HEAD:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        if at + HEAD + length > len(data):
            return  # its writer was killed
        whole += data[at + HEAD : at + HEAD + length]
        at += HEAD + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield wandb_internal_pb2.Record.FromString(whole)
            whole = b""


def files(home: Path, run_id: str) -> list[Path]:
    """The .wandb files of a run, one for each attempt, in the order in which they were begun."""
    return sorted(home.glob(f"wandb/*run-*/run-{run_id}.wandb"), key=lambda path: path.parent.name)


def history(path: Path) -> list[dict[str, Any]]:
    """W&B's rows: name to value."""
    rows = [
        record.history for record in records(path) if record.WhichOneof("record_type") == "history"
    ]
    return [
        {
            (item.key or ".".join(item.nested_key)): json.loads(item.value_json, parse_int=float)
            for item in row.item
        }
        for row in rows
    ]


def rows(home: Path, run_id: str) -> list[Row]:
    """(step, values) of every point in all files of a run."""
    return [row for path in files(home, run_id) for row in points(history(path))]


def points(found: list[dict[str, Any]]) -> list[Row]:
    """(step, values) of every row of W&B's that is a point, not a picture."""
    pictures = [row for row in found if any(is_picture(*item) for item in row.items())]
    return [
        (int(row["step"]), {name: number(value) for name, value in row.items() if name not in OWN})
        for row in found
        if row not in pictures
    ]


def is_picture(name: str, value: Any) -> bool:
    """Whether an item of a row is, or is part of, a picture."""
    return isinstance(value, dict) or name.endswith("._type")


def number(value: Any) -> float:
    """W&B writes what JSON cannot as text."""
    assert isinstance(value, int | float | str)
    return math.nan if value == "NaN" else float(value)


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended
            found += map(int, (task / "children").read_text().split())
    return found
