"""`crown-exp explain <key> [overrides…]`: the chain that set a key, and what it means."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from crown_exp.config.explain import Explanation

WIDTH = 80
LABEL = 9
VALUE = 34
"""The widest that values in the chain are shown; --json has them whole."""


@click.command(name="explain")
@click.argument("key")
@click.argument("overrides", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="for machines")
def command(key: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Show what sets KEY, in order, and what it means.

    KEY is a dotted name such as optimizer.lr, or a group such as model. OVERRIDES are what one would type
    to run: +experiment=digits_cnn model=mlp.
    """
    from crown_exp.config.explain import explain
    from crown_exp.config.layers import make_importable
    from crown_exp.config.project import find_project

    project = find_project(Path.cwd())
    make_importable(project.root if project else Path.cwd())
    found = explain(key, overrides)
    if as_json:
        click.echo(json.dumps(found.to_json(), ensure_ascii=False))
        return
    for line in lines(found, overrides):
        click.echo(line)


def lines(found: Explanation, overrides: Sequence[str]) -> Iterator[str]:
    """An explanation as people read it, in 80 columns where no path is longer."""
    yield from head(found.key, found.value)
    for label, text in (
        ("type", found.type),
        ("unit", found.unit),
        ("means", found.doc),
        ("defined", found.defined),
    ):
        yield from paragraph(f"  {label:<{LABEL}}", text)
    yield from paragraph("options: ", ", ".join(found.options))
    yield "set by, the last one counts:"
    yield from chain(found)
    yield f"next: python -m crown_exp {' '.join(next_overrides(found, overrides))}"


def paragraph(label: str, text: str) -> list[str]:
    """A label and a text that is folded beside it; no line if there is no text."""
    return wrap(
        text, WIDTH, initial_indent=label, subsequent_indent=" " * len(label),
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def next_overrides(found: Explanation, overrides: Sequence[str]) -> list[str]:
    """The overrides as given, and the key for the user to fill in."""
    others = [item for item in overrides if item.lstrip("+").partition("=")[0] != found.key]
    mark = "+" if found.key == "experiment" else ""  # the one group that has no default
    return [*others, f"{mark}{found.key}={'<option>' if found.options else '…'}"]


def head(key: str, value: Any) -> Iterator[str]:
    """The key and its value; a section has a line for each of its keys."""
    if not isinstance(value, Mapping):
        yield cut(f"{key} = {show(value)}", WIDTH)
        return
    yield key
    width = max(map(len, value), default=0)
    for name, inner in value.items():
        yield cut(f"  {name:<{width}}  {show(inner)}", WIDTH)


def chain(found: Explanation) -> Iterator[str]:
    """A line for each place that set the key: the value there, and the place."""
    if not found.origins:
        default = f"{cut(show(found.value), VALUE)}  the default of {found.defined}"
        yield f"  {default if found.defined else 'nothing'}"
        return
    values = [cut(show(origin.value), VALUE) for origin in found.origins]
    width = max(map(len, values))
    for value, origin in zip(values, found.origins, strict=True):
        kind = "override " if origin.is_override else ""
        yield f"  {value:<{width}}  {kind}{origin.place}"


def show(value: Any) -> str:
    """A value as one would type it."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {show(item)}" for key, item in value.items())
    return json.dumps(value, ensure_ascii=False)


def cut(text: str, width: int) -> str:
    """At most `width` characters."""
    return text if len(text) <= width else f"{text[: width - 1]}…"
