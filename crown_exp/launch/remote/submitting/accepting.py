"""Wait until jobs are accepted, but no longer than the user does: it may take a controller minutes."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from crown_exp.launch.remote.base import Submitted
from crown_exp.launch.remote.submitting.submission import Begun, Submission, told_if_slow
from crown_exp.launch.remote.watching.leaving import Asked
from crown_exp.launch.signals import handling
from crown_exp.outcome import ExitCode


def accepted(
    submission: Submission, begun: Sequence[Begun]
) -> tuple[list[Submitted], ExitCode | None]:
    """The jobs, in order, and the stop that was asked for meanwhile; then some may be without a handle yet.

    Those go on by themselves: the same command finds them by their tickets. From the main thread. Raises as
    `submit_all`.
    """
    found: list[Submitted] = []
    failed: list[BaseException] = []
    over = threading.Event()

    def wait() -> None:
        try:
            for one in begun:
                found.append(submission.accepted(one))
        except BaseException as error:
            failed.append(error)
        finally:
            over.set()

    signals = Asked(None, over)
    with handling(signals.note), told_if_slow(sum(one.is_open for one in begun)):
        threading.Thread(target=wait, name="crown-accepting", daemon=True).start()
        over.wait()
    known = list(found)
    if failed and signals.code is None:
        raise failed[0]
    open_ones = [Submitted(one.record, one.job, one.planned.target) for one in begun[len(known) :]]
    return [*known, *open_ones], signals.code
