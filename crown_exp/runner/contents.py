"""What `run.artifact` is given, as the bytes of a file of that name."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import PurePath
from typing import Any

from crown_exp.errors import TaskError
from crown_exp.folder.files import extension, kind_of
from crown_exp.runner.pictures import picture
from crown_exp.runner.task import a_kind

Say = Callable[[str], None]

TABLES: Mapping[str, Callable[[Any], Any]] = {
    "csv": lambda table: table.to_csv(),
    "tsv": lambda table: table.to_csv(sep="\t"),
    "json": lambda table: table.to_json(),
    "jsonl": lambda table: table.to_json(orient="records", lines=True),
    "parquet": lambda table: table.to_parquet(),
}
"""What pandas makes of a table, by how the file's name ends."""

EXPECTED = (
    "expected text, bytes, a pathlib.Path, a figure, an array or image for .npy or .png, "
    "a table for .csv or .parquet, or a dict or list for .json"
)


def contents(name: str, value: Any, say: Say) -> bytes:
    """The bytes of a value as a file of this name. Raises TaskError if there is no such file.

    Text is written in UTF-8, bytes and files (pathlib.Path) are copied as they are. All else depends on how
    the name ends: anything with `savefig` is drawn, anything with `to_csv` is a table; arrays and tensors
    become .npy or a picture, a dict of arrays .npz, dicts and lists .json or .jsonl.
    say: takes a line about what had to be changed to fit.
    """
    found = _contents(name, extension(name), value, say)
    if found is None:
        raise TaskError(f"run.artifact: {name}: {a_kind(value)} cannot be kept so; {EXPECTED}")
    return found


def _contents(name: str, end: str, value: Any, say: Say) -> bytes | None:
    """As `contents`; None if nothing can be made of it."""
    if isinstance(value, str):
        return _text(name, end, value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, PurePath):
        return _copied(name, value)
    if hasattr(value, "savefig"):
        return _drawn(name, end, value)
    if hasattr(value, "to_csv") and end in TABLES:
        return _table(name, end, value)
    if end in ("json", "jsonl"):
        return _json(name, end, value)
    if end == "npz" and isinstance(value, Mapping):
        return _saved(name, {str(key): array(item) for key, item in value.items()})
    if (values := array(value)) is None and not is_pillow(value):
        return None
    if end == "npy" and values is not None:
        return _saved(name, values)
    if kind_of(name) == "image" and end != "svg":
        channels_first = hasattr(value, "detach")
        return picture(name, end, value if values is None else values, channels_first, say)
    return None


def _text(name: str, end: str, text: str) -> bytes:
    if (kind_of(name) in ("image", "array") and end != "svg") or end == "parquet":
        raise TaskError(
            f"run.artifact: {name}: got text, which is no .{end}; for a file: pathlib.Path({text[:60]!r})"
        )
    return text.encode(errors="backslashreplace")  # half a surrogate pair is no reason to lose it


def _copied(name: str, path: PurePath) -> bytes:
    from pathlib import Path

    file = Path(path)
    if file.is_dir():
        raise TaskError(
            f"run.artifact: {name}: {path} is a directory; store its files one by one, or "
            "shutil.make_archive first"
        )
    if not file.is_file():
        raise TaskError(f"run.artifact: {name}: there is no file {path}")
    try:
        return file.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise TaskError(f"run.artifact: {name}: cannot read {path}: {reason}") from None


def _drawn(name: str, end: str, figure: Any) -> bytes:
    """A figure of matplotlib, or of whatever draws on it."""
    if not end:
        raise TaskError(
            f"run.artifact: {name}: as what? give the name an end: {name}.png, {name}.pdf"
        )
    buffer = BytesIO()
    try:
        figure.savefig(buffer, format=end)
    except ValueError as error:  # matplotlib lists the formats it has
        raise TaskError(f"run.artifact: {name}: {_one_line(error)}") from None
    return buffer.getvalue()


def _table(name: str, end: str, table: Any) -> bytes:
    try:
        made = TABLES[end](table)
    except ImportError:
        raise TaskError(f"run.artifact: {name}: needs pyarrow: pip install pyarrow") from None
    except ValueError as error:  # columns that parquet or JSON cannot hold
        raise TaskError(f"run.artifact: {name}: {_one_line(error)}") from None
    return made if isinstance(made, bytes) else str(made).encode(errors="backslashreplace")


def _json(name: str, end: str, value: Any) -> bytes:
    try:
        if end == "json":
            text = json.dumps(value, indent=2, ensure_ascii=False, default=_plain) + "\n"
        elif isinstance(value, list | tuple):
            rows = (json.dumps(row, ensure_ascii=False, default=_plain) for row in value)
            text = "".join(f"{row}\n" for row in rows)
        else:
            raise TypeError(f"expected a list of rows, got {a_kind(value)}")
    except (TypeError, ValueError, RecursionError) as error:
        raise TaskError(f"run.artifact: {name}: not as JSON: {_one_line(error)}") from None
    return text.encode(errors="backslashreplace")


def _plain(value: Any) -> Any:
    """What JSON has no word for."""
    if hasattr(value, "tolist"):  # of numpy and torch
        return value.tolist()
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"{a_kind(value)} is in it")


def _saved(name: str, values: Any) -> bytes:
    """Arrays in numpy's own format, never as pickles."""
    import numpy as np

    several = values if isinstance(values, dict) else {"it": values}
    for key, item in several.items():
        if item is None or item.dtype.hasobject:
            raise TaskError(f"run.artifact: {name}: {key} is no array of numbers or text")
    buffer = BytesIO()
    if values is several:
        np.savez_compressed(buffer, **several)
    else:
        np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()


def array(value: Any) -> Any:
    """An array or tensor, of whatever library, as one of numpy; None for anything else."""
    if not hasattr(value, "__array__"):
        return None
    import numpy as np

    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":  # which numpy does not have
            value = value.float()
        value = value.resolve_conj().resolve_neg()
    return np.asarray(value)


def is_pillow(value: Any) -> bool:
    """Whether it is an image of Pillow's."""
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(value, module.Image)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
