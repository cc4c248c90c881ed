"""What a launch costs this machine: `python -m dev.launch_rate [runs]`.

A sweep of so many runs on the stand-in of SkyPilot, which answers at once, so that what is measured is ours:
from the command to the first request, requests a minute, CPU of the command for each run. No job begins.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.remote_runs import TASKS, wait_for
from tests.running import Project
from tests.sky_project import sky_project, state_of
from tests.stand_in.sky import edge


def main(runs: int) -> int:
    """Launch, tell."""
    with (
        tempfile.TemporaryDirectory(prefix="crown-rate-") as folder,
        sky_project(Path(folder) / "project", TASKS) as project,
    ):
        state = state_of(project)
        state.mkdir()
        edge.delay(state, starting=1e9)  # no job is to begin beside what is measured
        seeds = ",".join(map(str, range(runs)))
        before, asked = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
        child = project.popen("-m", "task=train", f"seed={seeds}", "compute=there", "--yes")
        wait_for(lambda: len(tickets(project)) == runs, 600.0)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        first, *_, last = sorted(tickets(project))
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(f"command to first request {first - asked:.1f} s")
        print(f"requests a minute        {(runs - 1) / (last - first) * 60:.0f}")
        print(
            f"CPU for each run         {cpu / runs * 1000:.0f} ms of {runs} runs, {cpu:.1f} s in all"
        )
    return 0


def tickets(project: Project) -> list[float]:
    """When each request was taken."""
    jobs = [run / "jobs/0001.json" for run in project.runs]
    there = [job for job in jobs if job.exists()]
    return [job.stat().st_mtime for job in there if json.loads(job.read_text())["ticket"]]


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 50))
