"""Computing in the chosen precision: autocast around modules, a scaler around backward and update."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from crown_exp.devices.base import Choice

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class TorchProbe:
    """Asks torch what this machine has."""

    def cuda(self) -> tuple[int, int] | None:
        """The lowest compute capability of the CUDA devices; None without one."""
        if not torch.cuda.is_available():
            return None
        return min(map(torch.cuda.get_device_capability, range(torch.cuda.device_count())))

    def mps(self) -> int | None:
        """The version of macOS if Apple's GPU can be used; None if it cannot."""
        if not torch.backends.mps.is_available():
            return None
        return int(platform.mac_ver()[0].partition(".")[0] or 1)


class Precision:
    """Forward, backward and update in one precision on one device."""

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self.device = torch.device(choice.device)
        self.dtype = AUTOCAST.get(choice.precision)
        self.scaler = torch.amp.GradScaler(choice.device, enabled=choice.precision == "fp16")

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which products are computed in the chosen precision."""
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(self.choice.device, dtype=self.dtype)

    def wrap(self, module: nn.Module) -> nn.Module:
        """Make `module(...)` run under autocast; the module stays the same object.

        As a bound method, so that the forward of a deep copy (an average of weights) is the copy's own.
        """
        if self.dtype is not None:
            unbound = type(module).forward

            def forward(itself: nn.Module, *args: Any, **kwargs: Any) -> Any:
                with self.autocast():
                    return unbound(itself, *args, **kwargs)

            module.forward = MethodType(forward, module)
        return module

    def backward(self, loss: Tensor) -> None:
        """Gradients of a scalar loss, scaled where the precision needs it."""
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def update(self, optimizer: torch.optim.Optimizer, clip: float | None) -> Tensor | None:
        """Unscale, clip to a global norm, step, zero. Returns the norm before clipping, if asked to clip."""
        norm = None
        if clip is not None:
            self.scaler.unscale_(optimizer)
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            norm = nn.utils.clip_grad_norm_(parameters, clip)
        self.scaler.step(optimizer)
        self.scaler.update()
        optimizer.zero_grad(set_to_none=True)
        return norm


@contextmanager
def torch_globals(choice: Choice, seed: int, threads: int | None) -> Iterator[None]:
    """Seed torch and set its process-wide switches for a run; put all back after it, its tasks' too."""
    cudnn, dtype = torch.backends.cudnn, torch.get_default_dtype()
    thread_count, gradients = torch.get_num_threads(), torch.is_grad_enabled()
    matmul = torch.get_float32_matmul_precision()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    switches = cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32
    started: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    gpus = range(torch.cuda.device_count()) if started else ()
    with torch.random.fork_rng(devices=gpus):
        seed_torch(seed)
        torch.set_num_threads(threads or thread_count)
        torch.set_float32_matmul_precision("high" if choice.tf32 else "highest")
        if choice.deterministic != deterministic:  # the call alone imports torch._dynamo: a second
            torch.use_deterministic_algorithms(choice.deterministic)
        cudnn.benchmark, cudnn.deterministic = False, choice.deterministic
        cudnn.allow_tf32 = choice.tf32
        try:
            yield
        finally:
            torch.set_num_threads(thread_count)
            torch.set_grad_enabled(gradients)
            torch.set_default_dtype(dtype)
            torch.set_float32_matmul_precision(matmul)
            if torch.are_deterministic_algorithms_enabled() != deterministic:
                torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
            cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32 = switches


def seed_torch(seed: int) -> None:
    """Seed torch's generators on every device."""
    torch.manual_seed(seed % 2**64)
