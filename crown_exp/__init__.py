"""crown_exp: experiments that finish. `Run` and `Config` are what a task needs; the rest is lazy."""

TYPE_CHECKING = False  # typing's own costs a start-up more than all that is here
if TYPE_CHECKING:
    from typing import Any

    from crown_exp.face import compose, runs, start
    from crown_exp.face import open as open
    from crown_exp.runner.context import Run
    from crown_exp.runner.handle import Config

__version__ = "0.1.0"
# Without `open`, so that `from crown_exp import *` leaves Python's own alone.
__all__ = ["Config", "Run", "__version__", "compose", "runs", "start"]

HOMES = {
    "Config": "crown_exp.runner.handle",
    "Run": "crown_exp.runner.context",
    "compose": "crown_exp.face",
    "open": "crown_exp.face",
    "runs": "crown_exp.face",
    "start": "crown_exp.face",
}


def __getattr__(name: str) -> "Any":
    if name not in HOMES:
        raise AttributeError(f"module 'crown_exp' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "open"])
