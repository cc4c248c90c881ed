"""Computing in the chosen precision: autocast, a scaler around backward and update, torch's switches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from crown_exp.devices.base import Choice
from crown_exp.devices.float32 import float32_in
from crown_exp.devices.placement import Placement

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """Autocast, backward and update in one precision on one device.

    Gradients of fp16 are scaled up, lest the small ones vanish. torch wants the scale changed once an
    iteration, after all its optimizers: gradients that wait for a second one were made with the old scale.
    So it is changed not by `update`, but when the next `backward` begins.
    """

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self.device = torch.device(choice.device)
        self.dtype = AUTOCAST.get(choice.precision)
        self.scaler = torch.amp.GradScaler(choice.device, enabled=choice.precision == "fp16")
        self.stepped = False
        self.placement = Placement(choice)

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which products are computed in the chosen precision."""
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(self.choice.device, dtype=self.dtype)

    def backward(self, loss: Tensor) -> None:
        """Gradients of a scalar loss, scaled where the precision needs it."""
        if self.stepped:
            self._adjust()
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def update(self, optimizer: torch.optim.Optimizer, clip: float | None) -> Tensor | None:
        """Unscale, clip to a global norm, step, zero. Returns the norm before clipping, if asked to clip.

        A step whose scaled gradients are not finite is left out, and the scale is halved.
        """
        norm = None
        scaled = self.scaler.is_enabled() and has_gradients(optimizer)
        if clip is not None:
            if scaled:
                self.scaler.unscale_(optimizer)
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            norm = nn.utils.clip_grad_norm_(parameters, clip)
        if scaled:
            self.scaler.step(optimizer)
            self.stepped = True
        else:
            optimizer.step()
        drop_gradients(optimizer)
        return norm

    def state_dict(self) -> dict[str, Any]:
        """The scale and since when it holds; empty but in fp16. To be asked between two turns."""
        if self.stepped:
            self._adjust()
        return self.scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with a scale."""
        self.stepped = False
        if self.scaler.is_enabled() and state:
            self.scaler.load_state_dict(state)

    def _adjust(self) -> None:
        self.scaler.update()
        self.stepped = False


def drop_gradients(optimizer: torch.optim.Optimizer) -> None:
    """`zero_grad`; torch's own without what it does for profilers, which is 8 µs a step."""
    if type(optimizer).zero_grad is not torch.optim.Optimizer.zero_grad:
        optimizer.zero_grad(set_to_none=True)
        return
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None


def has_gradients(optimizer: torch.optim.Optimizer) -> bool:
    """Whether there is anything to step by; a scaler raises an error if there is not."""
    return any(p.grad is not None for group in optimizer.param_groups for p in group["params"])


@contextmanager
def torch_globals(choice: Choice, seed: int, threads: int | None) -> Iterator[None]:
    """Seed torch and set its process-wide switches for a run; put all back after it, its tasks' too."""
    cudnn, dtype = torch.backends.cudnn, torch.get_default_dtype()
    thread_count, gradients = torch.get_num_threads(), torch.is_grad_enabled()
    place = torch.get_default_device()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    switches = cudnn.benchmark, cudnn.deterministic
    started: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    gpus = range(torch.cuda.device_count()) if started else ()
    with torch.random.fork_rng(devices=gpus), float32_in(choice.tf32):
        seed_torch(seed)
        torch.set_num_threads(threads or thread_count)
        if choice.deterministic != deterministic:  # the call alone imports torch._dynamo: a second
            torch.use_deterministic_algorithms(choice.deterministic)
        cudnn.benchmark, cudnn.deterministic = False, choice.deterministic
        try:
            yield
        finally:
            torch.set_num_threads(thread_count)
            torch.set_grad_enabled(gradients)
            torch.set_default_dtype(dtype)
            if torch.get_default_device() != place:
                torch.set_default_device(None if place.type == "cpu" else place)
            if torch.are_deterministic_algorithms_enabled() != deterministic:
                torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
            cudnn.benchmark, cudnn.deterministic = switches


def seed_torch(seed: int) -> None:
    """Seed torch's generators on every device."""
    torch.manual_seed(seed % 2**64)
