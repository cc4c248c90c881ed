"""Building a module so that its weights are in memory once: where they will be used, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from crown_exp.devices.weights import copy_mapped, open_weights
from crown_exp.errors import TaskError

T = TypeVar("T")

FILLS = {
    "normal_", "uniform_", "zero_", "zeros_", "fill_", "ones_", "constant_", "kaiming_uniform_",
}  # fmt: skip
"""What gives a parameter its first values: methods of tensors, and those of torch.nn.init that can be told."""

TRUNC_NORMAL = "_no_grad_trunc_normal_"
SKIPPING: ContextVar[bool] = ContextVar("skipping", default=False)
DATA = torch.Tensor.data.__get__  # type: ignore[attr-defined]

SHOWN = 3


def build_on(make: Callable[[], T], device: torch.device, weights: Path | None = None) -> T:
    """What `make` makes, on a device; a module gets its weights from a file, if there is one.

    Without one, parameters are made on the device, and what is made elsewhere is moved. With one, they are
    made without first values and filled straight from the file, in the dtypes of the module.
    Raises TaskError for a file that is none or is not this module's: every name of the one is in the other.
    """
    if weights is not None:
        made = empty(make, device)
        if not isinstance(made, nn.Module):
            raise TaskError(f"weights={weights}: {type(made).__name__} is no module to fill")
        fill(made, Path(weights))
        return made
    with device:
        made = make()
    return made.to(device) if isinstance(made, nn.Module) else made


def empty(make: Callable[[], T], device: torch.device) -> T:
    """What `make` makes, on a device, with parameters that hold nothing yet: whoever calls fills them all.

    Buffers are as they should be. If `make` drew any other random number than first values of parameters
    (a buffer of random features), it is called again without a short cut: the numbers depend on what was
    drawn before them.
    """
    before = random_state(device)
    with device, no_first_values():
        made = make()
    if not torch.equal(random_state(device), before):
        del made
        set_random_state(device, before)
        with device:
            made = make()
    return made.to(device) if isinstance(made, nn.Module) else made


@contextmanager
def no_first_values() -> Iterator[None]:
    """Inside, in this thread, what fills a parameter (or its `data`) as a whole does nothing."""
    drawn: Any = getattr(nn.init, TRUNC_NORMAL, None)

    def trunc_normal(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        # Draws until all is within its bounds, which of memory that holds anything may never come.
        return tensor if SKIPPING.get() and is_parameter(tensor) else drawn(tensor, *args, **kwargs)

    token = SKIPPING.set(True)
    setattr(nn.init, TRUNC_NORMAL, trunc_normal)
    try:
        with FillsOfParameters():
            yield
    finally:
        setattr(nn.init, TRUNC_NORMAL, drawn)
        SKIPPING.reset(token)


class FillsOfParameters(TorchFunctionMode):
    """Leaves them out, of all that torch is asked to do."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Called for every function of torch, with its arguments."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in FILLS and is_parameter(target := args[0] if args else kwargs.get("tensor")):
            return target
        made = func(*args, **kwargs)
        if name == "__get__" and func == DATA and isinstance(args[0], nn.Parameter):
            made.is_parameters_data = True
        return made


def is_parameter(tensor: Any) -> bool:
    """Whether it is one, or the `data` of one."""
    return isinstance(tensor, nn.Parameter) or hasattr(tensor, "is_parameters_data")


def random_state(device: torch.device) -> Tensor:
    """The states of the generators that building draws from: the CPU's, and the device's own."""
    cpu = torch.get_rng_state()
    if device.type == "cpu":
        return cpu
    own: Tensor = getattr(torch, device.type).get_rng_state()
    return torch.cat([cpu, own])


def set_random_state(device: torch.device, state: Tensor) -> None:
    """Go back to a state that `random_state` told."""
    size = torch.get_rng_state().numel()
    torch.set_rng_state(state[:size])
    if device.type != "cpu":
        getattr(torch, device.type).set_rng_state(state[size:])


# --- filling from a file ----------------------------------------------------------------------------------


@torch.no_grad()
def fill(module: nn.Module, path: Path) -> None:
    """Copy every tensor of a file into the module's of that name. Raises TaskError if they do not match."""
    places, views = named(module), open_weights(path)
    refuse_strangers(places, views, path)
    refuse_misfits(places, views, path)
    for name, view in views.items():
        copy_mapped(view, places[name])


def named(module: nn.Module) -> dict[str, Tensor]:
    """The tensors of a module's state_dict, themselves; tied ones under each of their names."""
    places = dict(module.state_dict(keep_vars=True))
    kind = type(module).__name__
    if odd := [name for name, value in places.items() if not isinstance(value, Tensor)]:
        raise TaskError(f"{kind} keeps more than tensors ({odd[0]}); use its load_state_dict")
    if lazy := [name for name, value in places.items() if is_lazy(value)]:
        raise TaskError(f"{kind} does not know the shape of {lazy[0]} before its first batch")
    listed = {id(value) for value in places.values()}
    if odd := [name for name, value in module.named_parameters() if id(value) not in listed]:
        raise TaskError(f"{kind} leaves {odd[0]} out of its state_dict; use its load_state_dict")
    return places


def refuse_strangers(places: Mapping[str, Tensor], views: Mapping[str, Tensor], path: Path) -> None:
    """Raises TaskError for names that only one side has; of tied tensors one name is enough."""
    given = {id(places[name]) for name in views if name in places}
    missing = [
        name for name, place in places.items() if name not in views and id(place) not in given
    ]
    unknown = [name for name in views if name not in places]
    if not (missing or unknown):
        return
    said = [f"has no {few(missing)}"] if missing else []
    said += [f"has {few(unknown)}, which the module has not"] if unknown else []
    raise TaskError(f"weights={path}: {'; '.join(said)}{prefix_hint(missing, unknown)}")


def refuse_misfits(places: Mapping[str, Tensor], views: Mapping[str, Tensor], path: Path) -> None:
    """Raises TaskError for tensors that cannot be copied; one kind of real number is cast to another."""
    misfits = [
        f"{name} is {form(view)}, the module's {form(places[name])}"
        for name, view in views.items()
        if view.shape != places[name].shape or kind_of(view) != kind_of(places[name])
    ]
    if misfits:
        more = f" and {len(misfits) - SHOWN} more" if len(misfits) > SHOWN else ""
        raise TaskError(f"weights={path}: {'; '.join(misfits[:SHOWN])}{more}")


def kind_of(tensor: Tensor) -> Any:
    """Real, complex, or the very type of whole numbers and others."""
    return (
        (tensor.is_complex() and "complex")
        or (tensor.is_floating_point() and "real")
        or tensor.dtype
    )


def form(tensor: Tensor) -> str:
    """Such as `float32 [3, 4]`."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def few(names: list[str]) -> str:
    """The first of them, and how many more."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"


def prefix_hint(missing: list[str], unknown: list[str]) -> str:
    """What to do if one side's names are the other's with something before them."""
    if not (missing and unknown):
        return ""
    ours, theirs = missing[0], unknown[0]
    if longer := [name for name in unknown if name.endswith(f".{ours}")]:
        prefix = longer[0].removesuffix(ours)
        return f"; its names begin with {prefix}: save the state_dict of the module inside"
    if longer := [name for name in missing if name.endswith(f".{theirs}")]:
        prefix = longer[0].removesuffix(theirs)
        return f"; the module's names begin with {prefix}: fill the module inside"
    return ""
