"""`python -m benchmarks [--only NAME] [--rounds N] [--json FILE]`: measure, and print a table.

The exit code is 0 whether targets are met or not: a benchmark is no test. It is 1 if something that was to
be measured failed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

from benchmarks import machine
from benchmarks.measure import Figure

MEASUREMENTS = {
    "steps": "the loop",
    "batches": "batches",
    "words": "our words",
    "hydra_help": "Hydra's --help",
    "first_step": "start-up to the first training step",
    "typo": "a typo",
    "tracking": "logging 3 values, and points until they are durable",
    "step_overhead": "a step of a small training, over the bare loop",
    "registry_words": "words over 10,000 runs",
    "building": "building a module of 250 million parameters",
    "experiments": "the four experiments, over a plain loop",
    "checkpoints": "a state saved and restored",
    "position": "the data, at sample 500,000 of 1,000,000 again",
    "resume": "from exec to the first turn, fresh and resumed",
    "in_flight": "training while a state is saved",
    "checkpoints_s3": "a state saved to S3 and restored",
    "goodput": "spot machines: of the ideal, without any loss but absence",
}
HEADER = ("", "median", "min to max", "target", "")


def main() -> None:
    """Measure what was asked for; the table goes to stdout, progress to stderr."""
    asked = options()
    before, started = machine.load(), time.monotonic()
    figures = {name: measured(name, asked.rounds) for name in asked.only or MEASUREMENTS}
    facts = machine.describe() | {
        "load": f"{before} at the start, {machine.load()} at the end",
        "rounds": f"{asked.rounds} in turns after one that is not counted",
        "took": f"{time.monotonic() - started:.0f} s",
    }
    print("\n".join(table(figures)))
    print()
    print("\n".join(f"- {name}: {value}" for name, value in facts.items()))
    if asked.json:
        tree = {name: [item.to_json() for item in items] for name, items in figures.items()}
        asked.json.write_text(json.dumps({"machine": facts, "figures": tree}, indent=1) + "\n")
    sys.exit(0 if all(figures.values()) else 1)


def options() -> argparse.Namespace:
    """What was typed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    parser.add_argument("--only", action="append", choices=MEASUREMENTS, help="may be repeated")
    parser.add_argument("--rounds", type=int, default=7, help="counted rounds (default: 7)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="with every sample")
    asked = parser.parse_args()
    if asked.rounds < 1:
        parser.error("--rounds: expected 1 or more")
    return asked


def measured(name: str, rounds: int) -> list[Figure]:
    """The figures of one measurement, none if it failed; what its runs leave is thrown away."""
    sys.stderr.write(f"measuring {MEASUREMENTS[name]} …\n")
    module = import_module(f"benchmarks.{name}")
    with tempfile.TemporaryDirectory(prefix="crown-bench-") as scratch:
        try:
            figures: list[Figure] = module.measure(rounds, Path(scratch, "home"))
        except RuntimeError as error:  # the other measurements are still worth having
            sys.stderr.write(f"{name} failed: {error}\n")
            return []
    return figures


def table(figures: dict[str, list[Figure]]) -> list[str]:
    """The figures as a Markdown table that is aligned for a terminal, too."""
    rows: list[tuple[str, ...]] = [HEADER]
    for name, items in figures.items():
        rows.append((f"**{MEASUREMENTS[name]}**", "" if items else "failed", "", "", ""))
        rows += [row(item) for item in items]
    widths = [max(len(cells[column]) for cells in rows) for column in range(len(HEADER))]
    lines = [
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))} |"
        for cells in rows
    ]
    return [lines[0], f"|{'|'.join('-' * (width + 2) for width in widths)}|", *lines[1:]]


def row(figure: Figure) -> tuple[str, ...]:
    """One figure as cells."""
    if not figure.samples:
        return figure.what, "not installed", "", "", ""
    unit, bound = figure.unit, "≥" if figure.more_is_better else "≤"
    target = "" if figure.target is None else f"{bound} {figure.target:g} {unit}"
    verdict = {True: "met", False: "missed", None: ""}[figure.met]
    spread = f"{short(min(figure.samples))} to {short(max(figure.samples))}"
    return figure.what, f"{short(figure.median)} {unit}", spread, target, verdict


def short(value: float) -> str:
    """About three digits."""
    places = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{places}f}"


if __name__ == "__main__":
    main()
