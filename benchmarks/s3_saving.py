"""`python -m benchmarks.s3_saving <size> <rounds> <folder> <access> <way>…`: a state saved to S3 several ways.

access: JSON, as AWS's variables. Prints JSON: by way, the samples of each figure. In each round the floors are
taken once, right beside ours, before it and after it in turn; all of the round are held against the same.
What is said of memory in `benchmarks.saving` holds here, too.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from benchmarks.s3_floors import S3Floors
from benchmarks.s3_ways import Ours, configure, make
from benchmarks.saving import Floors, State, Way, make_state, memory, of_restore, reset_peak, timed
from crown_exp.storage import Portal

SIZES = {"tiny": (12, 128), "large": (12, 444), "gigabyte": (12, 768)}
"""Blocks, and the width of each: 28 MB, 341 MB, 1.02 GB."""

FROZEN = {"tiny": (20, 128), "large": (20, 520), "gigabyte": (20, 944)}
"""Of a state of which nine tenths of the blocks are not trained: 19 MB, 311 MB, 1.03 GB."""


def one(way: Way, step: int, state: State, warm: Callable[[], None]) -> dict[str, float]:
    """A save and a restore, and what they took beyond the state."""
    found = {}
    warm()
    reset_peak()
    before, cpu = memory("VmRSS"), time.process_time()
    found["stall"] = timed(lambda: way.save(step, state))
    found["durable"] = found["stall"] + timed(way.finish)
    found["save_cpu"] = time.process_time() - cpu
    found["save_memory"] = memory("VmHWM") - before
    warm()
    return found | of_restore(way, state)


def floors_of(local: Floors, remote: S3Floors) -> dict[str, float]:
    """One sample of each floor, in seconds, and the processor's time of the raw PUT and GET."""
    local.warm()
    found = {"memcpy": timed(local.memcpy)}
    for name in ("put", "put_packs", "get", "get_fresh"):
        local.warm()
        cpu = time.process_time()
        found[name] = timed(getattr(remote, name))
        found[f"{name}_cpu"] = time.process_time() - cpu
    return found


def measure(
    portal: Portal,
    size: str,
    rounds: int,
    folder: Path,
    access: Mapping[str, str],
    names: list[str],
) -> Any:
    """By way, and `floors`: the samples of each figure, after a round that is not counted."""
    state = make_state(*SIZES[size])
    total = sum(tensor.nbytes for tensor in state.values())
    local, remote = Floors(folder, total), S3Floors(access, total)
    configure(access)
    known, held = dict[str, Way](), dict[str, float]()
    samples: dict[str, list[dict[str, float]]] = {}
    for step in range(1, rounds + 2):
        for tensor in state.values():
            tensor.add_(1)
        for name in order(names, step):
            if name == "floors":
                taken = floors_of(local, remote)
            else:
                if name not in known:
                    known[name] = make(name, portal, access, f"{size}/{name}", folder)
                    gc.collect()
                    held[name] = memory("VmRSS")
                taken = one(known[name], step, state, local.warm)
                if step == 1:  # what it keeps between two saves
                    gc.collect()
                    held[name] = max(0.0, memory("VmRSS") - held[name])
                taken["save_memory"] += held[name]
            sys.stderr.write(f"  {size} {step} {name} {taken}\n")
            if step > 1:
                samples.setdefault(name, []).append(taken)
    remote.clean()
    return {"bytes": total, "tensors": len(state), "samples": samples}


def order(names: list[str], step: int) -> list[str]:
    """The floors before ours in one round, after it in the next; the others behind."""
    pair = ["floors", *(name for name in names if name == "ours")]
    rest = [name for name in names if name != "ours"]
    return [*(pair if step % 2 else reversed(pair)), *rest]


def frozen(portal: Portal, size: str, rounds: int, access: Mapping[str, str]) -> Any:
    """A second save of a state of which nine tenths are not trained: bytes changed, bytes written, seconds."""
    blocks, width = FROZEN[size]
    state = make_state(blocks, width)
    still = {f"{block}" for block in range(blocks * 9 // 10)}
    state = {
        name: value
        for name, value in state.items()
        if name.endswith(".weight") or name.partition(".")[0] not in still
    }
    untrained = {id(value) for name, value in state.items() if name.partition(".")[0] in still}
    trained = [value for value in state.values() if id(value) not in untrained]
    changed = sum(value.nbytes for value in trained)
    floor = S3Floors(access, changed)
    way = Ours(portal, access, f"{size}/frozen")
    samples = []
    for step in range(1, rounds + 3):
        put = timed(floor.put)
        way.save(step, state, untrained)
        saved = way.finished()
        way.checkpoints.wait()
        if step > 2:
            samples.append({"written": saved.written, "seconds": saved.seconds, "put": put})
        for value in trained:
            value.add_(1)
    floor.clean()
    total = sum(value.nbytes for value in state.values())
    return {"bytes": total, "changed": changed, "samples": samples}


def main(size: str, rounds: int, folder: Path, access: Mapping[str, str], names: list[str]) -> Any:
    """All of it, of one size."""
    os.environ.update(access)
    with Portal() as portal:
        told = measure(portal, size, rounds, folder, access, names)
        return told | {"frozen": frozen(portal, size, rounds, access)}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    given, turns, place, reached, *chosen = sys.argv[1:]
    with redirect_stdout(sys.stderr):
        answer = main(given, int(turns), Path(place), json.loads(reached), chosen)
    print(json.dumps(answer))
