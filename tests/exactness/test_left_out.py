"""The proof is worth something: with any one piece of the saved state left out, it fails."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.exactness.cases import Cases, Zygotes
from tests.exactness.mutations import PIECES
from tests.exactness.runs import Recorded, outcome_of, resumed_events
from tests.exactness.seams import at_event, in_step, without

SAVED = 21
"""The step that is resumed from: in the second loop, in an epoch, with gradients that wait for an update."""

QUICK = {"tracked opt", "random numpy", "gradients", "place in the data"}


@pytest.fixture(scope="module")
def killed(cases: Cases, zygotes: Zygotes, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """A run whose newest checkpoint is that of step SAVED."""
    run = cases.straight("everything").recorded.copied(tmp_path_factory.mktemp("killed"))
    seam = at_event("os.link", rf"checkpoints/\d+-0*{SAVED + 3}\.json$")
    assert run.begin(zygotes.of("everything"), seams=[in_step(), seam]).wait() == -signal.SIGKILL
    return run


def test_with_all_pieces_it_is_the_run_that_nobody_touched(
    cases: Cases, zygotes: Zygotes, killed: Recorded, tmp_path: Path
) -> None:
    run = killed.copied(tmp_path)
    assert run.resume(zygotes.of("everything", 1)).wait() == 0, run.said()
    assert [event["step"] for event in resumed_events(run)] == [SAVED]
    assert cases.straight("everything").outcome.difference(outcome_of(run)) == ""


@pytest.mark.parametrize(
    "piece",
    [pytest.param(it, marks=[] if it in QUICK else pytest.mark.full) for it in PIECES],
)
def test_without_one_piece_it_is_another(
    cases: Cases, zygotes: Zygotes, killed: Recorded, tmp_path: Path, piece: str
) -> None:
    run = killed.copied(tmp_path)
    assert run.resume(zygotes.of("everything", 1), seams=[without(piece)]).wait() == 0, run.said()
    how = cases.straight("everything").outcome.difference(outcome_of(run))
    assert how, f"nothing differs without {piece}"
    print(f"{piece}: {how}")
