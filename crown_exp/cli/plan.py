"""`crown-exp plan`: its page. Plans are made by `crown_exp.hydra_app`, as what follows is a run's command."""

from __future__ import annotations

import click


@click.command(name="plan", options_metavar="", no_args_is_help=True)
@click.argument("command_line", nargs=-1, required=True, metavar="[-m] OVERRIDE ...")
def command(command_line: tuple[str, ...]) -> None:
    """Show what a command would launch and what that costs. Nothing is launched.

    \b
    crown-exp plan +experiment=digits_cnn compute=a100_spot
    crown-exp plan -m +experiment=digits_cnn compute=a100_spot,h100 seed=1,2
    crown-exp plan resume=k7f compute=a100_spot

    Type `plan` before a run or a sweep. A line for each run tells whether it is
    new, done, to resume or running, where it would go, the price of an hour and
    how long it is thought to take: the median of earlier runs of that experiment
    on those accelerators. Then come all machines that it may be given, in the
    order in which they are tried, the sum, and how long the caps budget.*_usd
    allow. Prices are those of SkyPilot's catalogue on this machine. What would
    keep the command from being carried out is told last; the exit code is 2 then,
    or 77 for a cap. --json, anywhere on the line, tells all that to machines.

    The same is shown before every launch that is billed. One that is expected to
    cost more than budget.confirm_above_usd is asked for; --yes, anywhere on the
    line, agrees beforehand.
    """
