"""One attempt of a run, in a process of its own, as `crown-exp verify` has it carried out.

    python -m crown_exp.runner.witness '{"store": …, "run": …, "home": …, "root": …, …}'

It is an attempt like any other. Between two turns it waits until the save that has begun is durable, so that
every turn has a checkpoint; it kills itself where it is told to; and it notes what might be why a run is not
exact: that proves nothing, and is shown only if the runs differ.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crown_exp.runner import run_attempt
from crown_exp.runner.boundary import Boundary
from crown_exp.runner.carried import carried
from crown_exp.runner.globals_seen import Globals
from crown_exp.runner.rehearsal import consumers, is_data
from crown_exp.storage import Portal, open_blobs
from crown_exp.tracking import Loop

SHORT = 0.005
"""Seconds into its first turn that a process is killed: it knows of no turn how long it takes."""


@dataclass
class Witness:
    """Visits the loops.

    kill: ("after", step) once its checkpoint is there, ("in", step) in the middle of a turn. notes: the file to
    note suspects in.
    """

    root: Path
    notes: Path
    kill: tuple[str, int] | None = None
    took: float = SHORT * 2
    found: dict[str, dict[str, None]] = field(default_factory=lambda: {"locals": {}, "globals": {}})
    globals: Globals | None = None

    def __call__(self, boundary: Boundary, loop: Loop, items: Iterator[Any]) -> Iterator[Any]:
        """The items, untouched."""
        self.globals = self.globals or Globals(self.root)
        first = loop.done
        try:
            while True:
                step = loop.before + loop.done
                boundary.keeping.finish()
                if self.kill == ("after", step):
                    kill_now()
                if loop.done == first + 1:
                    self.look_at_locals(boundary)
                try:
                    item = next(items)
                except StopIteration:
                    return
                began = time.perf_counter()
                if self.kill == ("in", step + 1):
                    kill_after(self.took / 2)
                    yield item
                    kill_now()
                yield item
                self.took = time.perf_counter() - began
        finally:
            self.note()

    def look_at_locals(self, boundary: Boundary) -> None:
        """Note the plain locals that a turn hands to the next."""
        state = boundary.state
        ours = {id(state.source and state.source.given), *map(id, state.tracked.values())}
        for frame in consumers(sys._getframe(2)):
            for name in carried(frame):
                value = frame.f_locals.get(name)
                if id(value) not in ours and is_data(value):
                    file = Path(frame.f_code.co_filename).name
                    self.found["locals"][f"{file}: {name}"] = None

    def note(self) -> None:
        """Write down what was seen so far."""
        if self.globals is not None:
            self.found["globals"].update(dict.fromkeys(self.globals.changed()))
        files = self.globals.files if self.globals else []
        told = {**{kind: list(names) for kind, names in self.found.items()}, "files": files}
        self.notes.write_text(json.dumps(told), encoding="utf-8")


def kill_after(seconds: float) -> None:
    """Kill this process while it does something else."""
    timer = threading.Timer(seconds, kill_now)
    timer.daemon = True
    timer.start()


def kill_now() -> None:
    """As if the machine were gone."""
    os.kill(os.getpid(), signal.SIGKILL)


def main(text: str) -> int:
    """Carry an attempt out as the JSON says; its exit code, and its end in the notes."""
    told = json.loads(text)
    kill = told["kill"]
    root, notes = Path(told["root"]), Path(told["notes"])
    witness = Witness(root, notes, (kill[0], kill[1]) if kill else None)
    with Portal() as portal:
        ending = run_attempt(
            portal, open_blobs(told["store"]), told["run"], home=Path(told["home"]), root=root,
            changes=told["changes"], visit=witness, take_over=True,
        )  # fmt: skip
    return ending.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
