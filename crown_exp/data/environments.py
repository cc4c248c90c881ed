"""The state of environments (Gymnasium's, or any of their kind) as plain data: nothing is pickled.

    run.track(envs=EnvironmentState(envs))

An environment is a chain of *layers*: wrappers, the environment itself, the environments that a vector of
them holds. Layers stay as they were made; their fields are saved and set, as `crown_exp.data.plain` says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from crown_exp.data.plain import METHODS, Plain, Reader, Writer, kind_of, methods_of
from crown_exp.errors import TaskError

PROGRAM = {"env_fns", "spec", "_cached_spec", "_saved_kwargs", "metadata", "_metadata"}
"""Fields of Gymnasium that say how an environment was made."""
CLOCKS = {"episode_start_time", "episode_start_times", "time_queue"}
"""Fields of Gymnasium that are times of this process's clock, or how long an episode took by it."""


class EnvironmentState:
    """state_dict and load_state_dict for environments that have none.

    envs: a vector environment or a single one. A layer that has state_dict and load_state_dict of its own
    is asked for its state, and speaks for all inside it.
    ignore: names of fields, of any layer or object, that hold nothing which must survive.
    The random generator of a space is kept once it was seeded: `envs.action_space.seed(…)`.
    Raises TaskError if there is something that cannot be kept.
    """

    def __init__(self, envs: Any, ignore: Iterable[str] = ()) -> None:
        if not _is_environment(envs):
            raise TaskError(
                f"EnvironmentState: a {type(envs).__name__} has no step and reset; expected environments"
            )
        self.envs, self.ignore = envs, PROGRAM | CLOCKS | set(ignore)
        self.state_dict()  # what cannot be kept is said now, not hours later

    def state_dict(self) -> Plain:
        """The state, a copy."""
        layers = list(layers_of(self.envs))
        writer = Writer(self.ignore, (layer for layer, _ in layers))
        return {"layers": [_saved(layer, place, writer) for layer, place in layers]}

    def load_state_dict(self, state: Plain) -> None:
        """Set the present environments to a saved state; the state stays as it is.

        Raises TaskError if they were made otherwise: in number, kind or wrappers.
        """
        layers = list(layers_of(self.envs))
        saved = [layer["kind"] for layer in state["layers"]]
        present = [kind_of(layer) for layer, _ in layers]
        if saved != present:
            raise TaskError(
                f"the saved environments were {_told(saved)}, these are {_told(present)}; make them alike"
            )
        reader = Reader()
        for (layer, place), was in zip(layers, state["layers"], strict=True):
            _restore(layer, was, place, reader)


def _saved(layer: Any, place: str, writer: Writer) -> Plain:
    kind = kind_of(layer)
    if _speaks(layer):
        return {"kind": kind, "own": writer.value(layer.state_dict(), f"{place}.state_dict()")}
    return {"kind": kind, "fields": writer.fields(vars(layer), f"{place} ({kind})")}


def _restore(layer: Any, saved: Plain, place: str, reader: Reader) -> None:
    if "own" in saved:
        layer.load_state_dict(reader.value(saved["own"], None, place))
        return
    fields = vars(layer)  # not setattr: Gymnasium's properties hand some names on to inner layers
    for name, plain in sorted(saved["fields"].items()):
        fields[name] = reader.value(plain, fields.get(name), f"{place} ({kind_of(layer)}).{name}")


def layers_of(
    outer: Any, place: str = "envs", known: set[int] | None = None
) -> Iterator[tuple[Any, str]]:
    """An environment and all that it holds, the outermost first, each with where it is found."""
    known = set() if known is None else known
    if id(outer) in known:
        return
    known.add(id(outer))
    yield outer, place
    if _speaks(outer):
        return
    if "parent_pipes" in vars(outer):
        raise TaskError(
            f"{place}: the state of {kind_of(outer)} lies in other processes and cannot be read; "
            'make_vec(…, vectorization_mode="sync"), or track no state and reset it in every turn'
        )
    for name, value in sorted(vars(outer).items()):
        if _is_environment(value):
            yield from layers_of(value, f"{place}.{name}", known)
        elif isinstance(value, list | tuple) and value and all(map(_is_environment, value)):
            for number, inner in enumerate(value):
                yield from layers_of(inner, f"{place}.{name}[{number}]", known)


def _is_environment(value: Any) -> bool:
    kind = type(value)
    return hasattr(kind, "step") and hasattr(kind, "reset") and hasattr(value, "__dict__")


def _speaks(value: Any) -> bool:
    return methods_of(value) == METHODS[0]


def _told(kinds: list[str]) -> str:
    return f"{len(kinds)} layers ({', '.join(dict.fromkeys(kinds))})"
