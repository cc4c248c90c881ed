"""Building a module of 250 million parameters (1 GB in float32) with and without the weights of a file.

`python -m benchmarks.building <case> <folder>` builds it in a process of its own and prints JSON: CPU seconds,
and how much the peak of memory grew, over the module's size. Each reads every weight once, as a first step
would: else those that map the file into memory would be measured before they read it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.child import python
from benchmarks.measure import Figure, interleave, not_installed

WIDTH, LAYERS = 2048, 60

CASES = {
    "ours": "run.build",
    "ours_weights": "run.build with weights=, .safetensors",
    "ours_torch": "run.build with weights=, of torch.save",
    "plain": "the module, then load_state_dict(torch.load)",
    "assign": "on meta, then load_state_dict(assign=True) of a mapped file",
    "accelerate": "accelerate's load_checkpoint_and_dispatch",
}
TARGETS = {"ours": 1.05, "ours_weights": 1.05, "ours_torch": 1.05}


def measure(rounds: int, home: Path) -> list[Figure]:
    """Peak of memory and CPU seconds of each way."""
    folder = home.parent / "weights"
    folder.mkdir()
    python("-m", "benchmarks.building", "save", str(folder), home=home)

    def sample(case: str) -> Any:
        return json.loads(python("-m", "benchmarks.building", case, str(folder), home=home).output)

    here = [case for case in CASES if case != "accelerate" or find_spec("accelerate")]
    taken = interleave({case: partial(sample, case) for case in here}, rounds)
    figures = []
    for case, what in CASES.items():
        if case not in taken:
            figures.append(not_installed(what))
            continue
        peaks = tuple(one["peak"] for one in taken[case])
        figures.append(Figure(f"{what}: peak, over its size", "×", peaks, TARGETS.get(case)))
        figures.append(Figure(what, "s CPU", tuple(one["cpu"] for one in taken[case])))
    return figures


def make(layers: int = LAYERS, width: int = WIDTH) -> Any:
    """The module."""
    from torch import nn

    return nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(layers)))


def save(folder: Path, **size: int) -> None:
    """Its weights, in both kinds of files."""
    import torch
    from safetensors.torch import save_file

    state = make(**size).state_dict()
    torch.save(state, folder / "net.pt")
    save_file(state, folder / "net.safetensors")


def ours(folder: Path, file: str | None, **size: int) -> Any:
    """As `run.build` does it."""
    import torch

    from crown_exp.devices.building import build_on

    weights = folder / file if file else None
    return build_on(partial(make, **size), torch.device("cpu"), weights)


def plain(folder: Path, **size: int) -> Any:
    """As most scripts do it."""
    import torch

    net = make(**size)
    net.load_state_dict(torch.load(folder / "net.pt", weights_only=True))
    return net


def assign(folder: Path, **size: int) -> Any:
    """The weights remain the file's pages."""
    import torch

    with torch.device("meta"):
        net = make(**size)
    state = torch.load(folder / "net.pt", weights_only=True, mmap=True)
    net.load_state_dict(state, assign=True)
    return net


def accelerate(folder: Path, **size: int) -> Any:
    """As its guide to big models says."""
    from accelerate import (  # type: ignore[import-untyped]
        init_empty_weights,
        load_checkpoint_and_dispatch,
    )

    with init_empty_weights():
        net = make(**size)
    return load_checkpoint_and_dispatch(net, str(folder / "net.safetensors"), {"": "cpu"})


WAYS: dict[str, Callable[..., Any]] = {
    "ours": partial(ours, file=None),
    "ours_weights": partial(ours, file="net.safetensors"),
    "ours_torch": partial(ours, file="net.pt"),
    "plain": plain,
    "assign": assign,
    "accelerate": accelerate,
}


def main(case: str, folder: Path) -> None:
    """One case, after a small one for what is imported and set up once."""
    import torch

    from crown_exp.devices.memory import host_peak

    torch.set_num_threads(1)
    if case == "save":
        (folder / "small").mkdir()
        save(folder / "small", layers=1, width=8)
        save(folder)
        return
    way = WAYS[case]
    used(way(folder / "small", layers=1, width=8))
    peak, cpu = host_peak(), time.process_time()
    net = way(folder)
    used(net)
    cpu = time.process_time() - cpu
    size = sum(p.numel() * p.element_size() for p in net.parameters())
    print(json.dumps({"peak": (host_peak() - peak) / size, "cpu": cpu}))


def used(net: Any) -> float:
    """Every weight is read."""
    return sum(float(p.detach().sum()) for p in net.parameters())


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
