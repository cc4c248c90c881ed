"""Asking the task's own objects for their state, and giving it back: what they raise is told as theirs."""

from __future__ import annotations

from typing import Any, NoReturn

from crown_exp.errors import TaskError
from crown_exp.runner.tracebacks import is_out_of_memory, last_line


def taken(where: str, value: Any) -> Any:
    """What state_dict returns. Raises TaskError for whatever it raises."""
    try:
        return value.state_dict()
    except Exception as error:
        tell(where, "state_dict", error)


def given(where: str, value: Any, state: Any) -> None:
    """Call load_state_dict. Raises TaskError for whatever it raises."""
    try:
        value.load_state_dict(state)
    except Exception as error:
        tell(where, "load_state_dict", error)


def tell(where: str, method: str, error: Exception) -> NoReturn:
    """Raises TaskError for what a method raised; to run out of memory is not its mistake."""
    if is_out_of_memory(error) or isinstance(error, TaskError):
        raise error
    raise TaskError(f"{where}.{method}() raised {last_line(error)}") from error
