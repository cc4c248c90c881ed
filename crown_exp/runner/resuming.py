"""Putting a checkpoint's state back, just before the first turn."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from crown_exp.checkpoints.tree import copied, flatten, is_tensor, tensor_words
from crown_exp.errors import NotResumable, TaskError
from crown_exp.runner import random_state
from crown_exp.runner.run_state import RunState
from crown_exp.runner.state_of import given
from crown_exp.runner.weights import is_lazy, keep_dtypes, module_of, put_gradients
from crown_exp.tracking import Loop


class LoopBefore(NamedTuple):
    """How a loop stood: turns done, whether it was left, is over, or what it goes over has come to its end."""

    done: int = 0
    broken: bool = False
    over: bool = False
    exhausted: bool = False


@dataclass
class Resuming:
    """A state that is still to be put back.

    state: as RunState.take made it. step: of its checkpoint. forked: it is another run's; what was built
    with other numbers keeps the new ones. say: shows a line.
    """

    state: Mapping[str, Any]
    step: int
    forked: bool
    say: Callable[[str], None]

    @property
    def tracked(self) -> Mapping[str, Any]:
        """What was tracked, by name."""
        return self.state["tracked"]  # type: ignore[no-any-return]

    def refused(self, what: str) -> NotResumable:
        """The error of a state that does not fit the task."""
        if self.forked:
            return NotResumable(
                f"cannot begin at step {self.step} of that run: {what}; a fork takes over the whole state: "
                "choose settings that it fits, or start a new run from its weights"
            )
        return NotResumable(
            f"cannot go on at step {self.step}: {what}; nothing was changed: resume with the code and the "
            "config that it was saved with, or start a new run"
        )

    # --- loops ----------------------------------------------------------------------------------------

    def loop(self, name: str, run: RunState) -> LoopBefore:
        """How a loop that begins stood. Raises NotResumable for a strange one."""
        saved = self.state["loops"]
        at = len(run.loops)
        if at >= len(saved) or saved[at]["name"] != name:
            known = ", ".join(loop["name"] for loop in saved) or "none"
            raise self.refused(f"loop {at + 1} is named {name!r}, and the loops then were {known}")
        found = saved[at]
        return LoopBefore(
            found["done"], found["broken"], over=at + 1 < len(saved), exhausted=found["exhausted"]
        )

    # --- before the first turn ------------------------------------------------------------------------

    def all(self, run: RunState) -> None:
        """Put everything back, random numbers last. Raises NotResumable for names that do not match."""
        missing = [name for name in self.tracked if name not in run.tracked]
        strange = [name for name in run.tracked if name not in self.tracked]
        if missing or strange:
            said = [f"{', '.join(missing)} is not tracked any more"] if missing else []
            said += [f"{', '.join(strange)} was not tracked then"] if strange else []
            if not self.forked:
                raise self.refused("; ".join(said))
            self.say(f"forked: {'; '.join(said)}")
        for name in run.tracked:
            if name in self.tracked:
                self.one(name, run)
        run.modules.put_back(self.state["modules"])
        put_gradients(run.tracked, self.state["gradients"])
        if self.state["scaler"] and (precision := run.choose()):
            precision.load_state_dict(copied(self.state["scaler"]))
        for line in random_state.restore(self.state["random"]):
            self.say(line)

    def one(self, name: str, run: RunState) -> None:
        """Put back what was saved under a name. Raises NotResumable if it does not fit."""
        value, saved = run.tracked[name], self.tracked[name]
        if self.forked and name in run.built:
            if not alike(self.state["built"], run.built, name):
                self.say(
                    f"{name} starts anew: it is made of other parts than in the run it is forked from"
                )
                return
            saved = adjusted(saved, self.state["built"][name], run.built[name])
        try:
            given(f"run.track: {name}", value, handed_over(value, saved))
        except TaskError as error:
            raise self.refused(misfits(name, value, saved) or str(error)) from error
        keep_dtypes(value, saved)
        if left := getattr(value, "left", ""):
            self.say(left)

    def place(self, loop: Loop, run: RunState) -> None:
        """Let the source of the loop that goes on stand where it stood. Raises NotResumable if it cannot."""
        source, place = run.source, self.state["place"]
        if source is not None and source.is_read_again and loop.done:
            self.say(
                f"{type(source.given).__name__} keeps no place: its first {loop.done} items are fetched again, "
                "and the rest is the same only if it gives the same items each time, which a DataLoader that "
                "shuffles may not; run.batches(dataset, …) goes on exactly, and at once"
            )
        if source is None or place is None:
            return
        if not source.keeps:
            raise self.refused(
                f"what the loop {loop.name or 'main'} goes over kept its place and cannot now"
            )
        try:
            source.go_to(copied(place))
        except TaskError as error:
            if not self.forked:
                raise self.refused(f"{error}; in a fork the data would start anew") from None
            self.say(f"the data start anew: {error}")


def handed_over(value: Any, saved: Any) -> Any:
    """What load_state_dict is given: it may keep it, but for a module, which copies tensors into its own."""
    if module_of(value) is not None:
        own = sys.modules["torch"].nn.Module.load_state_dict
        if type(value).load_state_dict is own:
            return saved
    return copied(saved)


def misfits(name: str, value: Any, saved: Any) -> str:
    """The tensors by which a module is not what was saved; "" if that is not what is wrong."""
    if module_of(value) is None or not isinstance(saved, Mapping):
        return ""
    from crown_exp.devices.building import few

    theirs, ours = tensors(saved, name), tensors(value.state_dict(), name)
    wrong = [f"{path} is missing" for path in theirs if path not in ours]
    wrong += [f"{path} was not saved" for path in ours if path not in theirs]
    wrong += [
        f"{path} was {tensor_words(it)} and is now {tensor_words(ours[path])}"
        for path, it in theirs.items()
        if path in ours and not is_lazy(ours[path]) and it.shape != ours[path].shape
    ]
    return few(wrong)


def tensors(tree: Any, path: str) -> dict[str, Any]:
    """The tensors of a tree by their paths, without the quotes of dotted names."""
    found = flatten(tree, path)
    return {
        key.replace("['", ".").replace("']", ""): value
        for key, value in found.items()
        if is_tensor(value)
    }


def alike(old: Mapping[str, Any], new: Mapping[str, Any], name: str) -> bool:
    """Whether an optimizer or a schedule was built of the same parts then as now."""
    return name in old and flatten(old[name], "").keys() == flatten(new[name], "").keys()


def adjusted(saved: Any, old: Any, new: Any) -> Any:
    """A saved state with the numbers that were chosen anew: a learning rate that had been cut to a tenth is a
    tenth of the new one.

    old, new: the numbers that it was built with, then and now.
    """
    if isinstance(saved, Mapping) and isinstance(old, Mapping) and isinstance(new, Mapping):
        return {key: adjusted(value, old.get(key), new.get(key)) for key, value in saved.items()}
    if isinstance(saved, list | tuple) and isinstance(old, list) and isinstance(new, list):
        if len(saved) != len(old) or len(old) != len(new):
            return saved
        values = [adjusted(*three) for three in zip(saved, old, new, strict=True)]
        return tuple(values) if isinstance(saved, tuple) else values
    if not isinstance(saved, bool | int | float) or new is None or old == new:
        return saved
    if isinstance(saved, float) and isinstance(old, float) and old and saved != old:
        return saved * (new / old)
    return new
