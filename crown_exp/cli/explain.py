"""`crown-exp explain <key> [overrides…]`: the chain that set a key, and what it means."""

from __future__ import annotations

import json
from typing import Any

import click


@click.command(name="explain", context_settings={"ignore_unknown_options": True})
@click.argument("key")
@click.argument("overrides", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="for machines")
def command(key: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Show which files and overrides set KEY, in order, with its type, unit, range and meaning."""
    from crown_exp.config.explain import explain

    found = explain(key, overrides)
    if as_json:
        click.echo(json.dumps(found.to_json(), ensure_ascii=False))
        return
    click.echo(f"{found.key} = {show(found.value)}")
    for label, text in (("type", found.type), ("unit", found.unit), ("means", found.doc)):
        if text:
            click.echo(f"  {label:<8}{text}")
    if found.defined:
        click.echo(f"  {'defined':<8}{found.defined}")
    click.echo("set by, the last one counts:")
    width = max((len(show(origin.value)) for origin in found.origins), default=0)
    for origin in found.origins:
        kind = "override " if origin.is_override else ""
        click.echo(f"  {show(origin.value):<{min(width, 30)}}  {kind}{origin.place}")
    if not found.origins:
        click.echo(f"  {show(found.value)}  the default of {found.defined}")
    click.echo(f"next: python -m crown_exp {' '.join([*overrides, f'{key}=…'])}")


def show(value: Any) -> str:
    """A value as one would type it."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
