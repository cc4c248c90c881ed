"""From a task's target to the call: its function, its arguments, its result."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from crown_exp.errors import TaskError
from crown_exp.runner.build import build, locate
from crown_exp.runner.context import Run
from crown_exp.runner.handle import Config


def load_task(config: Mapping[str, Any]) -> Callable[..., Any]:
    """The user's function. Raises TaskError if the target names none; an import error is the module's own."""
    target = config["task"]["_target_"]
    try:
        function = locate(target)
    except SystemExit as end:
        raise TaskError(f"importing {target} called sys.exit({end.code!r})") from None
    if not callable(function):
        raise TaskError(f"task._target_={target} is a {type(function).__name__}, not a function")
    if inspect.iscoroutinefunction(function):
        raise TaskError(f"task._target_={target} is async; a task is a plain function")
    return function  # type: ignore[no-any-return]


def arguments(config: Mapping[str, Any], bound: Sequence[str]) -> dict[str, Any]:
    """What the task is called with beside the run: groups as `Config`, task.* as values."""
    own = {key: build(value) for key, value in config["task"].items() if not key.startswith("_")}
    return own | {name: Config(name, config[name]) for name in bound}


def call_task(task: Callable[..., Any], run: Run, bound: Sequence[str]) -> Any:
    """Call the task. A `sys.exit` in it is an end like any other: 0 completes, anything else fails.

    `def train(run, cfg)` is handed the whole config, as a DictConfig.
    """
    try:
        if takes_whole_config(task):
            from omegaconf import OmegaConf

            result = task(run, OmegaConf.create(dict(run.config)))
        else:
            result = task(run, **arguments(run.config, bound))
        run._settle()
        return result
    except SystemExit as end:
        if end.code in (None, 0):
            return None
        raise TaskError(f"the task called sys.exit({end.code!r})").with_traceback(
            end.__traceback__
        ) from None


def takes_whole_config(task: Callable[..., Any]) -> bool:
    """Whether a task's second parameter, and last, is the whole config."""
    return [*inspect.signature(task).parameters][1:] in (["cfg"], ["config"])


def storable(result: Any, where: str = "the result") -> Any:
    """What a task returned as JSON holds it: tensors and numpy scalars of one element become numbers.

    Raises TaskError naming the place of anything that cannot be kept.
    """
    if result is None or isinstance(result, bool | int | float | str):
        return result
    if isinstance(result, Mapping):
        return {str(key): storable(value, f"{where}[{key!r}]") for key, value in result.items()}
    if isinstance(result, list | tuple):
        return [storable(value, f"{where}[{index}]") for index, value in enumerate(result)]
    if hasattr(result, "item") and elements(result) == 1:
        value = result.item()
        if value is not result and isinstance(value, bool | int | float | str):
            return value
    raise TaskError(f"{where} is {a_kind(result)}; return numbers, strings, lists or dicts of them")


def elements(value: Any) -> int | None:
    """How many a tensor or an array holds; None for anything else."""
    count = value.numel() if hasattr(value, "numel") else getattr(value, "size", None)
    return count if isinstance(count, int) else None


def a_kind(value: Any) -> str:
    """What a value is, for people."""
    shape = f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
    return f"a {type(value).__name__}{shape}"
