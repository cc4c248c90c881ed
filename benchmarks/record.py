"""`python -m benchmarks.record <preset> <count>`: record runs without starting them; prints their folders."""

from __future__ import annotations

import sys
from pathlib import Path

from crown_exp.config.project import find_project
from crown_exp.face import checked
from crown_exp.launch.session import open_session
from crown_exp.launch.submit import Order


def main(preset: str, count: str) -> None:
    """Compose and check once, then make the runs."""
    project = find_project(Path.cwd())
    composition, sound = checked(project, (preset,))
    with open_session(project) as session:
        for _ in range(int(count)):
            record = session.make(Order(composition, sound))
            print(f"{session.blobs.url}/runs/{record.id}")


if __name__ == "__main__":
    main(*sys.argv[1:])
