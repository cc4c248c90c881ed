"""`crown-exp batch RUN@STEP`: the very samples of a turn."""

from __future__ import annotations

from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from crown_exp.tracking import Loop

ENDINGS = (".pt", ".npz", ".json")


@click.command(name="batch")
@click.argument("turn", metavar="RUN@STEP")
@click.argument("changes", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--save", "file", type=click.Path(path_type=Path), help="a .pt, .npz or .json file")
def command(turn: str, changes: tuple[str, ...], file: Path | None) -> int:
    """Show what the loop of RUN went over in turn STEP, which is counted from 1: the very samples.

    RUN is an id or its beginning, whole or after the dash, or latest. Nothing of the run is changed, and no
    turn is made where the samples do not depend on that:

    \b
    crown-exp batch k7f@120
    crown-exp batch k7f@120 --save batch.pt

    Each tensor is told with its shape, kind, range and mean; small ones are shown in full. --save keeps
    them: as torch.save does, as arrays by their names, or as text.
    """
    from crown_exp.cli.item_page import lines_of, save
    from crown_exp.cli.turns import at_turn
    from crown_exp.errors import ConfigError

    if file is not None and file.suffix not in ENDINGS:
        raise ConfigError.of("--save", f"expected a file that ends in {', '.join(ENDINGS)}")
    if file is not None and not file.absolute().parent.is_dir():
        raise ConfigError.of("--save", f"there is no folder {file.parent}")

    def meet(item: Any, loop: Loop, frame: FrameType) -> bool:
        name = f", loop {loop.name}" if loop.name else ""
        click.echo(f"turn {at.step} of {at.found.record.id}{name}")
        for line in lines_of(item):
            click.echo(line)
        if file is not None:
            save(file, item)
            click.echo(f"saved {file}")
        return False

    with at_turn(turn, changes, silent=True) as visit:
        at = visit.want
        visit.make(meet, quick=True, told="taken")
    return 0
