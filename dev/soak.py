"""Runs in a bucket, killed again and again: `python -m dev.soak [kills] [--torch kills] [--ceph] [--calm]`.

Prints a row for the small task and one for the task with torch: copies of a run whose store is an S3 server,
killed by SIGKILL at uniformly random moments from start to exit, half of the attempts on a machine with an
empty home, and held against the run that nobody touched, whose store is a folder. Unless it is told to be
calm, the server fails now and then: it answers 503 or 500, cuts connections both ways, hangs, or does what it
is asked without an answer.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.exactness.cases import Cases, Straight, Zygotes
from tests.exactness.kills import Tally
from tests.exactness.zygote import Zygote
from tests.s3.buckets import Bucket, fresh_bucket
from tests.s3.servers import Ceph, Moto, Proxy
from tests.soak.faults import Weather
from tests.soak.remote import PRELOADED, Soak, straight_large, straight_small

ROW = "{:16} {:>6} {:>6} {:>8} {:>18} {:>7} {:>15} {:>7}"
HEADER = ("case", "runs", "kills", "resumes", "from a checkpoint", "faults", "differing bits", "s")


def main() -> int:
    """Kill, tell; 1 if a bit differed."""
    asked = options()
    print(ROW.format(*HEADER))
    tallies = []
    with (
        tempfile.TemporaryDirectory(prefix="crown-soak-") as folder,
        Ceph() if asked.ceph else Moto() as server,
        fresh_bucket(server) as bucket,
        Proxy(server.url) as proxy,
        straights(Path(folder)) as cases,
    ):
        if asked.kills:
            tallies.append(killed(straight_small(cases), bucket, proxy, asked.kills, asked.calm))
        if asked.torch:
            tallies.append(killed(straight_large(cases), bucket, proxy, asked.torch, asked.calm))
    return int(any(tally.differing_bits or tally.first for tally in tallies))


def options() -> argparse.Namespace:
    """What was typed."""
    parser = argparse.ArgumentParser(prog="python -m dev.soak")
    parser.add_argument("kills", type=int, nargs="?", default=200, help="of the small task (200)")
    parser.add_argument("--torch", type=int, default=20, help="of the task with torch (20)")
    parser.add_argument("--ceph", action="store_true", help="Ceph's gateway instead of moto")
    parser.add_argument("--calm", action="store_true", help="a server that does not fail")
    return parser.parse_args()


@contextmanager
def straights(place: Path) -> Iterator[Cases]:
    """Where runs are made that nobody touches."""
    zygotes = Zygotes(pairs=False)
    try:
        yield Cases(place, zygotes)
    finally:
        zygotes.close()


def killed(straight: Straight, bucket: Bucket, proxy: Proxy, kills: int, calm: bool) -> Tally:
    """Kill copies of a run so often; a row."""
    began, weather = time.monotonic(), Weather(proxy, seed=kills)
    place = straight.recorded.store.parent.parent / "killed"
    with Zygote.preloaded(PRELOADED[straight.name]) as zygote:
        soak = Soak(straight, bucket.behind(proxy), zygote, place, seed=4)
        if not calm:
            soak.faults = weather.turn
        tally = soak.kill(kills)
    weather.turn()
    proxy.clear()
    seconds = f"{time.monotonic() - began:.0f}"
    print(
        ROW.format(
            tally.name, tally.runs, tally.kills, tally.resumes, tally.from_saved, weather.befallen,
            tally.differing_bits, seconds,
        ), flush=True,
    )  # fmt: skip
    if tally.first:
        print(tally.first)
    return tally


if __name__ == "__main__":
    sys.exit(main())
