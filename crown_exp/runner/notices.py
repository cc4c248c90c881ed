"""Watches for the cloud's word that it is about to take the machine, in a thread, once a second.

A metadata server that is slow, silent or mad costs the run nothing, and one line at most.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from crown_exp.config.settings import Notices
from crown_exp.runner.cloud_notices import (
    CLOUDS,
    FIRMWARE,
    Cloud,
    Nonsense,
    cloud_of,
)
from crown_exp.runner.stopping import StopRequest
from crown_exp.tracking.run_log import to_stderr

if TYPE_CHECKING:
    from crown_exp.runner.metadata_server import MetadataServer

ADDRESS = "http://169.254.169.254"
"""Of the metadata server of every cloud; reached without a proxy, whatever the environment says."""

FIRMWARE_AT = Path("/sys/class/dmi/id")
POLL_SECONDS = 1.0
SILENT_SECONDS = {"azure": 150.0}
"""After so long without a good answer it is told. Azure's first answer may take two minutes."""

OTHERS_SILENT_SECONDS = 10.0


@contextmanager
def watched(
    stop: StopRequest, notices: Notices, say: Callable[[str], None] = to_stderr
) -> Iterator[None]:
    """Inside, a notice of the cloud stops the run in time. On a machine of no known cloud nothing is done."""
    name = cloud_of(firmware()) if notices.cloud == "auto" else notices.cloud
    if name is None or name not in CLOUDS:
        yield
        return
    from crown_exp.runner.metadata_server import MetadataServer  # HTTP takes 10 ms to import

    server = MetadataServer(notices.endpoint or ADDRESS)
    silent = SILENT_SECONDS.get(name, OTHERS_SILENT_SECONDS)
    watch = Watch(stop, CLOUDS[name](), server, say, silent_seconds=silent)
    watch.thread.start()
    try:
        yield
    finally:
        watch.close()


def firmware(place: Path = FIRMWARE_AT) -> dict[str, str]:
    """What this machine's firmware says of it; nothing where it is not shown."""
    found = {}
    for name in FIRMWARE:
        with suppress(OSError):
            found[name] = (place / name).read_text(errors="replace")
    return found


class Watch:
    """Asks until a notice is obeyed, and ends what trains on when the time has come; until it is closed.

    With one that is far off the run trains on, and a nearer one may follow: Azure tells of a reboot up to 15
    minutes ahead. So it is asked on, and another thread waits for the last moment, whatever the server does.
    """

    def __init__(
        self,
        stop: StopRequest,
        cloud: Cloud,
        server: MetadataServer,
        say: Callable[[str], None],
        *,
        silent_seconds: float = OTHERS_SILENT_SECONDS,
    ) -> None:
        self.stop, self.cloud, self.server, self.say = stop, cloud, server, say
        self.silent_seconds, self.said = silent_seconds, False
        self.heard = time.monotonic()
        self.closed, self.lock = threading.Event(), threading.Lock()
        self.thread = threading.Thread(target=self.run, name="crown-notices", daemon=True)
        self.last = threading.Thread(
            target=self.wait_for_the_last_moment, name="crown-notices", daemon=True
        )

    def run(self) -> None:
        """The thread that asks."""
        while not self.closed.is_set():
            began = time.monotonic()
            if self.asked() and self.last.ident is None:
                self.last.start()
            if self.stop.notice is not None and not self.stop.pending:
                return
            self.closed.wait(max(0.0, began + POLL_SECONDS - time.monotonic()))

    def wait_for_the_last_moment(self) -> None:
        """Stop the run where no boundary does: in a long turn or evaluation, or where it waits for data."""
        stop = self.stop
        while stop.pending and not self.closed.wait(min(max(stop.spare, 0.0), POLL_SECONDS)):
            with self.lock:
                if stop.pending and stop.spare <= 0 and not self.closed.is_set():
                    stop.obey_notice()
                    stop.wake()

    def asked(self) -> bool:
        """Ask once; whether there was a notice, which is passed on."""
        try:
            notice = self.cloud.notice(self.server.ask, datetime.now(UTC))
        except (OSError, Nonsense) as error:
            self.complain(error)
            return False
        self.heard = time.monotonic()
        if notice is None:
            return False
        with self.lock:
            if not self.closed.is_set():
                self.stop.warn(notice)
        return True

    def complain(self, error: Exception) -> None:
        """Say once that no notice would be seen, if that has lasted and none was."""
        if self.said or self.closed.is_set() or self.stop.notice is not None:
            return
        if time.monotonic() - self.heard < self.silent_seconds:
            return
        self.said = True
        why = str(error) or type(error).__name__
        self.say(
            f"the metadata server of {self.cloud.name} at {self.server.url}: {why}; if the machine is taken, "
            "the run learns it by SIGTERM only; CROWN_NOTICES__CLOUD=none if that is as it should be"
        )

    def close(self) -> None:
        """End the thread; nothing is passed on any more."""
        with self.lock:
            self.closed.set()
        self.server.hang_up()
        self.thread.join(POLL_SECONDS)
        if self.last.ident is not None:
            self.last.join(POLL_SECONDS)
