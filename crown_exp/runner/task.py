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
    function = locate(target)
    if not callable(function):
        raise TaskError(f"task._target_={target} is a {type(function).__name__}, not a function")
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

            return task(run, OmegaConf.create(dict(run.config)))
        return task(run, **arguments(run.config, bound))
    except SystemExit as end:
        if end.code in (None, 0):
            return None
        raise TaskError(f"the task called sys.exit({end.code!r})") from None


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
    if (
        hasattr(result, "item")
        and (result.numel() if hasattr(result, "numel") else result.size) == 1
    ):
        return storable(result.item(), where)
    raise TaskError(
        f"{where} is a {type(result).__name__}; return numbers, strings, lists or dicts of them"
    )
