"""SIGTERM and Ctrl-C at any moment, from start to exit: the code is the contract's, and every bit is kept."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest

from tests.exactness.cases import Cases, Zygotes
from tests.exactness.runs import outcome_of
from tests.exactness.seams import at_call

CODES = {signal.SIGTERM: 75, signal.SIGINT: 130}
NOTICED = CODES | {signal.SIGUSR1: 75}  # Slurm's word that the end is near


def stopped_at_random(
    number: signal.Signals, cases: Cases, zygotes: Zygotes, place: Path, stops: int
) -> None:
    """Stop runs at random moments until they end. A process that cannot handle it yet dies of the signal."""
    straight, chance = cases.straight("everything"), random.Random(int(number))
    run, ended = straight.recorded.copied(place / "0"), 0
    for stop in range(stops):
        zygote = zygotes.of("everything", stop)
        child = run.resume(zygote) if run.codes() else run.begin(zygote)
        code = child.wait(chance.uniform(0, straight.seconds))
        if code is None:
            child.send(number)
            code = child.wait()
        assert code in (0, CODES[number], -number), run.said()
        if code == 0:
            how = straight.outcome.difference(outcome_of(run))
            assert how == "", f"{how}\n{run.said()}"
            ended += 1
            run = straight.recorded.copied(place / str(ended))
    child = (
        run.resume(zygotes.of("everything")) if run.codes() else run.begin(zygotes.of("everything"))
    )
    assert child.wait() == 0, run.said()
    how = straight.outcome.difference(outcome_of(run))
    assert how == "", f"{how}\n{run.said()}"


@pytest.mark.parametrize("number", CODES)
def test_stopped_at_a_few_random_moments(
    number: signal.Signals, cases: Cases, zygotes: Zygotes, tmp_path: Path
) -> None:
    stopped_at_random(number, cases, zygotes, tmp_path, stops=3)


@pytest.mark.full
@pytest.mark.parametrize("number", CODES)
def test_stopped_at_many_random_moments(
    number: signal.Signals, cases: Cases, zygotes: Zygotes, tmp_path: Path
) -> None:
    stopped_at_random(number, cases, zygotes, tmp_path, stops=30)


PLACES = {
    "in a turn": ("torch.nn.functional:cross_entropy", 2),
    "in an evaluation": ("torch.nn.functional:cross_entropy", 10),
    "in the warm-up": ("crown_exp.runner.context:Run.track", 1),
    "while a batch is read": ("tasks:Noisy.__getitem__", 60),
    "while a state is put back": ("crown_exp.runner.resuming:Resuming.all", 1),
}


@pytest.mark.full
@pytest.mark.parametrize("number", NOTICED)
@pytest.mark.parametrize("place", PLACES)
def test_stopped_there(
    place: str, number: signal.Signals, cases: Cases, zygotes: Zygotes, tmp_path: Path
) -> None:
    straight = cases.straight("everything")
    run = straight.recorded.copied(tmp_path)
    if place == "while a state is put back":
        seam = at_call("torch.nn.functional:cross_entropy", 20)
        assert run.begin(zygotes.of("everything"), seams=[seam]).wait() == -signal.SIGKILL
    target, nth = PLACES[place]
    child = run.begin(zygotes.of("everything"), seams=[at_call(target, nth, number)])
    assert child.wait() == NOTICED[number], run.said()
    assert run.codes()[-1] == NOTICED[number]
    assert run.resume(zygotes.of("everything", 1)).wait() == 0, run.said()
    how = straight.outcome.difference(outcome_of(run))
    assert how == "", f"{how}\n{run.said()}"


def test_a_second_signal_ends_a_turn_at_once(
    cases: Cases, zygotes: Zygotes, tmp_path: Path
) -> None:
    straight = cases.straight("everything")
    run = straight.recorded.copied(tmp_path)
    turn = "torch.nn.functional:cross_entropy"
    twice = [at_call(turn, nth, signal.SIGTERM) for nth in (25, 26)]
    assert run.begin(zygotes.of("everything"), seams=twice).wait() == 75, run.said()
    assert run.resume(zygotes.of("everything", 1)).wait() == 0, run.said()
    how = straight.outcome.difference(outcome_of(run))
    assert how == "", f"{how}\n{run.said()}"
