"""`python -m sky.preempt NAME`: take the machine from the job of that name."""

import sys

from . import get
from .edge import send


def preempt(name: str) -> int:
    """How many machines were taken."""
    taken: int = get(send("preempt", {"name": name}))
    return taken


if __name__ == "__main__":
    print(preempt(sys.argv[1]))
