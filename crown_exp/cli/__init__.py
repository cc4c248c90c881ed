"""The words of the command line: `crown-exp <word> …`. Each is a module, imported when it is typed."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from crown_exp import __version__

WORDS = {
    "init": "write a project with an experiment that runs",
    "explain": "where a key gets its value, and what it means",
    "run": "carry out a recorded run here (what executors call)",
    "help": "this page",
}


class Words(click.Group):
    """A group that knows its commands by name and imports the one that is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The words, in the order of the help page."""
        return list(WORDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command of a word; None if there is no such word."""
        if name not in WORDS:
            return None
        from importlib import import_module

        command: click.Command = import_module(f"crown_exp.cli.{name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The words and what they do, without importing them."""
        with formatter.section("Words"):
            formatter.write_dl(list(WORDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command, or one line with the nearest words."""
        if args and args[0] not in WORDS:
            from crown_exp.config.nearest import did_you_mean

            hint = did_you_mean(args[0], WORDS)
            raise click.UsageError(f"no such word: {args[0]}; {hint} A run is +experiment=<name>.")
        return super().resolve_command(ctx, args)


@click.group(cls=Words, invoke_without_command=True, add_help_option=False)
@click.version_option(__version__, prog_name="crown-exp", message="%(prog)s %(version)s")
@click.pass_context
def words(ctx: click.Context) -> None:
    """Experiments that finish.

    \b
    python -m crown_exp +experiment=digits_cnn                        run one here
    python -m crown_exp -m +experiment=digits_cnn optimizer.lr=1e-3,3e-4   sweep
    python -m crown_exp --help                                        groups and the whole config
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
        ctx.exit(2)


def run_word(arguments: Sequence[str]) -> int:
    """Carry out a word; returns its exit code. A user's mistake is one line and code 2."""
    try:
        code = words.main(list(arguments), prog_name="crown-exp", standalone_mode=False)
    except click.UsageError as error:
        name = error.ctx.command_path if error.ctx else "crown-exp"
        sys.stderr.write(f"{error.format_message()} Try: {name} --help\n")
        return 2
    except click.Abort:
        raise KeyboardInterrupt from None
    return int(code or 0)
