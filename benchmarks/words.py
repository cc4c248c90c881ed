"""Our own words, which need no Hydra."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from benchmarks.child import python
from benchmarks.measure import Figure, interleave
from crown_exp.cli import WORDS

TARGET = 0.15


def measure(rounds: int, home: Path) -> list[Figure]:
    """CPU seconds from exec to exit."""
    empty = "python -c pass"
    pages = ("--version", "help", *(f"{word} --help" for word in WORDS if word != "help"))
    cases = {empty: partial(python, "-c", "pass", home=home)} | {
        page: partial(python, "-m", "crown_exp", *page.split(), home=home) for page in pages
    }
    costs = interleave(cases, rounds)
    return [
        Figure(
            name if name == empty else f"crown_exp {name}", "s CPU",
            tuple(cost.cpu for cost in taken), None if name == empty else TARGET,
        )
        for name, taken in costs.items()
    ]  # fmt: skip
