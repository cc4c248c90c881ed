"""`crown-exp debug RUN@STEP`: Python's debugger at the top of a turn, in the task's own frame."""

from __future__ import annotations

from types import FrameType
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from crown_exp.tracking import Loop


@click.command(name="debug")
@click.argument("turn", metavar="RUN@STEP")
@click.argument("changes", nargs=-1, metavar="[KEY=VALUE]...")
def command(turn: str, changes: tuple[str, ...]) -> int:
    """Go back to turn STEP of RUN, counted from 1, and open the debugger there.

    The turns since the newest checkpoint before it are made again, to the bit; without one, all from the
    start. At the top of the turn pdb stands in the line of your loop: n makes it line by line, c makes it to
    its end, or to the error, where it opens again. It is a throw-away copy: nothing of the run is changed.

    \b
    crown-exp debug k7f@120
    crown-exp debug k7f@120 device.workers=2
    """
    from crown_exp.cli.turns import at_turn

    with at_turn(turn, changes, silent=False) as visit:
        step = visit.want.step

        def meet(item: Any, loop: Loop, frame: FrameType) -> bool:
            open_at(frame, step)
            return True

        ending = visit.make(meet, quick=False, told="made again", config={"debug": True})
        if visit.over:
            click.echo(f"turn {step} is over; nothing is kept", err=True)
            return 0
    return ending.exit_code


def open_at(frame: FrameType, step: int) -> None:
    """Let the debugger stop in the next line of a frame."""
    from pdb import Pdb

    click.echo(f"turn {step} begins; n goes on line by line, c to its end, q leaves it", err=True)
    Pdb(nosigint=True).set_trace(frame)
