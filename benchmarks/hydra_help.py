"""`--help` and `--cfg job`, beside a stock `hydra.main` on the same tree, schema and plugins."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from benchmarks.child import python
from benchmarks.measure import Figure, interleave, ratios

PAGES = {"--help": 1.1, "--cfg job +experiment=digits_cnn": None}


def measure(rounds: int, home: Path) -> list[Figure]:
    """CPU seconds from exec to exit, and their ratio."""
    cases = {
        (app, page): partial(python, "-m", app, *page.split(), home=home)
        for page in PAGES
        for app in ("benchmarks.stock", "crown_exp")
    }
    named = {" ".join(name): case for name, case in cases.items()}
    costs = {
        name: [cost.cpu for cost in taken] for name, taken in interleave(named, rounds).items()
    }
    figures = []
    for page, target in PAGES.items():
        stock, ours = costs[f"benchmarks.stock {page}"], costs[f"crown_exp {page}"]
        figures += [
            Figure(f"stock hydra.main {page}", "s CPU", tuple(stock)),
            Figure(f"crown_exp {page}", "s CPU", tuple(ours)),
            Figure("ratio", "×", ratios(ours, stock), target),
        ]
    return figures
