"""Computing in the chosen precision: autocast around modules, a scaler around backward and update."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

from crown_exp.devices.base import Choice

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class TorchProbe:
    """Asks torch what this machine has."""

    def cuda(self) -> tuple[int, int] | None:
        """The compute capability of the first CUDA device; None without one."""
        return torch.cuda.get_device_capability() if torch.cuda.is_available() else None

    def mps(self) -> bool:
        """Whether Apple's GPU can be used."""
        return torch.backends.mps.is_available()


class Precision:
    """Forward, backward and update in one precision on one device."""

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self.dtype = AUTOCAST.get(choice.precision)
        self.scaler = torch.amp.GradScaler(choice.device, enabled=choice.precision == "fp16")

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which products are computed in the chosen precision."""
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(self.choice.device, dtype=self.dtype)

    def wrap(self, module: nn.Module) -> nn.Module:
        """Make `module(...)` run under autocast; the module stays the same object."""
        if self.dtype is not None:
            forward = module.forward

            @wraps(forward)
            def autocasted(*args: Any, **kwargs: Any) -> Any:
                with self.autocast():
                    return forward(*args, **kwargs)

            module.forward = autocasted
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
    """Seed torch and set its process-wide switches for a run; put all back after it."""
    random_state, thread_count = torch.get_rng_state(), torch.get_num_threads()
    torch.manual_seed(seed)
    torch.set_num_threads(threads or thread_count)
    matmul = torch.get_float32_matmul_precision()
    cudnn = torch.backends.cudnn
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        cudnn.benchmark,
        cudnn.deterministic,
        cudnn.allow_tf32,
    )
    torch.set_float32_matmul_precision("high" if choice.tf32 else "highest")
    torch.use_deterministic_algorithms(choice.deterministic)
    cudnn.allow_tf32 = choice.tf32
    cudnn.deterministic = choice.deterministic
    cudnn.benchmark = False
    try:
        yield
    finally:
        torch.set_rng_state(random_state)
        torch.set_num_threads(thread_count)
        torch.set_float32_matmul_precision(matmul)
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32 = before[2:]
