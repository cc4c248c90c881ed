"""All checks at once, each on a thread of its own and for a bounded time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from crown_exp.errors import CrownError
from crown_exp.launch.doctor.base import Finding, Named, Place

SECONDS = 5.0
SLOWER = {"device": 25.0, "store": 10.0, "sky": 30.0, "slurm": 15.0}
"""What starts a process; to import torch takes that long where it was never read from the disk before."""


def all_checks() -> list[Named]:
    """Every check, in the order in which it is told."""
    from crown_exp.launch.doctor import jobs, machine, project, record, services

    checks = {
        "python": machine.python, "packages": machine.packages, "device": machine.device,
        "project": project.project, "settings": project.settings, "home": project.home, "git": project.git,
        "secrets": project.secrets_file, "store": record.store, "registry": record.registry,
        "wandb": services.wandb, "sky": jobs.sky, "reach": jobs.reach, "slurm": jobs.slurm, "aws": services.aws,
    }  # fmt: skip
    return [Named(name, look, SLOWER.get(name, SECONDS)) for name, look in checks.items()]


def look_around() -> Place:
    """The current directory's project and settings, or why there are none. Never raises CrownError."""
    from crown_exp.config.project import find_project
    from crown_exp.config.settings import load_settings, variables

    place = Place(None, None)
    try:
        place = replace(place, project=find_project(Path.cwd()))
        place = replace(place, known=variables(place.project))
        return replace(place, settings=load_settings(place.project))
    except CrownError as error:
        return replace(place, problem=str(error))


class Examination(threading.Thread):
    """One check at work."""

    def __init__(self, check: Named, place: Place) -> None:
        super().__init__(name=f"crown-doctor-{check.name}", daemon=True)
        self.check, self.place = check, place
        self.deadline = time.monotonic() + check.seconds
        self.found: Sequence[Finding] | None = None

    def run(self) -> None:
        """Look; whatever is raised is a finding."""
        name = self.check.name
        try:
            self.found = self.check.look(self.place)
        except CrownError as error:
            self.found = [Finding(name, "fail", str(error))]
        except Exception as error:
            what = f"could not be checked: {type(error).__name__}: {error}"
            self.found = [Finding(name, "warn", what)]

    def result(self) -> Sequence[Finding]:
        """What was found, when it was; that nothing was once time is up."""
        self.join(max(0.0, self.deadline - time.monotonic()))
        if self.found is not None:
            return self.found
        what = f"did not answer in {self.check.seconds:g} s; the rest was checked without it"
        return [Finding(self.check.name, "fail", what, "see whether its disk or network is there")]


def examine(place: Place, checks: Sequence[Named] | None = None) -> Iterator[Finding]:
    """What all checks find, in their order, each as soon as it and those before it are done.

    No text holds a secret of the environment.
    """
    from crown_exp.config.secrets import redact
    from crown_exp.config.settings import known_secrets

    secrets = known_secrets(place.known)
    at_work = [Examination(check, place) for check in (all_checks() if checks is None else checks)]
    for one in at_work:
        with suppress(RuntimeError):  # no thread can be had: it will not answer
            one.start()
    for one in at_work:
        for finding in one.result():
            shown = redact(finding.found, secrets), redact(finding.fix, secrets)
            yield replace(finding, found=shown[0], fix=shown[1])
