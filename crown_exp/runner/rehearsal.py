"""One save and one resume, tried in the first turns of a debug run: nothing leaves the process.

At the end of the first turn the state of everything tracked is taken, and again at the end of the second.
Then the first is loaded, must be what `state_dict` says afterwards, and the second is put back: so a
`load_state_dict` that does nothing is found, too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import CO_GENERATOR
from types import FrameType
from typing import Any

from crown_exp.checkpoints.tree import copied, difference, flatten, is_tensor
from crown_exp.errors import TaskError
from crown_exp.runner.carried import carried
from crown_exp.runner.post_mortem import is_own
from crown_exp.runner.state_of import given, taken
from crown_exp.runner.tracebacks import is_out_of_memory
from crown_exp.tracking import Loop
from crown_exp.tracking.run_log import to_stderr


@dataclass
class Rehearsal:
    """Called at the boundaries of a debug run's loops. tracked: by name, as it grows. say: shows a line.

    first: what was taken at the first boundary, by name. tried: what has been put back once.
    """

    tracked: Mapping[str, Any]
    say: Callable[[str], None] = to_stderr
    first: dict[str, Any] = field(default_factory=dict)
    tried: set[str] = field(default_factory=set)
    named: set[str] = field(default_factory=set)

    def boundary(self, loop: Loop, source: Any) -> None:
        """Between two turns of a loop over `source`.

        Raises TaskError naming what cannot be stored, or does not come back.
        """
        if loop.done == 1:
            self.name_suspects(source)
            if hasattr(source, "state_dict"):
                flatten(taken("run.steps: the source", source), "source")
        if loop.done == 1 and loop.total != 1:
            for name in self.left():
                with self.enough_memory(name):
                    self.first[name] = self.state(name)
        elif loop.done == min(2, loop.total or 2):
            self.rehearse(loop.before + loop.done)

    def left(self) -> list[str]:
        """What is tracked and has not been tried yet."""
        return [name for name in self.tracked if name not in self.tried]

    def state(self, name: str) -> Any:
        """The state of what is tracked under a name, as a checkpoint would hold it. Raises TaskError."""
        tree = taken(f"run.track: {name}", self.tracked[name])
        flatten(tree, name)
        return copied(tree)

    def rehearse(self, step: int) -> None:
        """Save and resume all that is left. Raises TaskError."""
        done = []
        for name in self.left():
            with self.enough_memory(name):
                second = self.state(name)
                first = self.first.pop(name, second)
                if alike(first, second):
                    self.put_back(name, first)
                self.put_back(name, second)
                done.append(name)
        self.tried.update(done)
        if done:
            self.say(f"debug: saved after turn {step} and put back: {', '.join(done)}")

    @contextmanager
    def enough_memory(self, name: str) -> Iterator[None]:
        """Inside, running out of memory costs a line: a run in earnest has no second copy on the device."""
        try:
            yield
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self.tried.add(name)
            self.say(f"debug: no memory for a second copy of {name}: its save was not tried")

    def put_back(self, name: str, state: Any) -> None:
        """Load a state, and compare what is there then. Raises TaskError."""
        saved = flatten(state, name)
        again = copied(state)  # which load_state_dict may keep, and a later turn change
        given(f"run.track: {name}", self.tracked[name], again)
        if how := difference(saved, flatten(taken(f"run.track: {name}", self.tracked[name]), name)):
            raise TaskError(
                f"run.track: {how} after load_state_dict: it does not come back; load_state_dict must put "
                "back all that state_dict returned"
            )

    def name_suspects(self, source: Any) -> None:
        """Say which plain locals of the loop's function carry something over turns, and are not tracked."""
        ours = {id(source), *map(id, self.tracked.values())}
        found = [
            name for frame in consumers(sys._getframe(1)) for name in carried(frame)
            if name not in self.named and id(frame.f_locals.get(name)) not in ours
            and is_data(frame.f_locals.get(name))
        ]  # fmt: skip
        self.named.update(found)
        if found:
            self.say(
                f"debug: carried from turn to turn and not tracked: {', '.join(found)}; a resumed run would "
                f"start them anew. kept = run.state({found[0]}=…) keeps numbers, strings and lists, "
                "run.track(…) all that has a state_dict"
            )


def alike(first: Any, second: Any) -> bool:
    """Whether two states are of one form: what has grown since the first cannot take it."""
    one, other = flatten(first, ""), flatten(second, "")
    return one.keys() == other.keys() and all(
        not is_tensor(value) or (is_tensor(other[path]) and value.shape == other[path].shape)
        for path, value in one.items()
    )


def consumers(frame: FrameType | None) -> Iterator[FrameType]:
    """The frames of the user's own code that go over the loop: a generator may hand its turns on."""
    while frame is not None:
        if is_own(frame.f_code.co_filename):
            yield frame
            if not frame.f_code.co_flags & CO_GENERATOR:
                return
        frame = frame.f_back


def is_data(value: Any) -> bool:
    """Whether a value is plain data: numbers, texts, containers, tensors, arrays."""
    kinds = (bool, int, float, complex, str, bytes, list, tuple, dict, set, type(None))
    return (
        isinstance(value, kinds) or is_tensor(value) or type(value).__name__ in ("ndarray", "deque")
    )
