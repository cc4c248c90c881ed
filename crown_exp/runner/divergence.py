"""Noticing numbers that are not finite, without waiting for a GPU at every turn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from crown_exp.errors import Diverged

if TYPE_CHECKING:
    from torch import Tensor

READ_EVERY = 64
LOSS, GRADIENT = "loss", "gradient's norm"


class FiniteWatch:
    """Sees every loss and gradient norm; looks at the weights where a loop ends.

    On the CPU a number is read at once, before it can do harm; elsewhere 64 are read together.
    tracked: what the task named as its state, by name; its modules' weights are looked at.
    """

    def __init__(self, tracked: Mapping[str, Any]) -> None:
        self.tracked = tracked
        self.unread: list[tuple[int, str, Tensor]] = []
        self.updated = False

    def see(self, step: int, what: str, value: Tensor) -> None:
        """Raises Diverged for the first value that is not finite, naming the last good step."""
        if value.numel() != 1:
            return  # torch says best what is wrong with that
        self.unread.append((step, what, value.detach()))
        if value.device.type == "cpu" or len(self.unread) >= READ_EVERY:
            self.read()

    def read(self) -> None:
        """Read what was seen since the last time."""
        unread, self.unread = self.unread, []
        for step, what, tensor in unread:
            if math.isfinite(value := tensor.item()):
                continue
            # A loss that is read at once was computed with the weights that the turn before left.
            at_once = what == LOSS and tensor.device.type == "cpu"
            name = first_not_finite(self.tracked) if at_once else None
            good, why = (step - 1, "") if name is None else (step - 2, f", as {name} is not finite")
            raise Diverged(
                f"the {what} is {value} in turn {step}{why}; the last good step is {max(good, 0)}"
            )

    def settle(self, step: int) -> None:
        """A loop came to its end after turn `step`. Raises Diverged, too, for a weight that is not finite."""
        self.read()
        training = self.updated or any(hasattr(it, "param_groups") for it in self.tracked.values())
        if training and (name := first_not_finite(self.tracked)):
            when = f"after turn {step}, the last one" if step else "at the end of the task"
            raise Diverged(f"{name} is not finite {when}")


def first_not_finite(tracked: Mapping[str, Any]) -> str | None:
    """The name of a weight with a value that is not finite: `net.layers.0.bias`."""
    for name, value in tracked.items():
        if hasattr(value, "named_parameters"):
            for key, weight in value.named_parameters():
                if weight.is_floating_point() and not weight.detach().isfinite().all():
                    return f"{name}.{key}"
    return None
