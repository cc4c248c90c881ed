"""How often runs were killed, and what became of them: `python -m dev.kill_statistics [kills of each]`.

Prints a table for each of the four experiments and the tasks of tests/exactness: copies of a run, killed
by SIGKILL at uniformly random moments from start to exit, resumed with 0 and 2 workers in turn until they
ended, and held against the run that nobody touched. Then what differs when a piece of the saved state is
left out.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path

from tests.exactness.cases import CASES, Cases, Zygotes
from tests.exactness.kills import Tally, at_random
from tests.exactness.mutations import PIECES
from tests.exactness.runs import outcome_of
from tests.exactness.seams import at_event, in_step, without

ROW = "{:16} {:>6} {:>6} {:>8} {:>18} {:>15}"


def main(kills: int) -> int:
    """Kill, tell; 1 if a bit differed or a missing piece was not noticed."""
    zygotes = Zygotes()
    with tempfile.TemporaryDirectory(prefix="crown-kills-") as folder:
        cases = Cases(Path(folder), zygotes)
        try:
            tallies = killed(cases, zygotes, kills)
            unseen = left_out(cases, zygotes)
        finally:
            zygotes.close()
    return int(unseen or any(tally.differing_bits or tally.first for tally in tallies))


def killed(cases: Cases, zygotes: Zygotes, kills: int) -> list[Tally]:
    """Kill each case so often; a row for each."""
    print(ROW.format("case", "runs", "kills", "resumes", "from a checkpoint", "differing bits"))
    tallies = []
    for name in CASES:
        tally = at_random(cases.long(name), zygotes, cases.place / "killed", kills, seed=3)
        print(row(tally), flush=True)
        tallies.append(tally)
    total = Tally("all")
    for tally in tallies:
        total.add(tally)
    print(row(total))
    return tallies


def row(tally: Tally) -> str:
    """One line of the table, and the first difference if there is any."""
    line = ROW.format(
        tally.name, tally.runs, tally.kills, tally.resumes, tally.from_saved,
        tally.differing_bits,
    )  # fmt: skip
    return f"{line}\n{tally.first}" if tally.first else line


def left_out(cases: Cases, zygotes: Zygotes) -> bool:
    """Leave out one piece after another; a line for each. Whether one was not noticed."""
    straight = cases.straight("everything")
    run = straight.recorded.copied(cases.place / "left out")
    seam = at_event("os.link", r"checkpoints/\d+-0*24\.json$")
    assert run.begin(zygotes.of("everything"), seams=[in_step(), seam]).wait() == -signal.SIGKILL
    unseen = False
    print("\nleft out of what is put back  first difference from the run that nobody touched")
    for number, piece in enumerate(PIECES):
        copy = run.copied(cases.place / f"left out {number}")
        code = copy.resume(zygotes.of("everything"), seams=[without(piece)]).wait()
        how = straight.outcome.difference(outcome_of(copy)) if code == 0 else f"exit code {code}"
        print(f"{piece:29} {how or 'NOTHING'}", flush=True)
        unseen |= not how
    return unseen


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20))
