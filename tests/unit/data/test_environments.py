"""Environments go on bit for bit in fresh ones, by way of plain data; what cannot is refused."""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crown_exp.data.environments import EnvironmentState
from crown_exp.errors import TaskError

gymnasium = pytest.importorskip("gymnasium")
wrappers = pytest.importorskip("gymnasium.wrappers")
over_vectors = pytest.importorskip("gymnasium.wrappers.vector")
MORE = 300


def as_bytes(state: Any) -> bytes:
    """A state as a checkpoint keeps it: JSON, and raw bytes of tensors. Fails for what is not plain."""

    def plain(value: Any) -> Any:
        if type(value) is dict:
            assert all(type(key) is str for key in value)
            return {key: plain(value[key]) for key in sorted(value)}  # no order of keys counts
        if type(value) is list:
            return [plain(item) for item in value]
        if type(value) is torch.Tensor:
            raw = value.contiguous().view(-1).view(torch.uint8) if value.ndim else value.reshape(1)
            raw = raw.view(torch.uint8).numpy().tobytes()
            return {"__tensor__": raw.hex(), "of": str(value.dtype), "shape": list(value.shape)}
        assert type(value) in (type(None), bool, int, float, str), type(value)
        return value

    return json.dumps(plain(state)).encode()


def from_bytes(data: bytes) -> Any:
    def tensors(value: dict[str, Any]) -> Any:
        if "__tensor__" not in value:
            return value
        raw = torch.tensor(list(bytes.fromhex(value["__tensor__"])), dtype=torch.uint8)
        dtype = getattr(torch, value["of"].removeprefix("torch."))
        return raw.view(dtype).reshape(value["shape"])

    return json.loads(data, object_hook=tensors)


def moves(envs: Any, count: int, seed: int) -> list[bytes]:
    """The bytes of all that environments give in some random moves."""
    space, rng = envs.action_space, np.random.default_rng(seed)
    seen = []
    for _ in range(count):
        if hasattr(space, "nvec"):
            action = rng.integers(0, space.nvec).astype(space.dtype)
        else:
            action = rng.uniform(space.low, space.high).astype(space.dtype)
        observation, reward, terminated, truncated, info = envs.step(action)
        told = [info["episode"][key] for key in ("r", "l")] if "episode" in info else []
        seen += [
            np.asarray(x).tobytes() for x in (observation, reward, terminated, truncated, *told)
        ]
    return seen


def goes_on(make: Callable[[], Any], before: int, seed: int, reset: bool = True) -> None:
    """Some moves, the state as bytes, fresh environments: both go on alike, and so do their states."""
    first = make()
    first.reset(seed=seed)
    moves(first, before, seed)
    kept = as_bytes(EnvironmentState(first).state_dict())
    second = make()
    if reset:
        second.reset(seed=seed + 1)
        moves(second, 3, seed)
    EnvironmentState(second).load_state_dict(from_bytes(kept))
    assert as_bytes(EnvironmentState(second).state_dict()) == kept
    assert moves(second, MORE, seed + 2) == moves(first, MORE, seed + 2)
    assert steady(second) == steady(first)
    first.close()
    second.close()


def steady(envs: Any) -> bytes:
    """The state without what a clock told."""
    return as_bytes(EnvironmentState(envs, ignore=["time_queue"]).state_dict())


def add_limits(env: Any) -> Any:
    """Most of the wrappers that have a state."""
    env = wrappers.TimeLimit(env, 37)
    env = wrappers.RecordEpisodeStatistics(env)
    env = wrappers.TransformObservation(env, lambda seen: seen * 2, env.observation_space)
    env = wrappers.FrameStackObservation(env, 3)
    env = wrappers.FlattenObservation(env)
    env = wrappers.TimeAwareObservation(env, normalize_time=False)
    env = wrappers.NormalizeObservation(env)
    env = wrappers.NormalizeReward(env)
    return wrappers.TransformReward(env, lambda reward: reward / 3)


def sync(name: str, wrap: bool = False, numbers: int = 3) -> Any:
    return gymnasium.make_vec(
        name, num_envs=numbers, vectorization_mode="sync", wrappers=[add_limits] if wrap else []
    )


def on_vectors(envs: Any) -> Any:
    envs = over_vectors.RecordEpisodeStatistics(envs, buffer_length=5)
    envs = over_vectors.NormalizeObservation(envs)
    envs = over_vectors.NormalizeReward(envs)
    envs = over_vectors.ClipReward(envs, -1, 1)
    return over_vectors.TransformReward(envs, lambda reward: reward * 2)


def entry_point() -> Any:
    return gymnasium.make_vec("CartPole-v1", num_envs=3, vectorization_mode="vector_entry_point")


CLASSIC = (
    "CartPole-v1", "Acrobot-v1", "Pendulum-v1", "MountainCar-v0", "MountainCarContinuous-v0",
)  # fmt: skip
KINDS = {
    **{name: lambda name=name: sync(name) for name in CLASSIC},
    **{f"{name}, wrapped": lambda name=name: sync(name, wrap=True) for name in CLASSIC},
    **{f"{name}, vectors wrapped": lambda name=name: on_vectors(sync(name)) for name in CLASSIC},
    **{name: lambda name=name: sync(name) for name in ("FrozenLake-v1", "Blackjack-v1")},
    "own vectors": entry_point,
    "own vectors, wrapped": lambda: on_vectors(entry_point()),
}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=2)
@given(before=st.integers(0, 250), seed=st.integers(0, 2**31), reset=st.booleans())
def test_environments_go_on_bit_for_bit(kind: str, before: int, seed: int, reset: bool) -> None:
    goes_on(KINDS[kind], before, seed, reset)


# --- environments of others ---------------------------------------------------------------------------


class Phase(Enum):
    BIDDING = 1
    PLAYING = 2


@dataclass(frozen=True)
class Place:
    x: float
    seen: list[int] = field(default_factory=list)


class Slotted:
    __slots__ = ("count", "rest")

    def __init__(self) -> None:
        self.count = 0


class Body:
    """Something that is more than its fields."""

    def __init__(self) -> None:
        self.speed = 1.0
        self.lines = iter([1, 2])


TASKS = [Place(0.0), Place(1.0)]


class Own:
    """An environment of a user: it changes fields in every way that a state must follow."""

    def __init__(self, **fields: Any) -> None:
        self.board = np.zeros((3, 4), order="F")
        self.rows = [self.board[row] for row in range(3)]
        self.diagonal = self.board.T[::2]
        self.snake = [[0, 0], [0, 1]]
        self.head = self.snake[0]
        self.phase, self.place, self.slotted = Phase.BIDDING, TASKS[0], Slotted()
        self.history: deque[Any] = deque(maxlen=4)
        self.rng, self.dice, self.noise = (
            np.random.default_rng(0),
            random.Random(0),
            torch.Generator(),
        )
        self.old = np.random.RandomState(0)
        self.many = {
            3: np.random.Generator(np.random.MT19937(1)),
            "b": (b"x", {1, 2}, np.float32(1)),
        }
        self.draw = self.rng.random
        self.words, self.nothing = np.array([b"a", b"bc"]), np.zeros((0, 2), dtype=np.uint16)
        self.tensor, self.empty = torch.zeros(2), float("nan")
        self.act = {0: self.step, 1: self.reset}
        self.__dict__.update(fields)

    def reset(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.draw = self.rng.random

    def step(self) -> list[Any]:
        drawn = self.draw(), self.dice.random(), self.old.rand(), self.many[3].random()
        self.rows[1][2] += drawn[0]
        self.board[2, 3] += drawn[1]
        self.head[0] += 1
        self.phase = Phase.PLAYING if drawn[1] > 0.5 else Phase.BIDDING
        self.place = Place(drawn[0], [len(self.history)])
        self.history.append(np.float32(drawn[2]))
        self.slotted.count += 1
        self.tensor += torch.rand(2, generator=self.noise)
        return [
            *drawn, self.board.copy().tolist(), self.diagonal.tolist(), self.rows[1].tolist(), self.phase,
            self.snake, self.place, list(self.history), self.slotted.count, self.tensor.tolist(),
            self.board.flags.f_contiguous, [type(x) for x in self.many["b"]],
        ]  # fmt: skip


@given(before=st.integers(0, 6), late=st.integers(0, 6))
def test_what_shares_memory_shares_it_again(before: int, late: int) -> None:
    first, second = Own(), Own()
    for env, count in ((first, before), (second, late)):
        env.reset(seed=count)
        for _ in range(count):
            env.step()
    kept = as_bytes(EnvironmentState(first).state_dict())
    EnvironmentState(second).load_state_dict(from_bytes(kept))
    assert as_bytes(EnvironmentState(second).state_dict()) == kept
    for _ in range(5):
        assert str(second.step()) == str(first.step())
    assert second.head is second.snake[0]
    assert np.shares_memory(second.rows[0], second.board)
    assert second.words.tolist() == [b"a", b"bc"] and second.nothing.dtype == np.uint16
    assert second.place.x == first.place.x
    assert Place(0.0) == TASKS[0], "what the program shares was changed"


def test_a_state_is_a_copy_and_can_be_loaded_twice() -> None:
    env = Own()
    state = EnvironmentState(env)
    saved = state.state_dict()
    kept = as_bytes(saved)
    following = str([env.step() for _ in range(3)])
    assert as_bytes(saved) == kept
    for _ in range(2):
        state.load_state_dict(saved)
        assert as_bytes(saved) == kept
        assert str([env.step() for _ in range(3)]) == following


def test_a_space_that_was_drawn_from_goes_on() -> None:
    def make() -> Any:
        return gymnasium.make_vec("CartPole-v1", num_envs=2)

    first, second = make(), make()
    first.action_space.seed(3)
    first.action_space.sample()
    assert b"space" not in as_bytes(EnvironmentState(second).state_dict()), "none was seeded"
    saved = from_bytes(as_bytes(EnvironmentState(first).state_dict()))
    EnvironmentState(second).load_state_dict(saved)
    for _ in range(5):
        assert second.action_space.sample().tolist() == first.action_space.sample().tolist()


class Speaking(gymnasium.Wrapper):
    """A wrapper that gives and takes the state of what no one can look into."""

    def state_dict(self) -> dict[str, Any]:
        return {"speed": self.unwrapped.body.speed, "at": np.arange(2)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert state["at"].tolist() == [0, 1]
        self.unwrapped.body.speed = state["speed"]


class Closed(gymnasium.Env):
    """Its state lies in something that cannot be looked into."""

    observation_space = action_space = gymnasium.spaces.Discrete(2)

    def __init__(self) -> None:
        self.body = Body()

    def step(self, action: Any) -> Any: ...


def test_an_environment_may_speak_for_itself() -> None:
    first, second = (gymnasium.wrappers.TimeLimit(Speaking(Closed()), 5) for _ in range(2))
    first.unwrapped.body.speed = 7.5
    kept = as_bytes(EnvironmentState(first).state_dict())
    EnvironmentState(second).load_state_dict(from_bytes(kept))
    assert second.unwrapped.body.speed == 7.5


def test_what_cannot_be_kept_is_refused_when_it_is_tracked() -> None:
    with pytest.raises(TaskError) as caught:
        EnvironmentState(gymnasium.wrappers.TimeLimit(Closed(), 5))
    said = str(caught.value)
    assert said.startswith(
        "envs.env (Closed).body.lines is a builtins.list_iterator, whose state cannot be kept; "
    )
    assert "state_dict and load_state_dict" in said and 'ignore=["lines"]' in said
    assert "\n" not in said
    EnvironmentState(Closed(), ignore=["lines"])


def looped() -> list[Any]:
    inside: list[Any] = []
    inside.append(inside)
    return inside


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (object.__new__(Own).__dict__.keys(), "x is a builtins.dict_keys"),
        ([Place(0.0)], r"x\[0\] is a .*Place"),
        ({"a": [Phase.PLAYING]}, r"x\['a'\]\[0\] is a .*Phase"),
        ([].append, "x is a builtins.builtin_function_or_method"),
        (Place(0.0).__repr__, "x is a builtins.method"),
        (np.array([None, {}]), "x is a numpy.ndarray"),
        (np.longdouble(1), "x is a numpy"),
        (looped(), r"x\[0\] holds itself"),
    ],
)
def test_values_that_are_refused(value: Any, said: str) -> None:
    with pytest.raises(TaskError, match=r"envs \(Own\)\." + said):
        EnvironmentState(Own(x=value))


@pytest.mark.parametrize(
    "value",
    [
        None,
        len,
        np.tanh,
        Own,
        np,
        np.dtype("int8"),
        lambda: 1,
        [len, max],
        {"f": len},
        random.random,
    ],
)
def test_what_belongs_to_the_program_is_left(value: Any) -> None:
    second = Own(x="its own")
    saved = from_bytes(as_bytes(EnvironmentState(Own(x=value)).state_dict()))
    EnvironmentState(second).load_state_dict(saved)
    assert second.x == ("its own" if value is not None else None)


def test_environments_in_other_processes_are_refused() -> None:
    class AsyncVectorEnv(Own):
        """As Gymnasium's: pipes, and nothing behind them."""

    with pytest.raises(
        TaskError, match=r"AsyncVectorEnv lies in other processes.*vectorization_mode"
    ):
        EnvironmentState(AsyncVectorEnv(parent_pipes=()))
    assert "parent_pipes" in gymnasium.vector.AsyncVectorEnv.__init__.__code__.co_names


def test_other_environments_than_the_saved_ones() -> None:
    saved = EnvironmentState(sync("CartPole-v1")).state_dict()
    for other in (
        sync("CartPole-v1", numbers=2),
        sync("Acrobot-v1"),
        on_vectors(sync("CartPole-v1")),
    ):
        with pytest.raises(
            TaskError, match=r"the saved environments were 13 layers .*make them alike"
        ):
            EnvironmentState(other).load_state_dict(saved)


def test_an_object_that_is_not_there_yet() -> None:
    saved = EnvironmentState(Own(goal=Place(1.0))).state_dict()
    with pytest.raises(TaskError, match=r"\(Own\).goal: expected a Place to set; make and reset"):
        EnvironmentState(Own()).load_state_dict(saved)


def test_what_is_no_environment() -> None:
    with pytest.raises(TaskError, match="a list has no step and reset"):
        EnvironmentState([])
