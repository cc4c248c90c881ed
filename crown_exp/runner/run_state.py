"""All that must survive of a run, as one tree: taken between two turns, put back before the first one.

tracked     what the task named, by name: its state_dict
gradients   of tracked modules, where there are any between two turns
built       the numbers with which optimizers and schedules were built
loops       name, turns done, place in what it goes over
scaler      of fp16
random      every generator of the process
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crown_exp.checkpoints.tree import copied, is_tensor
from crown_exp.errors import TaskError
from crown_exp.runner import random_state
from crown_exp.runner.source import Source
from crown_exp.runner.state_of import taken
from crown_exp.runner.trackable import trackable
from crown_exp.tracking import Loop

if TYPE_CHECKING:
    from crown_exp.devices.precision import Precision


@dataclass
class RunState:
    """What is tracked, the loops so far, and how to take all of it.

    tracked: by name, as it grows. built: by name, what an optimizer or a schedule was made with. loop: the
    one that goes on, or the last that did; source: what it goes over. chosen: the precision, once it is chosen.
    """

    tracked: dict[str, Any] = field(default_factory=dict)
    built: dict[str, Any] = field(default_factory=dict)
    loops: dict[str, Loop] = field(default_factory=dict)
    loop: Loop | None = None
    source: Source | None = None
    chosen: Callable[[], Precision | None] = lambda: None

    def track(self, name: str, value: Any) -> None:
        """Keep what belongs to the state under a name. Raises TaskError for what has no state."""
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
            "gradients": {
                name: found for name, it in self.tracked.items() if (found := gradients(it))
            },
            "built": self.built,
            "loops": [
                {"name": name, "done": it.done, "broken": it.broken, "total": it.total}
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
            for it in self.tracked.values()
            if hasattr(it, "parameters")
            for weight in it.parameters()
            if not weight.requires_grad
        )

    def mark(self) -> Mark:
        """The state now, before a turn that begins with an evaluation: what may change meanwhile is copied."""
        state = self.take()
        live: list[tuple[Any, int]] = []
        trained = {
            name: weights_of(it, state["tracked"][name]) for name, it in self.tracked.items()
        }
        state["tracked"] = {
            name: held(tree, trained[name], live) for name, tree in state["tracked"].items()
        }
        return Mark(self.step, copied_but(state, "tracked"), live, self.waiting())

    def waiting(self) -> list[tuple[Any, Any, int]]:
        """Every weight, its gradient and the gradient's version."""
        return [
            (weight, weight.grad, -1 if weight.grad is None else weight.grad._version)
            for it in self.tracked.values()
            if hasattr(it, "parameters")
            for weight in it.parameters()
        ]


@dataclass(frozen=True)
class Mark:
    """The state at a boundary that lies behind: it holds as long as no weight and no gradient was changed.

    live: tensors that are still those of the task, and the version of each, which torch counts up when one is
    changed in place (fused optimizers do not: so gradients are looked at, too). waiting: of RunState.
    """

    step: int
    state: dict[str, Any]
    live: list[tuple[Any, int]]
    waiting: list[tuple[Any, Any, int]]

    @property
    def holds(self) -> bool:
        """Whether the weights are those of the boundary."""
        return all(tensor._version == version for tensor, version in self.live) and all(
            weight.grad is grad and (grad is None or grad._version == version)
            for weight, grad, version in self.waiting
        )


def gradients(tracked: Any) -> dict[str, Any]:
    """The gradients of a module that wait for an update; none after `run.update`."""
    if not hasattr(tracked, "named_parameters"):
        return {}
    return {name: it.grad for name, it in tracked.named_parameters() if it.grad is not None}


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


def weights_of(tracked: Any, tree: Any) -> bool | frozenset[str]:
    """What of a state is changed by updates alone, and too large to copy: all of an optimizer's, a module's
    parameters by name.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    if isinstance(tracked, torch.optim.Optimizer):
        return True
    if isinstance(tracked, torch.nn.Module):
        return frozenset(name for name, _ in tracked.named_parameters(remove_duplicate=False))
    return False


def held(tree: Any, weights: bool | frozenset[str], live: list[tuple[Any, int]]) -> Any:
    """A copy of a tree but for the weights, which are noted in `live`."""
    if isinstance(tree, Mapping):
        made = {
            key: held(value, weights if isinstance(weights, bool) else key in weights, live)
            for key, value in tree.items()
        }
        return made if type(tree) is dict else with_metadata(made, tree)
    if isinstance(tree, list | tuple):
        values = [held(value, weights is True, live) for value in tree]
        return values if isinstance(tree, list) else tuple(values)
    if is_tensor(tree) and weights is True:
        live.append((tree, tree._version))
        return tree
    return copied(tree)


def with_metadata(made: dict[str, Any], tree: Any) -> Any:
    """A module's state_dict as torch makes it: the versions of its parts belong to it."""
    if not hasattr(tree, "_metadata"):
        return made
    again = type(tree)(made)
    again._metadata = tree._metadata
    return again


def copied_but(state: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A state with all copied but one of its parts."""
    return {key: value if key == name else copied(value) for key, value in state.items()}
