"""One attempt of a run, from its config to its result; what a task is handed."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crown_exp.runner.attempt import run_attempt
    from crown_exp.runner.context import Run
    from crown_exp.runner.ending import Ending
    from crown_exp.runner.handle import Config

__all__ = ["Config", "Ending", "Run", "run_attempt"]

HOMES = {"Config": "handle", "Ending": "ending", "Run": "context", "run_attempt": "attempt"}


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(name)
    from importlib import import_module

    return getattr(import_module(f"crown_exp.runner.{HOMES[name]}"), name)
