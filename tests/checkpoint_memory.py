"""A process that saves and loads a state, and prints what that took at its peak: `python -m` it.

Arguments: the URL of the store, the bytes of the state. One JSON object on the last line: for `save`,
`again` and `load` the most memory that was used beyond what was there before, as a share of the state.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from crown_exp.checkpoints import Keep, layout
from crown_exp.checkpoints.checkpoints import Checkpoints
from crown_exp.folder.paths import RunPaths
from crown_exp.storage import Portal, open_blobs

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", STATUS.read_text())
    assert found is not None
    return int(found[1]) * 1024


@contextmanager
def peak(into: dict[str, float], what: str, size: int) -> Iterator[None]:
    CLEAR.write_text("5")  # VmHWM begins anew
    before = resident("VmRSS")
    yield
    into[what] = (resident("VmHWM") - before) / size


def tensors(size: int) -> dict[str, torch.Tensor]:
    """Of a few sizes; together `size` bytes."""
    each = size // 4 // 24
    return {f"layer{number}": torch.rand(each) for number in range(24)}


def main(url: str, size: int) -> None:
    measured: dict[str, float] = {}
    access = {key: value for key, value in os.environ.items() if key.startswith("AWS_")}
    with Portal() as portal:
        blobs = open_blobs(url, access)

        def attempt(run: str, number: int) -> Checkpoints:
            return Checkpoints(portal, blobs, RunPaths(run), number, keep=Keep(last=1))

        whole, layout.PACK = layout.PACK, 2**23
        warm = attempt("r1", 1)
        for step in range(3):
            warm.save(step, tensors(2**26))  # the threads and connections that there will be
            warm.wait()
            assert warm.saved == step, warm.outcomes()
        assert attempt("r1", 2).restore() is not None
        del warm
        layout.PACK = whole

        net, saver = tensors(size), attempt("r2", 1)
        with peak(measured, "save", size):
            saver.save(1, {"net": net})
            saver.wait()
        net["layer0"] += 1
        with peak(measured, "again", size):
            saver.save(2, {"net": net})
            saver.wait()
        assert saver.saved == 2, saver.outcomes()
        del saver
        loader = attempt("r2", 2)
        with peak(measured, "load", size):
            restored = loader.restore()
            assert restored is not None and restored.step == 2
            for name, tensor in restored.state["net"].items():
                assert torch.equal(net[name], tensor)
                net[name].copy_(tensor)
            del restored, tensor
        with peak(measured, "after", size):  # into the memory that was read into
            loader.save(3, {"net": net})
            loader.wait()
    print(json.dumps(measured))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
