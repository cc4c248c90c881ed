"""`crown-exp checkpoints list|verify|export|prune RUN`: what a run saved, checked, taken out, cleared."""

from __future__ import annotations

from pathlib import Path

import click

ACTIONS = {
    "list": "which there are: of what step, how big, how good, whole or damaged",
    "verify": "read every byte and say whether it is what was written",
    "export": "one safetensors file of a checkpoint, for any program",
    "prune": "remove those that need not be kept, after saying what that frees",
}


class Actions(click.Group):
    """The actions, in the order of the help page; a mistyped one is named with the nearest."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they are told."""
        return list(ACTIONS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command, or one line with the nearest."""
        if args and args[0] not in ACTIONS:
            from crown_exp.config.nearest import did_you_mean

            what = f"checkpoints has no action {args[0]}; {did_you_mean(args[0], ACTIONS)}"
            raise click.UsageError(what, ctx)
        return super().resolve_command(ctx, args)


@click.group(
    name="checkpoints", cls=Actions, options_metavar="", subcommand_metavar="ACTION RUN ..."
)
def command() -> None:
    """What RUN saved. RUN is an id or its beginning, or latest, or where its folder is, in whatever store:

    \b
    crown-exp checkpoints list k7f
    crown-exp checkpoints verify s3://bucket/prefix/runs/r261122-k7f3q2
    crown-exp checkpoints export k7f@best model.safetensors
    crown-exp checkpoints prune k7f --keep-last 1
    """


as_json_option = click.option("--json", "as_json", is_flag=True, help="for machines")


@command.command(name="list", short_help=ACTIONS["list"])
@click.argument("run", default="latest", metavar="[RUN]")
@as_json_option
def list_them(run: str, as_json: bool) -> int:
    """Show the checkpoints of RUN, the newest first.

    new is what a checkpoint added to the store: what is frozen is stored once. after is the step of the
    checkpoint that it was made after. What is marked as damaged was found so when it was read.
    """
    from crown_exp.cli.checkpoint_list import show
    from crown_exp.cli.checkpoint_run import opened

    with opened(run) as asked:
        show(asked, as_json)
    return 0


@command.command(short_help=ACTIONS["verify"])
@click.argument("run", metavar="RUN[@STEP]")
@as_json_option
def verify(run: str, as_json: bool) -> int:
    """Read every byte of the checkpoints of RUN, or of that after STEP, and say whether it is what was written.

    Nothing is changed. The exit code is 0 if all are whole, 1 if any is damaged.
    """
    from crown_exp.cli.checkpoint_run import opened
    from crown_exp.cli.checkpoint_verify import show

    with opened(run) as asked:
        return show(asked, as_json)


@command.command(short_help=ACTIONS["export"])
@click.argument("run", metavar="RUN[@STEP]")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="the same as FILE")
@click.option(
    "--only", multiple=True, metavar="NAME", help="only this tensor, or those below it: net"
)
@click.option("--force", is_flag=True, help="write over a file that is there")
@as_json_option
def export(
    run: str,
    file: Path | None,
    output: Path | None,
    only: tuple[str, ...],
    force: bool,
    as_json: bool,
) -> int:
    """Write the tensors of one checkpoint as FILE, which stock safetensors loads; verified, in little memory.

    STEP is one of its checkpoints, or best, or latest, as it is without one. FILE is named after run and step
    unless it is given. Optimizers and what else was tracked are in it, too: --only net takes the weights.
    """
    from crown_exp.cli.checkpoint_export import write
    from crown_exp.cli.checkpoint_run import opened
    from crown_exp.errors import ConfigError

    if file is not None and output is not None:
        raise ConfigError.of(f"--output {output}", f"the file is named twice; the other is {file}")
    with opened(run) as asked:
        write(asked, output or file, only, force=force, as_json=as_json)
    return 0


@command.command(short_help=ACTIONS["prune"])
@click.argument("run", metavar="RUN")
@click.option("--keep-last", type=click.IntRange(min=1), metavar="N", help="the N newest stay")
@click.option("--keep-every", metavar="STEPS", help="those at multiples stay: '1000 steps'; none")
@click.option("--keep-best", metavar="METRIC", help="the best stays: 'max accuracy'; none")
@click.option("--yes", is_flag=True, help="do not ask")
@click.option("--dry-run", is_flag=True, help="only say what would go")
@as_json_option
def prune(
    run: str,
    keep_last: int | None,
    keep_every: str | None,
    keep_best: str | None,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Remove checkpoints of RUN that need not be kept; says first what goes, what that frees, and what stays.

    What is not said here is as the run's config has it. The newest that verifies always stays. While a living
    attempt holds the run, which removes what it does not need by itself, no checkpoint is removed.
    """
    from crown_exp.cli.checkpoint_prune import Wish, carry_out
    from crown_exp.cli.checkpoint_run import opened

    with opened(run) as asked:
        wish = Wish(keep_last, keep_every, keep_best, yes, dry_run, as_json)
        return carry_out(asked, wish)
