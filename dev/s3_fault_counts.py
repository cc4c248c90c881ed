"""Counts what comes of every fault at every k-th request of all that is done to a store of runs.

    python -m dev.s3_fault_counts [--ceph] [--by s3fs] [--every 3] [--only save,restore]

Prints a table: a row for each fault, a column for each operation; in it how many of the cases were safe,
and below it all that was lost or told wrongly, and how the operations themselves ended. With --every 3
each third request, beginning with another for each fault. Exits with 1 if anything was lost or wrong.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from functools import partial

from crown_exp.storage import Portal
from tests.s3.buckets import fresh_bucket
from tests.s3.operations import OPERATIONS
from tests.s3.servers import Ceph, Moto, Proxy
from tests.s3.sweeps import DEADLINES_S, FAULTS, Counts, Worlds, quick, requests_of, sweep, world

BURSTS = {"500 for ever": "500", "cut off for ever": "refuse", "hangs for ever": "hang"}


def main() -> int:
    """Sweep, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--ceph", action="store_true", help="Ceph's gateway instead of moto")
    parser.add_argument("--by", choices=["obstore", "s3fs"], default="obstore")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--only", default="", help="operations whose name has one of these in it")
    wish = parser.parse_args()
    names = [name for name in OPERATIONS if any(part in name for part in wish.only.split(","))]
    start = time.monotonic()
    with (
        (Ceph() if wish.ceph else Moto()) as server, Proxy(server.url) as proxy,
        fresh_bucket(server) as bucket, Portal() as portal, quick(),
    ):  # fmt: skip
        deadline_s = DEADLINES_S["ceph" if wish.ceph else "moto"]
        worlds = partial(world, portal, proxy, bucket, by=wish.by, hurried_s=deadline_s)
        cells = counted(worlds, names, wish.every)
    where = f"{'Ceph RGW' if wish.ceph else 'moto'}, by {wish.by}"
    return report(cells, names, f"{where}, {time.monotonic() - start:.0f} s")


def counted(worlds: Worlds, names: list[str], every: int) -> dict[tuple[str, str], Counts]:
    """What came of each fault in each operation."""
    cells = {}
    for name in names:
        operation = OPERATIONS[name]
        count = requests_of(worlds, operation)
        for number, fault in enumerate([*FAULTS, *BURSTS]):
            places = range(1 + number % min(every, count), count + 1, every)
            length = None if fault in BURSTS else 1
            given = FAULTS[BURSTS.get(fault, fault)]
            cells[fault, name] = sweep(worlds, operation, given, places, length=length)
            print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return cells


def report(cells: dict[tuple[str, str], Counts], names: list[str], where: str) -> int:
    """Print the table and what is below it; the exit code."""
    print(f"Safe of all cases ({where})\n")
    print(f"| fault | {' | '.join(names)} | ended |")
    print(f"|---|{'---|' * len(names)}---|")
    for fault in [*FAULTS, *BURSTS]:
        row = [cells[fault, name] for name in names]
        ended = sum((one.ended for one in row), Counter[str]())
        told = ", ".join(f"{count} {what}" for what, count in ended.most_common())
        print(f"| {fault} | {' | '.join(f'{one.safe}/{one.cases}' for one in row)} | {told} |")
    every = list(cells.values())
    cases, lost, wrong = (
        sum(one.cases for one in every),
        [line for one in every for line in one.lost],
        [line for one in every for line in one.wrong],
    )
    print(f"\n{cases} cases, {len(lost)} lost, {len(wrong)} silently wrong")
    for line in [*lost, *wrong]:
        print(f"- {line}")
    return 1 if lost or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
