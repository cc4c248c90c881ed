"""A small task without torch, for many kills; the tests copy this file into a project."""

from __future__ import annotations

from typing import Any

import numpy as np


class Fit:
    """A line through a cloud of points, fitted with momentum, and the generator that draws them."""

    def __init__(self, seed: int, width: int) -> None:
        self.rolls = np.random.default_rng(seed)
        self.weights, self.speed = np.zeros(width), np.zeros(width)
        self.truth = np.linspace(-1.0, 1.0, width)

    def step(self, rows: int) -> float:
        points = self.rolls.normal(size=(rows, len(self.weights)))
        wrong = points @ (self.weights - self.truth) + 0.1 * self.rolls.normal(size=rows)
        self.speed = 0.9 * self.speed + points.T @ wrong / rows
        self.weights = self.weights - 0.05 * self.speed
        return float(wrong @ wrong / rows)

    def state_dict(self) -> dict[str, Any]:
        return {
            "weights": self.weights.tolist(), "speed": self.speed.tolist(),
            "rolls": self.rolls.bit_generator.state,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.weights, self.speed = np.array(state["weights"]), np.array(state["speed"])
        self.rolls.bit_generator.state = state["rolls"]


def fitting(run, *, turns: int = 60, width: int = 200) -> dict[str, Any]:
    """Many short turns; a file, a metric and a value that must survive."""
    fit = Fit(run.seed, width)
    kept = run.state(best=1e9, seen=[])
    run.track(fit=fit)
    for _ in run.steps(turns):
        loss = fit.step(64)
        if run.every("20 steps"):
            kept.best = min(kept.best, loss)
            run.artifact("weights.txt", " ".join(weight.hex() for weight in fit.weights.tolist()))
        kept.seen = [*kept.seen[-9:], loss]
        run.log(loss=loss, global_numpy=float(np.random.rand()))
    return {"best": kept.best, "seen": kept.seen}
