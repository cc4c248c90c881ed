"""Where accelerate comes in, and nothing else of ours imports it: it puts modules where they compute.

A placed module is the same object, on the device; its forward runs under autocast and hands out float32,
so that a loss outside of autocast is exact enough. In float32 there is nothing to wrap, and accelerate,
whose import would be a fifteenth of the time to the first step, stays out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

import torch
from torch import nn

from crown_exp.config.settings import environment_kept
from crown_exp.devices.base import Choice
from crown_exp.errors import ConfigError, TaskError

if TYPE_CHECKING:
    from accelerate import Accelerator  # type: ignore[import-untyped]

M = TypeVar("M", bound=nn.Module)

ELSEWHERE = (
    "ACCELERATE_", "FSDP_", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE",
    "PMI_", "MPI_LOCAL", "OMPI_COMM_", "MV2_COMM_",
)  # fmt: skip
"""How variables begin that would send accelerate elsewhere than where `choose` did."""


class Placement:
    """Puts modules on the device of a Choice, computing in its precision."""

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self.device = torch.device(choice.device)
        self.mixed = choice.precision in ("bf16", "fp16")
        self.wrapped: WeakSet[nn.Module] = WeakSet()

    def place(self, module: M, compile: bool = False) -> M:
        """The module itself: on the device, in the precision, compiled if told. Twice does what once does.

        Names in its state_dict stay; a deep copy (an average of weights) computes with its own weights.
        Tensors in dicts, lists and tuples come out as float32; those in other objects come out as computed.
        Raises ConfigError if accelerate would compute elsewhere than the Choice says, and TaskError for a
        ScriptModule that is to be compiled.
        """
        module.to(self.device)
        if self.mixed and module not in self.wrapped:
            self._wrap(module)
        if compile and module._compiled_call_impl is None:
            refuse_script(module)
            module.compile()
        return module

    def _wrap(self, module: nn.Module) -> None:
        """Let accelerate wrap the forward; it knows no other device or precision of an earlier run."""
        unwrap(module)  # of an earlier placement
        unbind(module)
        with borrowed(self.choice) as accelerator:
            accelerator.prepare_model(module)
        self.wrapped.add(module)

    def close(self) -> None:
        """Give every module its own forward back; the process keeps nothing of the placement."""
        for module in list(self.wrapped):
            unwrap(module)
        self.wrapped.clear()


@contextmanager
def borrowed(choice: Choice) -> Iterator[Accelerator]:
    """An Accelerator for a choice, and the process as if there had been none before and none after.

    Its state is a global of the process: of one precision, for good, unless it is put back.
    """
    from accelerate import Accelerator
    from accelerate.state import (  # type: ignore[import-untyped]
        AcceleratorState,
        GradientState,
        PartialState,
    )

    states = [kind._shared_state for kind in (AcceleratorState, PartialState, GradientState)]
    before = [dict(state) for state in states]
    with environment_kept() as environment:
        for name in [name for name in environment if name.startswith(ELSEWHERE)]:
            del environment[name]
        for state in states:
            state.clear()
        try:
            accelerator = Accelerator(mixed_precision=choice.precision, cpu=choice.device == "cpu")
            if accelerator.device.type != choice.device:
                raise ConfigError.of(
                    "device", f"{choice.device} was chosen, but accelerate would compute on "
                    f"{accelerator.device.type}; expected device={accelerator.device.type}",
                )  # fmt: skip
            yield accelerator
        finally:
            for state, was in zip(states, before, strict=True):
                state.clear()
                state.update(was)


def refuse_script(module: nn.Module) -> None:
    """Raises TaskError for what torch.jit compiled already."""
    if isinstance(module, torch.jit.ScriptModule):
        raise TaskError(
            f"{type(module).__name__}: torch.compile takes no ScriptModule; "
            "build it without torch.jit, or say device.compile=false"
        )


def unbind(module: nn.Module) -> None:
    """A forward that is another object's method stays that: accelerate would bind it to the module."""
    forward = vars(module).get("forward")
    if isinstance(forward, MethodType) and forward.__self__ is not module:

        def call(*args: Any, **kwargs: Any) -> Any:
            return forward(*args, **kwargs)

        module.forward = call


def unwrap(module: nn.Module) -> None:
    """Take accelerate's wrapping off, wherever it comes from; a copy of a placed module carries it too."""
    own = vars(module)
    if own.pop("_is_accelerate_prepared", False):
        original = own.pop("_original_forward", None)
        own.pop("forward", None)
        if original is not None and original != module.forward:  # the instance had one of its own
            module.forward = original
