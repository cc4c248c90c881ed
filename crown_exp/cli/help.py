"""`crown-exp help [WORD]`: the words, or one of them."""

from __future__ import annotations

import click


@click.command(name="help")
@click.argument("word", required=False)
@click.pass_context
def command(ctx: click.Context, word: str | None) -> None:
    """Show all words, or how WORD is used."""
    assert ctx.parent is not None
    if word is None:
        click.echo(ctx.parent.get_help())
        return
    from crown_exp.cli import no_such_word, words

    found = words.get_command(ctx.parent, word)
    if found is None:
        raise no_such_word(word, ctx.parent)
    click.echo(found.get_help(click.Context(found, info_name=word, parent=ctx.parent)))
