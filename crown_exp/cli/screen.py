"""Where a word writes: how wide it is, whether it has colours, and JSON for those who are no screen."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from typing import Any

import click

from crown_exp.clock import isoformat


@dataclass(frozen=True, slots=True)
class Screen:
    """width: columns. colour: whether it shows them. unicode: whether its encoding has more than ASCII."""

    width: int = 80
    colour: bool = False
    unicode: bool = True


def screen() -> Screen:
    """Standard output: the terminal's width, or COLUMNS, or 80 where nobody tells; colours unless NO_COLOR."""
    from shutil import get_terminal_size

    from crown_exp.config.settings import wants_colour

    stream = sys.stdout
    colour = stream.isatty() and wants_colour()
    return Screen(get_terminal_size((80, 24)).columns, colour, can_write("…·⣿█×±", stream.encoding))


def can_write(text: str, encoding: str | None) -> bool:
    """Whether an encoding has these letters."""
    try:
        text.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def write_lines(lines: Iterable[str]) -> None:
    """To standard output, one after the other."""
    for line in lines:  # not flushed one by one: there may be thousands
        sys.stdout.write(f"{line}\n")


def complain(line: str) -> None:
    """A line on standard error: something is not as it should be, and the word goes on."""
    click.echo(line, err=True)


def write_json(value: object) -> None:
    """One JSON text on a line: see `jsonable`."""
    tree = jsonable(value)
    text = json.dumps(tree, ensure_ascii=False, allow_nan=False)
    if not can_write(text, sys.stdout.encoding):
        text = json.dumps(tree, allow_nan=False)
    click.echo(text)


def jsonable(value: object) -> Any:
    """A value as JSON has it: times in UTC as ISO texts, nan and infinities as "nan", "inf", "-inf".

    A dataclass is an object of its fields, a tuple or set a list.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, datetime):
        return isoformat(value)
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(item) for item in value]
    if is_dataclass(value):
        return {field.name: jsonable(getattr(value, field.name)) for field in fields(value)}
    return str(value)
