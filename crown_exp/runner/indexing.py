"""A running attempt's place in the registry: brought up to date beside the loop, never waited for by it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from crown_exp.errors import CrownError
from crown_exp.storage import BlobStore, Portal
from crown_exp.tracking.run_log import to_stderr

FIRST_SECONDS = 1.0
"""Opening a database costs a third of a second of CPU, which the first steps had better have."""
FINISH_SECONDS = 10.0


class Indexing:
    """A thread that reads a run's folder into the registry: soon, every `seconds`, and when it has ended.

    It reads what is new in the folder, as every word that asks the registry does: what is missing there is
    found later, so a registry that is busy, broken or full costs a line, not the run.
    """

    def __init__(
        self,
        portal: Portal,
        blobs: BlobStore,
        run_id: str,
        url: str,
        *,
        seconds: float,
        warn: Callable[[str], None] = to_stderr,
    ) -> None:
        self.portal, self.blobs, self.run_id, self.url = portal, blobs, run_id, url
        self.seconds, self.warn = seconds, warn
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.work, name="crown-index", daemon=True)
        self.thread.start()

    def work(self) -> None:
        """The thread: open the registry, follow the run to its end."""
        try:
            from crown_exp.registry import ingest_run, open_registry

            over = self.ended.wait(FIRST_SECONDS)
            with self.portal.enter(open_registry(self.url)) as registry:
                while True:
                    told = self.portal.call(ingest_run, registry, self.blobs, self.run_id)
                    for problem in told.problems if over else ():
                        self.warn(problem)
                    if over:
                        return
                    over = self.ended.wait(self.seconds)
        except Exception as error:  # whatever it is, it is not the run's
            why = str(error) if isinstance(error, CrownError) else repr(error)
            self.warn(
                f"{self.run_id} is not in the index: {why}; the run needs none, and crown-exp runs looks again"
            )

    def finish(self) -> None:
        """Read what there is now, and wait for that, ten seconds at the most."""
        self.ended.set()
        self.thread.join(FINISH_SECONDS)
        if self.thread.is_alive():
            what = f"the index does not answer; {self.run_id} is read into it by whoever asks next"
            self.warn(what)
