"""Pieces of the saved state, each of which can be left out of what an attempt puts back.

A test that holds a resumed run against the run nobody touched must notice whichever is missing; so each of them
is left out once, in the process that resumes, and stays as a new process has it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crown_exp.runner import random_state
from crown_exp.runner.resuming import Resuming

TRACKED = ("net", "ema", "opt", "schedule", "chances", "dice", "rolls", "state(best, seen)")
"""What tests/exactness/tasks.py tracks."""

GENERATORS = ("python", "numpy", "torch")

PIECES = (
    *(f"tracked {name}" for name in TRACKED),
    *("buffers of net", "moments of opt"),
    *(f"random {name}" for name in GENERATORS),
    *("gradients", "turns done", "turns of the loop before", "place in the data"),
)


def leave_out(piece: str) -> None:
    """In the process that resumes: put back all but this piece."""
    kind, _, name = piece.partition(" ")
    if kind == "tracked":
        change("one", lambda original: lambda self, at, run: at == name or original(self, at, run))
    elif kind == "random":
        leave_out_generator(name)
    elif piece in PARTS:
        PARTS[piece]()
    else:
        raise KeyError(piece)


def change(method: str, made: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Another method of Resuming in the place of one, made of it."""
    setattr(Resuming, method, made(getattr(Resuming, method)))


def leave_out_generator(name: str) -> None:
    """One of the process's generators goes on as it is."""
    original = random_state.restore

    def restore(state: Any) -> list[str]:
        return original({**state, name: random_state.capture()[name]})

    random_state.restore = restore


def edited(edit: Callable[[Any, Any], Any], of: str) -> Callable[[], None]:
    """Leave out by changing the saved state of what is tracked as `of`: edit(saved, what there is now)."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def one(self: Resuming, name: str, run: Any) -> None:
            if name == of:
                tracked = self.tracked[of]
                now = run.tracked[of]
                self.state = {**self.state, "tracked": {**self.tracked, of: edit(tracked, now)}}
            original(self, name, run)

        return one

    return lambda: change("one", make)


def own_buffers(saved: Any, module: Any) -> Any:
    """The saved parameters, and the buffers that the module has now."""
    own = {name: buffer.clone() for name, buffer in module.named_buffers()}
    return {**saved, **own}


def leave_out_gradients() -> None:
    """No gradient waits for an update."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def everything(self: Resuming, run: Any) -> None:
            self.state = {**self.state, "gradients": {}}
            original(self, run)

        return everything

    change("all", make)


def leave_out_turns(*, over: bool) -> None:
    """The loop that goes on, or the one before it, counts from nought."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def loop(self: Resuming, name: str, run: Any) -> Any:
            was = original(self, name, run)
            return was._replace(done=0) if was.over is over else was

        return loop

    change("loop", make)


PARTS: dict[str, Callable[[], None]] = {
    "buffers of net": edited(own_buffers, "net"),
    "moments of opt": edited(lambda saved, now: {**saved, "state": {}}, "opt"),
    "gradients": leave_out_gradients,
    "turns done": lambda: leave_out_turns(over=False),
    "turns of the loop before": lambda: leave_out_turns(over=True),
    "place in the data": lambda: change("place", lambda original: lambda self, loop, run: None),
}
