"""Small values of a task that must survive: `best = run.state(accuracy=0.0)`, then `best.accuracy = …`."""

from __future__ import annotations

from typing import Any

from crown_exp.errors import TaskError

PLAIN = (bool, int, float, str, type(None))


class State:
    """Named values that are saved with every checkpoint: numbers, strings, None, and lists of them."""

    def __init__(self, **values: Any) -> None:
        for name, value in values.items():
            if hasattr(State, name):
                raise TaskError(f"run.state: {name} cannot be a name here; choose another")
            self._keep(name, value)

    def _keep(self, name: str, value: Any) -> None:
        if not is_plain(value):
            raise TaskError(
                f"run.state: {name} is a {type(value).__name__}; a number, string or list of them is kept. "
                f"Anything with a state_dict goes to run.track({name}=…)"
            )
        self.__dict__[name] = value

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.__dict__:
            raise TaskError(f"{self._lacks(name)}: name it in run.state({name}=…)")
        self._keep(name, value)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(self._lacks(name))

    def _lacks(self, name: str) -> str:
        return f"run.state has no {name!r} (it has {', '.join(self.__dict__) or 'nothing'})"

    def state_dict(self) -> dict[str, Any]:
        """The values by name."""
        return dict(self.__dict__)

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """Take over saved values; names that were not saved keep theirs."""
        for name, value in values.items():
            self._keep(name, value)


def is_plain(value: Any) -> bool:
    """Whether a value is a number, string, None, or a list of such."""
    return isinstance(value, PLAIN) or (isinstance(value, list) and all(map(is_plain, value)))
