"""A save and a resume in the first turns of a debug run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from crown_exp.errors import TaskError
from crown_exp.runner.rehearsal import Rehearsal
from crown_exp.runner.state import State
from crown_exp.tracking import Loop


class Turns:
    """`run.steps` of a debug run, and nothing else of it. say: what it said."""

    def __init__(self, **tracked: Any) -> None:
        self.said: list[str] = []
        self.done = 0
        self.rehearsal = Rehearsal(tracked, say=self.said.append)

    def steps(self, source: Any, total: int | None = None) -> Iterator[Any]:
        loop = Loop("", total, before=self.done)
        for item in source:
            yield item
            loop.done += 1
            self.done += 1
            self.rehearsal.boundary(loop, source)


class Kept:
    """Something that a user tracks: a value, and how it is taken and loaded."""

    def __init__(
        self, value: Any, take: Callable[[Any], Any] | None = None, load: Any = None
    ) -> None:
        self.value, self.take, self.load = value, take, load

    def state_dict(self) -> Any:
        return self.take(self.value) if self.take else {"value": self.value}

    def load_state_dict(self, state: Any) -> None:
        if self.load is None:
            self.value = state["value"]
        else:
            self.load(self, state)


def training(net: torch.nn.Module, opt: torch.optim.Optimizer, run: Turns, turns: int) -> None:
    for _ in run.steps(range(turns)):
        net(torch.randn(4, 3)).square().mean().backward()
        opt.step()
        opt.zero_grad()


def parts(seed: int = 0) -> tuple[torch.nn.Module, torch.optim.Optimizer, Any]:
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1))
    opt = torch.optim.AdamW(net.parameters(), lr=0.1)
    return net, opt, torch.optim.lr_scheduler.MultiStepLR(opt, [2, 3])


def test_training_goes_on_as_if_nothing_had_been() -> None:
    net, opt, schedule = parts()
    run = Turns(net=net, opt=opt, schedule=schedule, best=State(accuracy=0.5, seen=[1]))
    training(net, opt, run, 4)
    assert run.said == ["debug: saved after turn 2 and put back: net, opt, schedule, best"]
    other, other_opt, _ = parts()
    training(other, other_opt, Turns(), 4)
    for one, same in zip(net.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(one, same)


def test_a_loop_of_one_turn_and_one_of_unknown_length() -> None:
    run = Turns(kept=Kept(1))
    assert list(run.steps(range(1), 1)) == [0]
    assert run.said == ["debug: saved after turn 1 and put back: kept"]
    run = Turns(kept=Kept(1))
    assert list(run.steps(iter(range(1)))) == [0]
    assert run.said == []
    assert list(run.steps(iter(range(3)))) == [0, 1, 2]
    assert run.said == ["debug: saved after turn 3 and put back: kept"]


def test_what_is_tracked_later_is_tried_later_and_nothing_twice() -> None:
    tracked: dict[str, Any] = {"a": Kept(1)}
    run = Turns()
    run.rehearsal.tracked = tracked
    track = tracked.__setitem__
    for turn in run.steps(range(5)):
        if turn == 2:
            track("b", Kept(2))
    for _ in run.steps(range(5)):
        pass
    for _ in run.steps(range(5)):
        pass
    assert run.said == [
        "debug: saved after turn 2 and put back: a",
        "debug: saved after turn 7 and put back: b",
    ]


def test_nothing_tracked_is_nothing_said() -> None:
    run = Turns()
    assert len(list(run.steps(range(3)))) == 3
    assert run.said == []


def fails(kept: Kept, words: str, change: Callable[[Kept], None] = lambda kept: None) -> None:
    """A loop that ends at a boundary with one line that says this."""
    with pytest.raises(TaskError, match=words) as raised:
        for _ in Turns(envs=kept).steps(range(3)):
            change(kept)
    assert len(str(raised.value).splitlines()) == 1


def grow(kept: Kept) -> None:
    kept.value += 1


def test_what_cannot_be_stored() -> None:
    fails(
        Kept({1, 2}),
        r"^envs.value is a set; a state holds tensors, .*: a sorted list holds the same$",
    )


def test_a_state_dict_that_raises() -> None:
    def take(value: Any) -> Any:
        raise KeyError("rng")

    fails(Kept(1, take), r"^run.track: envs.state_dict\(\) raised KeyError: 'rng'$")


def test_a_load_that_raises() -> None:
    def load(kept: Kept, state: Any) -> None:
        kept.value = state["missing"]

    fails(Kept(1, load=load), r"^run.track: envs.load_state_dict\(\) raised KeyError: 'missing'$")


def test_a_load_that_does_nothing() -> None:
    what = "^run.track: envs.value was 2 and is 3 after load_state_dict: it does not come back; "
    fails(Kept(1, load=lambda kept, state: None), what, grow)


def test_a_load_that_forgets_a_part() -> None:
    def load(kept: Kept, state: Any) -> None:
        kept.value["a"] = state["value"]["a"]

    def change(kept: Kept) -> None:
        kept.value = {name: value + 1 for name, value in kept.value.items()}

    fails(
        Kept({"a": 1, "b": torch.zeros(2)}, load=load),
        "^run.track: envs.value.b has other values",
        change,
    )


def test_a_load_that_casts() -> None:
    def load(kept: Kept, state: Any) -> None:
        kept.value = state["value"].bfloat16()

    fails(Kept(torch.ones(2), load=load), "was float32 of shape .* and is bfloat16 of shape")


def test_a_load_that_keeps_what_it_was_given_and_changes_it() -> None:
    """It is handed a copy: what was saved stays as it is."""

    def load(kept: Kept, state: Any) -> None:
        kept.value = state["value"]
        kept.value += 1

    fails(Kept(torch.ones(2), load=load), "has other values")


def test_what_has_grown_takes_only_its_newest_state() -> None:
    def load(kept: Kept, state: Any) -> None:
        assert len(state["value"]) == 2
        kept.value = state["value"]

    kept = Kept([], load=load)
    run = Turns(kept=kept)
    for turn in run.steps(range(3)):
        kept.value.append(turn)
    assert kept.value == [0, 1, 2]
    assert run.said == ["debug: saved after turn 2 and put back: kept"]


def test_without_memory_for_a_second_copy_the_run_goes_on() -> None:
    def load(kept: Kept, state: Any) -> None:
        raise MemoryError

    run = Turns(large=Kept(1, load=load), small=Kept(1))
    assert len(list(run.steps(range(3)))) == 3
    assert run.said == [
        "debug: no memory for a second copy of large: its save was not tried",
        "debug: saved after turn 2 and put back: small",
    ]


class Source(Kept):
    """Something with a state that a loop goes over."""

    def __iter__(self) -> Iterator[int]:
        return iter(range(3))


def test_the_state_of_a_source_must_be_storable_too() -> None:
    assert list(Turns().steps(Source(1))) == [0, 1, 2]
    with pytest.raises(TaskError, match=r"^source\.value is a set; "):
        list(Turns().steps(Source({1})))


# --- what is carried over and not tracked --------------------------------------------------------------


def test_suspects_are_named_once_and_only_plain_ones() -> None:
    run = Turns()
    total, best, rng, kept = 0, float("inf"), torch.Generator(), State(n=0)
    seen: list[int] = []
    for turn in run.steps(range(4)):
        loss = float(turn)
        total += turn
        best = min(best, loss)
        seen.append(turn)
        kept.n += 1
        rng = rng.manual_seed(1) or rng
    assert (total, best, len(seen), kept.n) == (6, 0.0, 4, 4)
    (line,) = run.said
    assert line.startswith(
        "debug: carried from turn to turn and not tracked: total, best, seen; a resumed run would start "
        "them anew. kept = run.state(total=…) keeps"
    )


def test_what_is_tracked_is_no_suspect() -> None:
    kept = Kept(1)
    run = Turns(kept=kept)
    for _ in run.steps(range(4)):
        kept, other = kept, kept
        assert other.value
    assert run.said == ["debug: saved after turn 2 and put back: kept"]


def test_a_loop_in_a_function_that_the_task_calls() -> None:
    run = Turns()

    def fit(count: int) -> int:
        for _, turn in enumerate(run.steps(range(4))):
            count += turn
        return count

    assert fit(1) == 7
    assert "not tracked: count;" in run.said[0]
