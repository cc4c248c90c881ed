"""`crown-exp checkpoints export`: one checkpoint as a safetensors file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from crown_exp.checkpoints.export import LENGTH_BYTES, RESERVED, Exported, exported
from crown_exp.cli.ages import plural, size
from crown_exp.cli.checkpoint_run import on_its_way
from crown_exp.cli.letters import plain
from crown_exp.cli.screen import screen, write_json, write_lines
from crown_exp.cli.table import Column, table
from crown_exp.config.places import display
from crown_exp.errors import ConfigError
from crown_exp.folder.records import Damaged

if TYPE_CHECKING:
    from crown_exp.checkpoints.restore import Number
    from crown_exp.cli.checkpoint_run import Asked

ENDING = ".safetensors"
MOST_CHANGED = 5


def write(
    asked: Asked, file: Path | None, only: Sequence[str], *, force: bool, as_json: bool
) -> None:
    """Write the file, and say what is in it. Raises ConfigError if it is in the way of another, StoreError."""
    if file is not None:
        refuse(file, force)
    number = asked.number()
    if file is None:
        tail = asked.paths.run_id.partition("-")[2] or asked.paths.run_id
        file = Path(f"{tail}-{number[1]}{ENDING}")
        refuse(file, force)
    try:
        with on_its_way() as transfer:
            done = asked.call(
                exported, asked.blobs, asked.paths, number, file.absolute(), only=only,
                progress=transfer.moved,
            )  # fmt: skip
    except Damaged as error:
        whole = f"crown-exp checkpoints verify {asked.typed} tells which are whole"
        raise Damaged(f"{asked.typed}@{number[1]} is damaged: {error}; {whole}") from None
    if as_json:
        write_json(
            {"file": file.absolute(), "id": asked.paths.run_id, "attempt": number[0], "step": number[1],
             "tensors": done.tensors, "bytes": done.bytes, "changed": done.changed}
        )  # fmt: skip
        return
    tell(asked, number, file, done)


def refuse(file: Path, force: bool) -> None:
    """Raises ConfigError if the file cannot be written, or is there and may not be written over."""
    if file.is_dir():
        raise ConfigError.of(
            str(file), f"is a folder: name a file in it, as {file / ('x' + ENDING)}"
        )
    if file.exists() and not force:
        raise ConfigError.of(str(file), "exists; nothing was written: name another, or add --force")
    if not file.absolute().parent.is_dir():
        raise ConfigError.of(str(file), f"there is no folder {file.parent}")


def tell(asked: Asked, number: Number, file: Path, done: Exported) -> None:
    """What was written, what is in it, how it is loaded."""
    page = screen()
    headers = ("", Column("", right=True), Column("", right=True))
    rows = [[name, plural(count, "tensor"), size(bytes)] for name, count, bytes in parts_of(file)]
    write_lines(table(headers, rows, width=page.width, colour=page.colour))
    for line in done.changed[:MOST_CHANGED]:
        click.echo(plain(line))
    if more := len(done.changed) - MOST_CHANGED:
        click.echo(f"... and {more:,} more of these" if more > 0 else "", nl=more > 0)
    said = f"step {number[1]} of {asked.paths.run_id}: {plural(done.tensors, 'tensor')}, {size(done.bytes)}"
    click.echo(f"{said}, every byte verified")
    click.echo(f"wrote {plain(display(file))}")
    click.echo(f"load with: safetensors.torch.load_file({plain(str(file))!r})")
    click.echo(f"next: crown-exp checkpoints list {asked.typed}")


def parts_of(file: Path) -> list[tuple[str, int, int]]:
    """What stands before the first dot of tensors' names, with how many tensors and bytes each has."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(LENGTH_BYTES), "little")
        header = json.loads(stream.read(length))
    found: dict[str, tuple[int, int]] = {}
    for name, it in header.items():
        if name != RESERVED:
            begin, end = it["data_offsets"]
            count, bytes = found.get(head := name.partition(".")[0], (0, 0))
            found[head] = (count + 1, bytes + end - begin)
    return [(name, *parts) for name, parts in sorted(found.items())]
