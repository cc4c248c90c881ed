"""ppo_cartpole, as it is shipped: it learns, its parts do what the papers say, its state is whole."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import crown_exp
from crown_exp import Run
from crown_exp.errors import TaskError
from crown_exp.testing import TaskContract
from tests.unit.data.test_environments import as_bytes, from_bytes

gymnasium = pytest.importorskip("gymnasium")
from experiments import reinforcement_learning as ppo  # noqa: E402

ROOT = Path(crown_exp.__file__).parents[1]
PRESET = ("+experiment=ppo_cartpole", "tracker=none")
SHORT = (*PRESET, "task.steps=5", "task.actors=4", "task.horizon=32", "task.epochs=2")
RANDOM_RETURN = 22
"""What actions drawn by chance bring, about."""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("CROWN_HOME", str(tmp_path / "home"))


class TestContract(TaskContract):
    overrides = SHORT


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_few_turns_learn(seed: int) -> None:
    found = crown_exp.start(*PRESET, f"seed={seed}", "task.steps=7").result
    assert found["mean_return"] >= 4 * RANDOM_RETURN
    assert found["episodes"] >= 100


@pytest.mark.full
@pytest.mark.parametrize("seed", range(5))
def test_the_whole_preset_balances_the_pole(seed: int) -> None:
    found = crown_exp.start(*PRESET, f"seed={seed}").result
    assert found["mean_return"] >= 475
    assert found["episodes"] >= 100


def test_bf16() -> None:
    found = crown_exp.start(*PRESET, "device=cpu", "device.precision=bf16", "task.steps=4").result
    assert found["mean_return"] >= 2 * RANDOM_RETURN


# --- its state ----------------------------------------------------------------------------------------


class Interrupted:
    """Runs of the preset that begin in the middle, or end there, as if they were stopped and resumed."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch = patch
        self.tracked: dict[str, Any] = {}

    def run(self, turns: slice) -> tuple[Any, list[Any]]:
        """The result, and all that was tracked at the end. Begins from what the last run left."""
        before = self.left() if turns.start else None
        real_track, real_steps = Run.track, Run.steps

        def track(run: Run, **objects: Any) -> None:
            self.tracked.update(objects)
            real_track(run, **objects)

        def steps(run: Run, total: int) -> Iterator[int]:
            if before is not None:
                self.restore(before)
            yield from real_steps(run, len(range(total)[turns]))
            self.noise = torch.get_rng_state()

        with self.patch.context() as patch:
            patch.setattr(Run, "track", track)
            patch.setattr(Run, "steps", steps)
            result = crown_exp.start(*SHORT).result
        return result, self.left()

    def left(self) -> list[Any]:
        """The state of everything, copied; that of the player as a checkpoint would keep it."""
        rest = {
            name: copy.deepcopy(self.tracked[name].state_dict())
            for name in ("net", "opt", "schedule")
        }
        return [rest, as_bytes(self.tracked["player"].state_dict()), self.noise]

    def restore(self, state: list[Any]) -> None:
        """Set the objects that were tracked last."""
        rest, player, noise = state
        for name, saved in rest.items():
            self.tracked[name].load_state_dict(saved)
        self.tracked["player"].load_state_dict(from_bytes(player))
        torch.set_rng_state(noise)


def test_a_run_goes_on_from_its_middle_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, whole_left = Interrupted(monkeypatch).run(slice(0, 5))
    parts = Interrupted(monkeypatch)
    half, _ = parts.run(slice(0, 2))
    assert half != whole
    rest, rest_left = parts.run(slice(2, 5))
    assert rest == whole
    assert str(rest_left[0]) == str(whole_left[0])
    for name, weights in whole_left[0]["net"].items():
        assert torch.equal(rest_left[0]["net"][name], weights)
    clock_aside = [without_clock(from_bytes(left[1])) for left in (rest_left, whole_left)]
    assert as_bytes(clock_aside[0]) == as_bytes(clock_aside[1])
    assert torch.equal(rest_left[2], whole_left[2])


def without_clock(player: dict[str, Any]) -> dict[str, Any]:
    for layer in player["envs"]["layers"]:
        layer["fields"].pop("time_queue", None)
    return player


# --- its parts ----------------------------------------------------------------------------------------


def slow_advantages(
    rewards: Any, values: Any, terminated: Any, ended: Any, discount: float, decay: float
) -> Iterator[tuple[tuple[int, int], float]]:
    """Each move's advantage as the paper's sum, over what came after it in its episode."""
    moves, actors = rewards.shape
    for first in range(moves):
        for actor in range(actors):
            found = 0.0
            for move in range(first, moves):
                future = 0.0 if terminated[move, actor] else values[move + 1, actor]
                error = rewards[move, actor] + discount * future - values[move, actor]
                found += (discount * decay) ** (move - first) * error
                if ended[move, actor]:
                    break
            yield (first, actor), found


@given(
    moves=st.integers(1, 9), actors=st.integers(1, 3), seed=st.integers(0, 999),
    discount=st.floats(0, 1), decay=st.floats(0, 1),
)  # fmt: skip
def test_advantages_are_those_of_the_paper(
    moves: int, actors: int, seed: int, discount: float, decay: float
) -> None:
    rng = np.random.default_rng(seed)
    rewards, values = rng.normal(size=(moves, actors)), rng.normal(size=(moves + 1, actors))
    terminated, truncated = rng.random((2, moves, actors)) < 0.2
    ended = terminated | truncated
    tensors = map(torch.tensor, (rewards, values, terminated, ended))
    found = ppo.advantages(*tensors, discount, decay)
    for at, expected in slow_advantages(rewards, values, terminated, ended, discount, decay):
        assert math.isclose(found[at].item(), expected, rel_tol=1e-9, abs_tol=1e-9)


@pytest.mark.parametrize("mode", ["sync", "vector_entry_point"])
def test_a_rollout_is_what_the_environments_did(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = gymnasium.make_vec
    monkeypatch.setattr(
        gymnasium, "make_vec", lambda *a, **k: made(*a, **k, vectorization_mode=mode)
    )
    player, net = ppo.Player("CartPole-v1", 3, seed=4), ppo.ActorCritic(4, 2, width=8)
    torch.manual_seed(0)
    rollout = player.play(net, 200, torch.device("cpu"))
    assert bool((rollout.played[1:] == ~rollout.ended[:-1]).all()) and bool(rollout.played[0].all())
    assert 0 < rollout.ended.sum() < 60
    assert (
        rollout.rewards[~rollout.played].eq(0).all() and rollout.rewards[rollout.played].eq(1).all()
    )
    for move, actor in rollout.ended[:-1].nonzero().tolist():
        fallen = rollout.observations[
            move + 1, actor
        ]  # the last of its episode: its value is a future's
        assert bool(fallen[0].abs() > 2.4) or bool(fallen[2].abs() > 0.2095)
        if move + 2 < len(rollout.observations):
            assert rollout.observations[move + 2, actor].abs().max() <= 0.05
    samples = rollout.samples(0.99, 0.95)
    assert {len(each) for each in samples} == {int(rollout.played.sum())} == {player.moves}
    assert player.episodes == int(rollout.ended.sum())
    with torch.no_grad():
        torch.testing.assert_close(net(rollout.observations)[1], rollout.values[:-1])


def test_an_episode_cut_off_by_a_limit_keeps_its_future() -> None:
    values = torch.tensor([[1.0], [2.0], [10.0]])
    rewards, no, yes = (
        torch.ones(2, 1),
        torch.zeros(2, 1, dtype=torch.bool),
        torch.tensor([[False], [True]]),
    )
    cut, over = (ppo.advantages(rewards, values, end, yes, 0.5, 0.0) for end in (no, yes))
    assert cut.flatten().tolist() == [1 + 0.5 * 2 - 1, 1 + 0.5 * 10 - 2]
    assert over.flatten().tolist() == [1 + 0.5 * 2 - 1, 1 - 2]


def some(count: int) -> ppo.Samples:
    drawn: Callable[..., Tensor] = torch.randn
    actions = torch.arange(count) % 2
    return ppo.Samples(
        drawn(count, 4), actions, drawn(count) - 1, drawn(count), drawn(count), drawn(count)
    )


def test_every_sample_comes_once_in_every_epoch() -> None:
    samples = some(10)
    parts = list(ppo.shuffled(samples, epochs=3, minibatches=4))
    assert [len(part.actions) for part in parts] == [3, 3, 3, 1] * 3
    orders = [torch.cat([part.values for part in parts[i : i + 4]]) for i in (0, 4, 8)]
    for order in orders:
        assert torch.equal(order.sort().values, samples.values.sort().values)
    assert not torch.equal(orders[0], orders[1])


def test_the_objective_does_not_move_what_is_clipped_already() -> None:
    torch.manual_seed(1)
    net, samples = ppo.ActorCritic(4, 2, width=8), some(64)
    with torch.no_grad():
        logits, _ = net(samples.observations)
        now = logits.log_softmax(-1).gather(1, samples.actions[:, None])[:, 0]
    same = ppo.objective(net, samples._replace(log_probs=now), clip=0.2)
    assert same.kl.item() == pytest.approx(0, abs=1e-6) and same.clipped.item() == 0
    assert same.entropy.item() == pytest.approx(math.log(2), abs=1e-3)
    gain = samples.advantages - samples.advantages.mean()
    far = samples._replace(log_probs=now - gain.sign())  # each went far, to where it gains
    clipped = ppo.objective(net, far, clip=0.2)
    assert clipped.clipped.item() == 1
    clipped.policy.backward()
    assert all(p.grad is None or not p.grad.any() for p in net.policy.parameters())


# --- what it cannot play ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ("CartPole-v9", "task.environment=CartPole-v9: .*v9"),
        ("Nothing-v0", "task.environment=Nothing-v0: .*Nothing"),
        (
            "Pendulum-v1",
            "task.environment=Pendulum-v1: expected a vector to see .* got Box.* and Box",
        ),
        ("Blackjack-v1", "task.environment=Blackjack-v1: expected a vector to see .* got Tuple"),
    ],
)
def test_environments_it_cannot_play(environment: str, said: str) -> None:
    with pytest.raises(TaskError, match=said):
        ppo.make(environment, 2)


def test_without_gymnasium(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(
        TaskError, match=r"no environments: .*gymnasium.*; pip install 'gymnasium"
    ) as caught:
        ppo.make("CartPole-v1", 2)
    assert "\n" not in str(caught.value)
