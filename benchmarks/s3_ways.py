"""A state saved to S3 and read from there: ours, and as others do it, each called at the layer of its files."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from benchmarks.s3_server import BUCKET, obstore_of, s3fs_of
from benchmarks.saving import Dcp, State, Way
from crown_exp.storage import Portal

WAYS = {
    "ours": "crown_exp",
    "torch_s3fs": "torch.save + s3fs",
    "safetensors_obstore": "safetensors + obstore",
    "dcp": "DCP save, FsspecWriter",
    "dcp_async": "DCP async_save, FsspecWriter, cached stager",
    "lightning": "Lightning AsyncCheckpointIO",
    "accelerate": "accelerate save_state, then s3fs put",
}
NEEDS = {
    "ours": ("obstore",), "torch_s3fs": ("s3fs",), "safetensors_obstore": ("safetensors", "obstore"),
    "dcp": ("s3fs",), "dcp_async": ("s3fs",), "lightning": ("lightning", "s3fs"),
    "accelerate": ("accelerate", "s3fs"),
}  # fmt: skip
"""What has to be installed."""


class Ours:
    """Every byte is hashed when it is saved, and again when it is read; a manifest commits."""

    run = "r261129-bench1"

    def __init__(self, portal: Portal, access: Mapping[str, str], prefix: str) -> None:
        from crown_exp.folder import RunPaths
        from crown_exp.storage import open_blobs

        self.portal = portal
        self.blobs = open_blobs(f"s3://{BUCKET}/{prefix}", access)
        self.portal.call(self.blobs.prepare)
        for attempt in (1, 2):
            self.portal.call(self.blobs.put, RunPaths(self.run).attempt(attempt), b"{}")
        self.checkpoints = self.of_attempt(2)

    def of_attempt(self, attempt: int) -> Any:
        """What an attempt sees of the run's checkpoints. One is kept, as the other ways do."""
        from crown_exp.checkpoints import Keep
        from crown_exp.checkpoints.checkpoints import Checkpoints
        from crown_exp.folder import RunPaths

        return Checkpoints(self.portal, self.blobs, RunPaths(self.run), attempt, keep=Keep(last=1))

    def save(self, step: int, state: State, frozen: Any = ()) -> None:
        """See Way."""
        self.checkpoints.save(step, state, frozen=frozen)

    def busy(self) -> bool:
        """Whether a save is being written, and what it replaces removed."""
        return bool(self.checkpoints.busy)

    def finish(self) -> None:
        """See Way: without what is removed afterwards."""
        self.finished()

    def finished(self) -> Any:
        """How the save ended."""
        from crown_exp.checkpoints import Saved

        while not (told := self.checkpoints.outcomes()):
            time.sleep(5e-4)
        assert isinstance(told[-1], Saved), told
        return told[-1]

    def restore(self) -> State:
        """See Way: as the next attempt does."""
        self.checkpoints.wait()
        found = self.of_attempt(3).restore()
        assert found is not None
        return found.state  # type: ignore[no-any-return]


class TorchS3fs:
    """torch.save into a file of s3fs, torch.load from one."""

    def __init__(self, access: Mapping[str, str], prefix: str) -> None:
        self.files, self.path = s3fs_of(access), f"{BUCKET}/{prefix}/state.pt"

    def save(self, step: int, state: State) -> None:
        """See Way."""
        with self.files.open(self.path, "wb") as file:
            torch.save(state, file)

    def finish(self) -> None:
        """See Way: nothing is left to do."""

    def restore(self) -> State:
        """See Way."""
        with self.files.open(self.path, "rb") as file:
            return torch.load(file)  # type: ignore[no-any-return]


class SafetensorsObstore:
    """The bytes of a safetensors file, put and got by obstore."""

    def __init__(self, access: Mapping[str, str], prefix: str) -> None:
        self.store, self.path = obstore_of(access), f"{prefix}/state.safetensors"

    def save(self, step: int, state: State) -> None:
        """See Way."""
        import obstore
        from safetensors.torch import save

        data = save(state)
        obstore.put(self.store, self.path, data, chunk_size=16 * 2**20, max_concurrency=4)

    def finish(self) -> None:
        """See Way: nothing is left to do."""

    def restore(self) -> State:
        """See Way."""
        import obstore
        from safetensors.torch import load

        return load(bytes(obstore.get(self.store, self.path).bytes()))


class DcpS3(Dcp):
    """torch.distributed.checkpoint through fsspec. staged: behind the caller, from a buffer."""

    def __init__(self, prefix: str, staged: bool) -> None:
        super().__init__(Path(prefix), staged)
        self.url = f"s3://{BUCKET}/{prefix}"

    def writer(self) -> Any:
        """See Dcp."""
        from torch.distributed.checkpoint._fsspec_filesystem import FsspecWriter

        return FsspecWriter(self.url)

    def reader(self) -> Any:
        """See Dcp."""
        from torch.distributed.checkpoint._fsspec_filesystem import FsspecReader

        return FsspecReader(self.url)


class Lightning:
    """Lightning's asynchronous writer, which copies the state and gives it to a thread."""

    def __init__(self, prefix: str) -> None:
        from lightning.pytorch.plugins.io import AsyncCheckpointIO, TorchCheckpointIO

        self.url = f"s3://{BUCKET}/{prefix}/state.ckpt"
        self.files: Any = AsyncCheckpointIO(TorchCheckpointIO())
        self.flight: Any = None

    def save(self, step: int, state: State) -> None:
        """See Way."""
        self.files.save_checkpoint({"state": state}, self.url)
        self.flight = self.files._executor.submit(bool)  # its one thread comes to this afterwards

    def busy(self) -> bool:
        """Whether a save is being written."""
        return self.flight is not None and not self.flight.done()

    def finish(self) -> None:
        """See Way."""
        self.files.teardown()

    def restore(self) -> State:
        """See Way."""
        return self.files.load_checkpoint(self.url)["state"]  # type: ignore[no-any-return]


class Accelerate:
    """A folder that accelerate writes, uploaded; downloaded, and read by accelerate."""

    def __init__(self, access: Mapping[str, str], prefix: str, folder: Path) -> None:
        from accelerate import Accelerator

        self.files, self.url = s3fs_of(access), f"{BUCKET}/{prefix}"
        self.accelerator = Accelerator(cpu=True)
        self.folder = folder
        self.net: Any = None

    def prepare(self, state: State) -> None:
        """A module and an AdamW."""
        self.names = [name.removesuffix(".weight") for name in state if name.endswith(".weight")]
        net = torch.nn.Module()
        for name in self.names:
            weight = torch.nn.Parameter(state[f"{name}.weight"])
            net.register_parameter(name.replace(".", "-"), weight)
        self.net, self.optimizer = self.accelerator.prepare(
            net, torch.optim.AdamW(net.parameters())
        )

    def hold(self, state: State) -> None:
        """Have the state's very tensors in them."""
        for name, parameter in zip(self.names, self.net.parameters(), strict=True):
            self.optimizer.state[parameter] = {
                kind: state[f"{name}.{kind}"] for kind in ("step", "exp_avg", "exp_avg_sq")
            }

    def save(self, step: int, state: State) -> None:
        """See Way."""
        if self.net is None:
            self.prepare(state)
        self.hold(state)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.accelerator.save_state(str(self.folder))
        self.files.put(f"{self.folder}/", f"{self.url}/", recursive=True)

    def finish(self) -> None:
        """See Way: nothing is left to do."""

    def restore(self) -> State:
        """See Way: into the tensors that are there."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.files.invalidate_cache()
        self.files.get(f"{self.url}/", str(self.folder), recursive=True)
        self.accelerator.load_state(str(self.folder))
        found = {}
        for name, parameter in zip(self.names, self.net.parameters(), strict=True):
            found[f"{name}.weight"] = parameter.detach()
            found |= {
                f"{name}.{kind}": value for kind, value in self.optimizer.state[parameter].items()
            }
        return found


def make(way: str, portal: Portal, access: Mapping[str, str], prefix: str, folder: Path) -> Way:
    """One of WAYS, below a prefix of its own. folder: for what it writes on this machine."""
    match way:
        case "ours":
            return Ours(portal, access, prefix)
        case "torch_s3fs":
            return TorchS3fs(access, prefix)
        case "safetensors_obstore":
            return SafetensorsObstore(access, prefix)
        case "dcp" | "dcp_async":
            return DcpS3(prefix, staged=way == "dcp_async")
        case "lightning":
            return Lightning(prefix)
    return Accelerate(access, prefix, folder / "accelerate")


def installed(way: str) -> bool:
    """Whether all is there that a way needs."""
    from importlib.util import find_spec

    found = False
    with suppress(ImportError, ValueError):
        found = all(find_spec(name) is not None for name in NEEDS[way])
    return found


def configure(access: Mapping[str, str]) -> None:
    """Have fsspec reach the server for those who only give it a URL."""
    import fsspec

    fsspec.config.conf["s3"] = {
        "key": access["AWS_ACCESS_KEY_ID"], "secret": access["AWS_SECRET_ACCESS_KEY"],
        "endpoint_url": access["AWS_ENDPOINT_URL"],
        "client_kwargs": {"region_name": access["AWS_REGION"]},
    }  # fmt: skip
