"""Reinforcement learning: proximal policy optimisation (PPO; Schulman et al. 2017, arXiv:1707.06347).

Shapes: T moves of a rollout, N environments side by side, S samples, O numbers in an observation, A actions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from crown_exp import Config, Run
from crown_exp.data.environments import EnvironmentState
from crown_exp.errors import TaskError

if TYPE_CHECKING:
    from gymnasium.wrappers.vector import RecordEpisodeStatistics


def train(
    run: Run,
    model: Config[nn.Module],
    optimizer: Config[torch.optim.Optimizer],
    lr_schedule: Config[torch.optim.lr_scheduler.LRScheduler],
    *,
    environment: str = "CartPole-v1",
    actors: int = 64,
    horizon: int = 128,
    steps: int = 30,
    epochs: int = 6,
    minibatches: int = 8,
    discount: float = 0.99,
    gae_lambda: float = 0.95,
    clip: float = 0.2,
    value_weight: float = 0.5,
    entropy_weight: float = 0.01,
) -> dict[str, float]:
    """Algorithm 1: N actors play T moves; K epochs of minibatches improve the policy on them; and again."""
    player = Player(environment, actors, run.seed)
    net = run.build(model, observations=player.observations, actions=player.actions)
    opt = run.build(optimizer, params=net.parameters())
    schedule = run.build(lr_schedule, optimizer=opt)
    run.track(net=net, opt=opt, schedule=schedule, player=player)
    for _ in run.steps(steps):
        samples = player.play(net, horizon, run.device).samples(discount, gae_lambda)
        facts = []
        for part in shuffled(samples, epochs, minibatches):
            terms = objective(net, part, clip)
            loss = terms.policy + value_weight * terms.value - entropy_weight * terms.entropy
            run.backward(loss)
            run.update(opt, clip=0.5)
            facts.append(torch.stack(terms).detach())
        schedule.step()
        means = torch.stack(facts).mean(dim=0)
        run.log(
            mean_return=player.mean_return,
            episode_length=player.mean_length,
            policy_loss=means[0], value_loss=means[1], entropy=means[2],
            approx_kl=means[3], clip_fraction=means[4],
            explained_variance=1 - (samples.returns - samples.values).var() / samples.returns.var(),
        )  # fmt: skip
    return {
        "mean_return": player.mean_return, "episodes": player.episodes, "env_steps": player.moves
    }  # fmt: skip


class Samples(NamedTuple):
    """Moves of the policy, in no order: observations (S, O), all others (S,)."""

    observations: Tensor
    actions: Tensor
    log_probs: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor


class Terms(NamedTuple):
    """What an update makes smaller (policy, value) or larger (entropy), and how far the policy went."""

    policy: Tensor
    value: Tensor
    entropy: Tensor
    kl: Tensor
    clipped: Tensor


def objective(net: nn.Module, part: Samples, clip: float) -> Terms:
    """The terms of equation 9, the policy's clipped as in equation 7; means over the samples."""
    logits, values = net(part.observations)
    policy = logits.log_softmax(dim=-1)
    log_ratio = of(policy, part.actions) - part.log_probs
    ratio = log_ratio.exp()
    gain = (part.advantages - part.advantages.mean()) / (part.advantages.std() + 1e-8)
    return Terms(
        policy=-torch.min(ratio * gain, ratio.clamp(1 - clip, 1 + clip) * gain).mean(),
        value=0.5 * (values - part.returns).square().mean(),
        entropy=-(policy.exp() * policy).sum(dim=-1).mean(),
        kl=(ratio - 1 - log_ratio).mean(),  # Schulman's, joschu.net/blog/kl-approx.html
        clipped=((ratio - 1).abs() > clip).float().mean(),
    )


def of(policy: Tensor, actions: Tensor) -> Tensor:
    """The log-probabilities (B,) that a policy (B, A) gives to actions (B,)."""
    return policy.gather(-1, actions[:, None]).squeeze(-1)


def advantages(
    rewards: Tensor, values: Tensor, terminated: Tensor, ended: Tensor, discount: float, decay: float
) -> Tensor:  # fmt: skip
    """Generalised advantage estimates (T, N) (Schulman et al. 2016, arXiv:1506.02438, equation 16).

    rewards, terminated, ended: (T, N). values: (T + 1, N), of what was seen before each move and after
    the last. An episode that a limit cut off, ended but not terminated, would have gone on: what was seen
    last is worth its value. Nothing is handed back over the end of an episode.
    """
    errors = rewards + discount * values[1:] * ~terminated - values[:-1]
    found, later = torch.empty_like(errors), torch.zeros_like(errors[0])
    for move in reversed(range(len(errors))):
        found[move] = later = errors[move] + discount * decay * later * ~ended[move]
    return found


def shuffled(samples: Samples, epochs: int, minibatches: int) -> Iterator[Samples]:
    """All samples, `epochs` times, in `minibatches` parts, in another order each time."""
    count, device = len(samples.actions), samples.actions.device
    for _ in range(epochs):
        for chosen in torch.randperm(count, device=device).chunk(minibatches):
            yield Samples(*(each[chosen] for each in samples))


class Rollout(NamedTuple):
    """T moves in N environments: observations (T, N, O), values (T + 1, N), all others (T, N).

    played: the policy moved. The move after the end of an episode only resets an environment.
    """

    observations: Tensor
    actions: Tensor
    log_probs: Tensor
    values: Tensor
    rewards: Tensor
    terminated: Tensor
    ended: Tensor
    played: Tensor

    def samples(self, discount: float, decay: float) -> Samples:
        """The moves of the policy, and how much better than expected each was."""
        values, played = self.values[:-1], self.played
        gains = advantages(self.rewards, self.values, self.terminated, self.ended, discount, decay)
        every = (self.observations, self.actions, self.log_probs, values, gains, gains + values)
        return Samples(*(each[played] for each in every))


class Player:
    """Environments side by side, and what was last seen of them: where play goes on.

    observations, actions: how many numbers are seen, how many actions there are. moves: made so far.
    """

    def __init__(self, environment: str, actors: int, seed: int) -> None:
        self.envs = make(environment, actors)
        self.envs_state = EnvironmentState(self.envs)
        self.seen, _ = self.envs.reset(seed=seed)
        self.ended, self.moves = np.zeros(actors, dtype=bool), 0
        self.observations = self.seen.shape[1]
        self.actions = int(getattr(self.envs.single_action_space, "n", 0))

    @torch.no_grad()
    def play(self, net: nn.Module, moves: int, device: torch.device) -> Rollout:
        """The next moves, drawn from the policy."""
        decided, happened = [], []
        for _ in range(moves):
            seen, played = self.look(device), ~self.ended
            logits, value = net(seen)
            policy = logits.log_softmax(dim=-1)
            action = torch.multinomial(policy.exp(), 1).squeeze(-1)
            self.seen, reward, terminated, truncated, _ = self.envs.step(action.cpu().numpy())
            self.ended = terminated | truncated
            self.moves += int(played.sum())
            decided.append((seen, action, of(policy, action), value))
            happened.append((reward.astype(np.float32), terminated, self.ended, played))
        seen_, actions, log_probs, values = map(torch.stack, zip(*decided, strict=True))
        values = torch.cat([values, net(self.look(device))[1][None]])
        arrays = (torch.from_numpy(np.stack(each)) for each in zip(*happened, strict=True))
        return Rollout(seen_, actions, log_probs, values, *(each.to(device) for each in arrays))

    def look(self, device: torch.device) -> Tensor:
        """What is seen now, (N, O)."""
        return torch.tensor(self.seen, dtype=torch.float32, device=device)

    @property
    def episodes(self) -> int:
        """How many came to an end."""
        return int(self.envs.episode_count)

    @property
    def mean_return(self) -> float:
        """Over the last 100 episodes; NaN before the first ended."""
        return float(np.mean(self.envs.return_queue or np.nan))

    @property
    def mean_length(self) -> float:
        """Over the last 100 episodes."""
        return float(np.mean(self.envs.length_queue or np.nan))

    def state_dict(self) -> dict[str, Any]:
        """Environments with their statistics, and what was last seen of them."""
        return {
            "envs": self.envs_state.state_dict(), "seen": torch.tensor(self.seen),
            "ended": torch.tensor(self.ended), "moves": self.moves,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.envs_state.load_state_dict(state["envs"])
        self.seen, self.ended = state["seen"].numpy().copy(), state["ended"].numpy().copy()
        self.moves = state["moves"]


def make(environment: str, actors: int) -> RecordEpisodeStatistics[Any, Any]:
    """Environments side by side that keep the returns and lengths of their last 100 episodes."""
    try:
        import gymnasium
        from gymnasium.spaces import Box, Discrete
        from gymnasium.vector import AutoresetMode
        from gymnasium.wrappers.vector import RecordEpisodeStatistics
    except ImportError as error:
        raise TaskError(f"no environments: {error}; pip install 'gymnasium>=1.1'") from None
    try:
        envs = gymnasium.make_vec(environment, num_envs=actors)
    except gymnasium.error.Error as error:
        raise TaskError(f"task.environment={environment}: {error}") from None
    seen, done = envs.single_observation_space, envs.single_action_space
    if not (isinstance(seen, Box) and len(seen.shape) == 1 and isinstance(done, Discrete)):
        raise TaskError(
            f"task.environment={environment}: expected a vector to see (a Box of one dimension) and "
            f"numbered actions (Discrete), got {seen} and {done}"
        )
    if envs.metadata.get("autoreset_mode") != AutoresetMode.NEXT_STEP:
        raise TaskError(f"task.environment={environment}: expected autoreset_mode NEXT_STEP")
    return RecordEpisodeStatistics(envs, buffer_length=100)


class ActorCritic(nn.Module):
    """Policy and value, two hidden layers each: observations (B, O) → logits (B, A) and values (B,)."""

    def __init__(self, observations: int, actions: int, width: int = 64) -> None:
        super().__init__()
        self.policy = perceptron(observations, width, actions, gain=0.01)  # at first, all are alike
        self.value = perceptron(observations, width, 1, gain=1.0)

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """What to do, and what comes of it."""
        return self.policy(observations), self.value(observations).squeeze(-1)


def perceptron(inputs: int, width: int, outputs: int, gain: float) -> nn.Sequential:
    """Two hidden layers with orthogonal weights; `gain` is the last layer's."""
    layers: list[nn.Module] = []
    sizes = (inputs, width, 2**0.5), (width, width, 2**0.5), (width, outputs, gain)
    for before, after, scale in sizes:
        linear = nn.Linear(before, after)
        nn.init.orthogonal_(linear.weight, scale)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.Tanh()]
    return nn.Sequential(*layers[:-1])
