"""What may hang, or is too heavy for a command, asked in a process of its own: `python -m …probe <what> …`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

MODULE = "crown_exp.launch.doctor.probe"


def ask(what: str, *arguments: str, seconds: float) -> dict[str, Any]:
    """The answer of a probe; {"error": line} if it fails or does not answer in time."""
    return answer([sys.executable, "-m", MODULE, what, *arguments], seconds)


def answer(command: Sequence[str], seconds: float) -> dict[str, Any]:
    """The JSON object that a command writes as its last line."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            out, err = child.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            child.kill()  # if even that takes its time, nobody waits for the thread we are on
            return {"error": f"no answer in {seconds:g} s"}
    with suppress(ValueError, IndexError):
        found = json.loads(out.splitlines()[-1])
        if isinstance(found, dict):
            return found
    last = err.strip().splitlines()[-1:] or [f"exit code {child.returncode}"]
    return {"error": last[0]}


def device() -> dict[str, Any]:
    """Torch, and what it would compute on."""
    import torch

    from crown_exp.devices import choose
    from crown_exp.devices.probe import TorchProbe

    wish = {"kind": "auto", "precision": "auto", "deterministic": False, "compile": False}
    choice = choose(wish, TorchProbe())
    count = torch.cuda.device_count() if choice.device == "cuda" else 0
    return {
        "torch": torch.__version__,
        "device": choice.device,
        "reason": choice.reason,
        "gpus": [torch.cuda.get_device_name(number) for number in range(count)],
    }


def store(root: str) -> dict[str, Any]:
    """Whether the store takes and gives bytes, and how far its clock is from ours, in seconds."""
    from datetime import UTC, datetime

    from crown_exp.storage import Portal, StorageManager

    with Portal() as portal, portal.enter(StorageManager(root)) as storage:
        health = portal.call(storage.health)
        before = datetime.now(UTC)
        theirs = portal.call(storage.blobs.now)
        after = datetime.now(UTC)
        folder = storage.blobs.local_path("health")
    with suppress(OSError):  # others may be looking too
        if folder is not None:
            folder.rmdir()
    ours = before + (after - before) / 2
    return {"health": health, "ahead": (theirs - ours).total_seconds()}


def main(what: str, *arguments: str) -> None:
    """Answer on standard output."""
    from crown_exp.errors import CrownError

    try:
        found = {"device": device, "store": store}[what](*arguments)  # type: ignore[operator]
    except (CrownError, ImportError) as error:
        found = {"error": str(error)}
    sys.stdout.write(f"{json.dumps(found)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
