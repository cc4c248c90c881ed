"""`crown-exp doctor`: what is installed, reachable and allowed here, with what to type if it is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from crown_exp.cli.screen import Screen
    from crown_exp.launch.doctor import Finding

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command(name="doctor")
@click.option("--json", "as_json", is_flag=True, help="for machines")
def command(as_json: bool) -> int:
    """Check this machine and project: each finding with what to type if something is amiss.

    Exits with 1 if a check fails. A check that hangs is given up after a few seconds.
    """
    from crown_exp.cli.screen import screen, write_json, write_lines
    from crown_exp.launch.doctor import examine, look_around

    on, found = screen(), []
    for finding in examine(look_around()):
        found.append(finding)
        if not as_json:
            write_lines(lines(finding, on))
    if as_json:
        write_json(found)
    else:
        write_lines(summary(found))
    return int(any(finding.status == "fail" for finding in found))


def lines(finding: Finding, on: Screen) -> Iterator[str]:
    """Status, check and what was found; below it what to do."""
    from crown_exp.cli.letters import labelled
    from crown_exp.cli.table import painted

    label = f"{finding.status:<6}{finding.check:<12}"
    for line in labelled(label, finding.found, on.width):
        status, rest = line[:6], line[6:]
        colour = COLOURS.get(status.strip(), "")
        yield f"{painted(status, colour, on=on.colour)}{rest}"
    if finding.fix:
        yield from labelled(f"{'':<18}fix: ", finding.fix, on.width)


def summary(found: list[Finding]) -> Iterator[str]:
    """How many of each, and the first thing to type."""
    from crown_exp.cli.letters import plain

    counted = Counter(finding.status for finding in found)
    yield f"{counted['ok']} ok, {counted['warn']} to look at, {counted['fail']} failed"
    amiss = sorted((it for it in found if it.status != "ok"), key=lambda it: it.status)
    fix = next((it.fix for it in amiss if it.fix), "python -m crown_exp +experiment=digits_cnn")
    yield f"next: {plain(fix)}"
