"""What may hang, or is too heavy for a command, asked in a process of its own: `python -m …probe <what> …`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crown_exp.storage.base import NotFound

if TYPE_CHECKING:
    from crown_exp.storage import BlobStore, Portal

MODULE = "crown_exp.launch.doctor.probe"
REMOTE_SECONDS = 5
TRIPS = 5


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
    """Whether the store is fit for runs, takes and gives bytes, and how far its clock is from ours, in seconds.

    Of a remote one also the seconds of a round trip, and how it is reached.
    """
    from datetime import UTC, datetime

    from crown_exp.config.project import find_project
    from crown_exp.config.settings import store_access
    from crown_exp.storage import Portal, StorageManager

    access = store_access(find_project(Path.cwd())) | {"DEADLINE": f"{REMOTE_SECONDS}"}
    with Portal() as portal, portal.enter(StorageManager(root, access)) as storage:
        far = storage.blobs.local_path("health") is None and not root.startswith("memory:")
        if far:
            portal.call(storage.blobs.prepare)
        health = portal.call(storage.health)
        trip = round_trip(portal, storage.blobs) if far and health["blobs"] == "ok" else None
        before = datetime.now(UTC)
        theirs = portal.call(storage.blobs.now)
        after = datetime.now(UTC)
        folder = storage.blobs.local_path("health")
    with suppress(OSError):  # others may be looking too
        if folder is not None:
            folder.rmdir()
    ours = before + (after - before) / 2
    found = {"health": health, "ahead": (theirs - ours).total_seconds()}
    return found | ({"trip": trip, "way": way_to(root, access)} if far else {})


def round_trip(portal: Portal, blobs: BlobStore) -> float:
    """The seconds that the fastest of a few small requests took: what each call costs at least."""
    took = []
    for _ in range(TRIPS):
        start = time.perf_counter()
        with suppress(NotFound):
            portal.call(blobs.stat, "health/none")
        took.append(time.perf_counter() - start)
    return min(took)


def way_to(root: str, access: Mapping[str, str]) -> dict[str, str]:
    """Where the server of an S3 store is, and whose keys are used; never a secret."""
    if not root.lower().startswith("s3:"):
        return {}
    from crown_exp.storage.aws import Profile, way_to_s3

    way = way_to_s3(access)
    if way.credentials is None:
        keys = "those that this machine is given"
    elif isinstance(way.credentials, Profile):
        keys = f"profile {access.get('AWS_PROFILE', 'default')} of ~/.aws"
    else:
        keys = f"the key {shortened(access['AWS_ACCESS_KEY_ID'])} of the environment or .env"
    return {"endpoint": way.endpoint or "AWS", "region": way.region, "keys": keys}


def shortened(key: str) -> str:
    """The id of a key, as much of it as its owner knows it by."""
    return f"{key[:4]}…{key[-4:]}" if len(key) > 12 else f"{key[:2]}…"


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
