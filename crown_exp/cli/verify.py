"""`crown-exp verify +experiment=mine`: prove that a run of one's own code survives being killed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crown_exp.errors import ConfigError

if TYPE_CHECKING:
    from crown_exp.config.project import Project
    from crown_exp.launch.submit import Order
    from crown_exp.launch.verify import Found, Proof


@click.command(name="verify", context_settings={"ignore_unknown_options": True})
@click.argument("overrides", nargs=-1, required=True, metavar="+experiment=NAME [KEY=VALUE]...")
@click.option("--steps", type=click.IntRange(1), default=8, help="turns of each loop (default 8)")
@click.option(
    "--ignore",
    multiple=True,
    metavar="NAME",
    help="a metric, or what is below NAME in the state, that may differ",
)
@click.option("--json", "as_json", is_flag=True, help="the verdict for machines")
def command(overrides: tuple[str, ...], steps: int, ignore: tuple[str, ...], as_json: bool) -> int:
    """Prove that a run comes to the same bits however often it dies. In about a minute.

    The run is made with a few turns: straight; straight once more; with 2 workers; and killed three times
    (SIGKILL, between turns and in the middle of one), each time resumed, with 0 and 2 workers in turn. Every
    checkpoint of every turn and every logged point must be those of the straight run. The first that is not
    is named, with what in your code may be why:

    \b
    crown-exp verify +experiment=mine
    crown-exp verify +experiment=mine device=cpu --steps 50

    All of it happens in a folder that is gone afterwards: neither your store nor a tracker is told. The exit
    code is 0 if it is exact, 1 if not.
    """
    from crown_exp.config.project import find_project
    from crown_exp.launch.session import open_session
    from crown_exp.launch.verify import Prover, targets
    from crown_exp.runner.process import importable

    project = find_project(Path.cwd())
    root = project.root if project else Path.cwd()

    def say(line: str) -> None:
        click.echo(line, err=as_json)

    with importable(root):
        order = ordered(project, overrides, steps)
        with open_session(project, debug=True) as session:
            record = session.make(order)
            say(f"{record.name}: up to {steps} turns a loop, in a folder that is thrown away")
            used = targets(order.composition.config)
            proof = Prover(session, record, ignore, used, say).prove()
    click.echo(json.dumps(as_tree(proof)) if as_json else verdict(proof))
    return 0 if proof.exact else 1


def ordered(project: Project | None, typed: tuple[str, ...], steps: int) -> Order:
    """The run to be made. Raises ConfigError for what is wrong, and for what makes no sense here."""
    from crown_exp.config.diagnose import sound
    from crown_exp.launch.recorded import conf_of
    from crown_exp.launch.submit import Order
    from crown_exp.launch.verify.proving import for_proof

    if options := [text for text in typed if text.startswith("-")]:
        raise ConfigError.of(options[0], "verify has no such option: crown-exp help verify")
    with conf_of(project) as loader:
        composition, checked = sound(loader, typed)
    config = composition.config
    for key in ("debug", "resume"):
        if config[key]:
            raise ConfigError.of(key, "verify makes runs of its own: leave it out")
    return Order(replace(composition, config=for_proof(config, steps)), checked)


def verdict(proof: Proof) -> str:
    """What is said at the end."""
    if proof.exact:
        return f"exact: {proof.steps} steps, {proof.kills} kills, 0 bits differ"
    lines = [
        f"inexact ({kind_words(item)}): {item.difference.line}"
        for item in proof.found
        if item.difference
    ]
    if proof.suspects:
        lines += ["suspects", *(f"  {item.words}" for item in proof.suspects)]
    lines.append(
        "what is meant to differ, a time, is left out by --ignore NAME, or '*.part_of_a_name*'"
    )
    return "\n".join(lines)


def kind_words(found: Found) -> str:
    """Between which runs the difference is."""
    return {
        "repeat": "repeat: two straight runs differ",
        "workers": "workers: 2 workers and none differ",
        "kill": "kill: a resumed run differs from a straight one",
    }[found.course.kind]


def as_tree(proof: Proof) -> dict[str, Any]:
    """The proof as JSON has it."""
    return {
        "exact": proof.exact,
        "steps": proof.steps,
        "kills": proof.kills,
        "comparisons": [
            {
                "kind": item.course.kind, "equal": item.difference is None, "kills": item.kills,
                "seconds": round(item.seconds, 2),
                "step": item.difference.step if item.difference else None,
                "names": list(item.difference.names) if item.difference else [],
                "differences": list(item.difference.words) if item.difference else [],
            }
            for item in proof.found
        ],
        "suspects": [
            {"file": item.file, "line": item.line or None, "what": item.what}
            for item in proof.suspects
        ],
    }  # fmt: skip
