"""The words of the command line: `crown-exp <word> …`. Each is a module, imported when it is typed."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from crown_exp import __version__

WORDS = {
    "init": "write a project with an experiment that runs",
    "runs": "what ran: filtered, sorted, with the values you ask for",
    "show": "one run: its config, attempts, results, curves and files",
    "compare": "runs beside each other: config, code, results, curves",
    "logs": "what a run logged; -f follows it",
    "cancel": "end runs that are queued or running, wherever they are",
    "tag": "give runs tags, or take them away",
    "note": "write a note on a run",
    "delete": "delete runs, after saying what that frees",
    "plan": "what a command would launch, where, and what that costs",
    "cost": "what runs cost, beside what was expected",
    "reap": "jobs elsewhere that nothing needs, ended after asking",
    "prune": "free space: delete the runs that fit a filter, oldest first",
    "push": "send runs to W&B that are not there",
    "upload": "put data into the store, for runs elsewhere",
    "doctor": "what is installed, reachable and allowed, with the fix",
    "reindex": "make the index of runs anew from their folders",
    "explain": "where a key gets its value, and what it means",
    "resume": "go on with a run from where it was saved last",
    "move": "stop a run and go on with it on another machine",
    "shell": "a machine with the project and its environment, for you",
    "fork": "a new run from the state that another one saved",
    "checkpoints": "what a run saved: list, verify, export, prune",
    "verify": "prove that a run of your code survives being killed, to the bit",
    "debug": "Python's debugger at the top of a turn of a run",
    "batch": "the very samples of a turn of a run",
    "run": "carry out a recorded run here (what executors call)",
    "help": "this page, or a word's own: crown-exp help explain",
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
            raise no_such_word(args[0], ctx)
        return super().resolve_command(ctx, args)


def no_such_word(typed: str, ctx: click.Context) -> click.UsageError:
    """What to say about a word that is none."""
    from crown_exp.config.nearest import did_you_mean

    what = sentence(f"no such word: {typed}; {did_you_mean(typed, WORDS)}")
    return click.UsageError(f"{what} A run is typed +experiment=<name>.", ctx)


def sentence(text: str) -> str:
    """A text that ends as a sentence does."""
    return text if text.endswith((".", "?", "!")) else f"{text}."


@click.group(
    cls=Words,
    invoke_without_command=True,
    add_help_option=False,
    options_metavar="",
    subcommand_metavar="WORD ...",
)
@click.version_option(__version__, prog_name="crown-exp", message="%(prog)s %(version)s")
@click.pass_context
def words(ctx: click.Context) -> None:
    """Experiments that finish. Words are below; anything else is a run:

    \b
    crown-exp +experiment=digits_cnn                   one run, here
    crown-exp +experiment=digits_cnn optimizer.lr=0.1  with another setting
    crown-exp -m +experiment=digits_cnn seed=1,2,3     a sweep
    crown-exp --help                                   every group and key
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
        ctx.exit(2)


def run_word(arguments: Sequence[str]) -> int:
    """Carry out a word; returns its exit code. A user's mistake is one line and code 2."""
    try:
        code = words.main(list(arguments), prog_name="crown-exp", standalone_mode=False)
    except click.UsageError as error:
        said = sentence(mistake(error))
        sys.stderr.write(f"{said} Try: {help_for(error.ctx)}\n")
        return 2
    except click.Abort:
        raise KeyboardInterrupt from None
    return int(code or 0)


def mistake(error: click.UsageError) -> str:
    """What is wrong with the words; the nearest options are told in one way, whatever click's version."""
    if not isinstance(error, click.NoSuchOption):
        return error.format_message()
    near = ", ".join(f"'{option}'" for option in error.possibilities or ())
    return f"No such option '{error.option_name}'." + (f" Did you mean {near}?" if near else "")


def help_for(ctx: click.Context | None) -> str:
    """The command that shows the help that an error calls for."""
    while ctx is not None and ctx.parent is not None and ctx.parent.parent is not None:
        ctx = ctx.parent  # an action of a word has no page of its own
    word = ctx.info_name if ctx is not None and ctx.parent is not None else ""
    return f"crown-exp help {word}".rstrip()
