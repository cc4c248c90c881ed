"""The state of a run, saved so that a run goes on as if it had never ended.

`crown_exp.checkpoints.checkpoints` is what the runner uses; nothing here imports torch before there is a
tensor.
"""

from crown_exp.checkpoints.base import (
    Best,
    Keep,
    Listed,
    Restored,
    Saved,
    Superseded,
    Unsaved,
)
from crown_exp.checkpoints.cadence import Cadence

__all__ = [
    "Best",
    "Cadence",
    "Keep",
    "Listed",
    "Restored",
    "Saved",
    "Superseded",
    "Unsaved",
]
