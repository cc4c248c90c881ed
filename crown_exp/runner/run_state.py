"""All that must survive of a run, as one tree, taken between two turns.

tracked     what the task named, by name: its state_dict
modules     of modules, what is no part of a state_dict: modes, what is trained, some buffers
gradients   where there are any between two turns
built       the numbers with which optimizers and schedules were built
loops       name, turns done, whether it was left or has come to its end
place       in what the last loop goes over
scaler      of fp16
random      every generator of the process
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crown_exp.errors import TaskError
from crown_exp.runner import random_state
from crown_exp.runner.source import Source
from crown_exp.runner.state_of import taken
from crown_exp.runner.trackable import trackable
from crown_exp.runner.weights import Modules, gradients, module_of
from crown_exp.tracking import Loop

if TYPE_CHECKING:
    from crown_exp.devices.precision import Precision
    from crown_exp.runner.initial import Initial


def nothing_chosen() -> Precision | None:
    """No precision was asked for."""
    return None


@dataclass
class RunState:
    """What is tracked, the loops so far, and how to take all of it.

    tracked: by name, as it grows. built: by name, what an optimizer or a schedule was made with. loop: the
    one that goes on, or the last that did; source: what it goes over. chosen: the precision, if it is chosen.
    choose: the precision, chosen if need be. initial: the weights that tracked modules begin with.
    """

    tracked: dict[str, Any] = field(default_factory=dict)
    built: dict[str, Any] = field(default_factory=dict)
    loops: dict[str, Loop] = field(default_factory=dict)
    loop: Loop | None = None
    source: Source | None = None
    chosen: Callable[[], Precision | None] = nothing_chosen
    choose: Callable[[], Precision | None] = nothing_chosen
    modules: Modules = field(default_factory=Modules)
    initial: Initial | None = None

    def track(self, name: str, value: Any) -> None:
        """Keep what belongs to the state under a name. Raises TaskError for what has no state.

        A module gets the weights that it begins with; raises as `Initial.give`.
        """
        if name in self.tracked:
            raise TaskError(f"run.track: {name} is tracked already; give this one another name")
        kept = trackable(name, value)
        if kept is None:
            raise TaskError(
                f"run.track: {name} is a {type(value).__name__} without state_dict and load_state_dict; "
                f"small values go to run.state({name}=…)"
            )
        self.tracked[name] = kept
        if is_adjustable(kept):
            self.built[name] = numbers_of(taken(f"run.track: {name}", kept))
        if (module := module_of(kept)) is not None:
            self.modules.add(name, module)
            if self.initial is not None:
                self.initial.give(name, module)

    def begin(self, name: str, loop: Loop, source: Source) -> None:
        """A loop begins."""
        self.loops[name] = self.loop = loop
        self.source = source

    @property
    def step(self) -> int:
        """The turns that are complete, of all loops together."""
        return self.loop.before + self.loop.done if self.loop else 0

    def take(self, place: Any = None) -> dict[str, Any]:
        """The state now, between two turns; its tensors are the live ones.

        place: where the source stands; None: ask it. Raises TaskError for what a state_dict raises.
        """
        precision = self.chosen()
        if place is None and self.source is not None:
            place = self.source.place()
        return {
            "tracked": {name: taken(f"run.track: {name}", it) for name, it in self.tracked.items()},
            "modules": self.modules.state(),
            "gradients": gradients(self.tracked),
            "built": self.built,
            "loops": [
                {"name": name, "done": it.done, "broken": it.broken, "exhausted": it.exhausted}
                for name, it in self.loops.items()
            ],
            "place": place,
            "scaler": precision.state_dict() if precision else {},
            "random": random_state.capture(),
        }

    def frozen(self) -> frozenset[int]:
        """The addresses of weights that are not trained."""
        return frozenset(
            weight.data_ptr()
            for module in self.modules.by_name.values()
            for weight in module.parameters()
            if not weight.requires_grad
        )

    def known(self) -> Iterator[tuple[str, Any]]:
        """Name and state of what is tracked; not of modules that have no shape yet."""
        for name, it in self.tracked.items():
            if not self.modules.is_lazy(name):
                yield name, taken(f"run.track: {name}", it)


def is_adjustable(tracked: Any) -> bool:
    """Whether it is made of numbers that a fork may change: an optimizer or a schedule of its rate."""
    return hasattr(tracked, "param_groups") or hasattr(tracked, "base_lrs")


def numbers_of(tree: Any) -> Any:
    """A tree without its tensors and texts."""
    if isinstance(tree, Mapping):
        return {key: numbers_of(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [numbers_of(value) for value in tree]
    return tree if isinstance(tree, bool | int | float) else None
