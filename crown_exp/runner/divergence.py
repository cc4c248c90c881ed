"""Noticing a loss that is not finite, without waiting for a GPU at every turn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from crown_exp.errors import Diverged

if TYPE_CHECKING:
    from torch import Tensor

READ_EVERY = 64


class LossWatch:
    """Sees every loss. On the CPU it is read at once, before it can do harm; elsewhere 64 are read together."""

    def __init__(self) -> None:
        self.unread: list[tuple[int, Tensor]] = []

    def see(self, step: int, loss: Tensor) -> None:
        """Raises Diverged for the first loss that is not finite, naming the last good step."""
        if loss.numel() != 1:
            return  # torch says best what is wrong with that
        self.unread.append((step, loss.detach()))
        if loss.device.type == "cpu" or len(self.unread) >= READ_EVERY:
            self.read()

    def read(self) -> None:
        """Read what was seen since the last time."""
        unread, self.unread = self.unread, []
        for step, loss in unread:
            if not math.isfinite(value := loss.item()):
                raise Diverged(
                    f"the loss is {value} in turn {step}; the last good step is {step - 1}"
                )
