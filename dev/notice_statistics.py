"""What became of runs whose machine was taken: `python -m dev.notice_statistics [notices] [with torch]`.

Notices of AWS, Google Cloud and Azure in turn, from a server that stands in for theirs, at uniformly random
moments of runs whose store is a bucket (moto, a process of its own); in half of them SIGTERM follows, as the
clouds send it; SIGKILL after 30 seconds. A checkpoint counts if every byte of it verifies and it is that of the
last step that was done.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path
from statistics import median

from tests.exactness.notices import KINDS, Verdict, machines, take
from tests.s3.buckets import Bucket, fresh_bucket
from tests.s3.servers import Moto

ROW = "{:14} {:>7} " + "{:>12} " * len(KINDS) + "{:>8}"


def main(notices: int, torch: int) -> int:
    """Give notice, tell; 1 if more than one in a hundred lost a step."""
    print(ROW.format("task", "notices", *KINDS, "share"))
    worst = 1.0
    with Moto() as moto, fresh_bucket(moto) as bucket:
        for task, wanted, workers in (("walk", notices, 3), ("fit", torch, 2)):
            if wanted:
                worst = min(worst, told(task, bucket, wanted, workers))
    return int(worst < 0.99)


def told(task: str, bucket: Bucket, notices: int, workers: int) -> float:
    """Give so many notices; a row, and the seconds; the share that lost nothing of what there was to lose."""
    with (
        tempfile.TemporaryDirectory(prefix="crown-notices-") as folder,
        machines(task, bucket, Path(folder)) as found,
    ):
        verdicts = take(found, notices, seed=7, workers=workers, heard=complain)
    kinds = Counter(verdict.kind for verdict in verdicts)
    share = kinds["saved"] / max(1, kinds["saved"] + kinds["LOST"])
    counts = [kinds[kind] for kind in KINDS]
    print(ROW.format(task, len(verdicts), *counts, f"{share:.1%}"))
    saved = [verdict for verdict in verdicts if verdict.kind == "saved"]
    if saved:
        saving, ending = [it.saving for it in saved], [it.seconds for it in saved]
        print(
            f"  saved in {median(saving):.1f} s (most {max(saving):.1f}); process over {median(ending):.1f} s "
            f"after the notice (most {max(ending):.1f}); SIGTERM after it: {sum(it.sigterm for it in saved)}"
        )
    return share


def complain(verdict: Verdict) -> None:
    """Show a run that lost something, at once."""
    if verdict.words:
        print(f"LOST: {verdict.words}", flush=True)


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    sys.exit(main(*(given + [300, 20][len(given) :])))
