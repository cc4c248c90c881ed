"""`crown-exp help`: the words."""

from __future__ import annotations

import click


@click.command(name="help")
@click.pass_context
def command(ctx: click.Context) -> None:
    """Show the words."""
    assert ctx.parent is not None
    click.echo(ctx.parent.get_help())
