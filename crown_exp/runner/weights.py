"""What of modules and optimizers is no part of their state_dict, and decides what the next turn computes."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


def module_of(value: Any) -> Any:
    """The value, if it is a module; None else."""
    torch = sys.modules.get("torch")
    return value if torch is not None and isinstance(value, torch.nn.Module) else None


def is_lazy(tensor: Any) -> bool:
    """Whether a tensor takes its shape from the first batch, or from what is loaded."""
    return bool(sys.modules["torch"].nn.parameter.is_lazy(tensor))


@dataclass
class Modules:
    """The tracked modules, by name.

    made: the version of each buffer that a module does not keep, when it was tracked: torch counts how often
    one is changed in place.
    """

    by_name: dict[str, Any] = field(default_factory=dict)
    made: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)

    def add(self, name: str, module: Any) -> None:
        """A module is tracked."""
        self.by_name[name] = module
        self.made[name] = {path: version(buffer) for path, buffer in not_kept(module)}

    def is_lazy(self, name: str) -> bool:
        """Whether a weight takes its shape from the first batch."""
        module = self.by_name.get(name)
        return module is not None and any(map(is_lazy, module.parameters()))

    def state(self) -> dict[str, Any]:
        """Of each: parts that evaluate, weights that are not trained, buffers that are not kept but changed."""
        return {
            name: {
                "evaluating": [path for path, part in module.named_modules() if not part.training],
                "untrained": [
                    path for path, weight in module.named_parameters() if not weight.requires_grad
                ],
                "buffers": {
                    path: buffer
                    for path, buffer in not_kept(module)
                    if self.made[name].get(path) != version(buffer)
                },
            }
            for name, module in self.by_name.items()
        }

    def put_back(self, saved: Mapping[str, Any]) -> None:
        """As they were. A buffer that is not there any more is passed over."""
        torch = sys.modules.get("torch")
        for name, found in saved.items():
            if torch is None or name not in self.by_name:
                continue
            module = self.by_name[name]
            for path, part in module.named_modules():
                part.training = path not in found["evaluating"]
            for path, weight in module.named_parameters():
                weight.requires_grad_(path not in found["untrained"])
            buffers = dict(not_kept(module))
            with torch.no_grad():
                for path, value in found["buffers"].items():
                    if path in buffers and buffers[path].shape == value.shape:
                        buffers[path].copy_(value)


def not_kept(module: Any) -> Iterator[tuple[str, Any]]:
    """The buffers of a module, and of its parts, that are not in its state_dict."""
    for path, part in module.named_modules():
        for name in part._non_persistent_buffers_set:
            buffer = part._buffers.get(name)
            if buffer is not None:
                yield f"{path}.{name}" if path else name, buffer


def version(buffer: Any) -> tuple[int, int]:
    """What tells whether a tensor was replaced, or changed in place."""
    return buffer.data_ptr(), buffer._version


# --- gradients ------------------------------------------------------------------------------------------


def weights_in(value: Any, deep: bool = True) -> Iterator[tuple[str, Any]]:
    """The weights of a module, of an optimizer, or of an object that holds such, each with a path."""
    if hasattr(value, "named_parameters"):
        yield from value.named_parameters()
    elif hasattr(value, "param_groups"):
        for group, found in enumerate(value.param_groups):
            for number, weight in enumerate(found["params"]):
                yield f"{group}.{number}", weight
    elif deep and hasattr(value, "__dict__"):
        for name, part in vars(value).items():
            for path, weight in weights_in(part, deep=False):
                yield f"{name}.{path}", weight


def gradients(tracked: Mapping[str, Any]) -> dict[str, Any]:
    """The gradients that wait for an update, by name and path; none after `run.update`."""
    seen: set[int] = set()
    found: dict[str, Any] = {}
    for name, value in tracked.items():
        for path, weight in weights_in(value):
            if weight.grad is not None and id(weight) not in seen:
                found.setdefault(name, {})[path] = dense(weight.grad)
            seen.add(id(weight))
    return found


def dense(gradient: Any) -> Any:
    """A gradient as it can be stored."""
    if not gradient.is_sparse:
        return gradient
    return {  # not coalesced: another order of additions would round otherwise
        "indices": gradient._indices(),
        "values": gradient._values(),
        "shape": list(gradient.shape),
        "coalesced": gradient.is_coalesced(),
    }


def put_gradients(tracked: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    """The gradients as they were: what the code before the loop has left is gone."""
    seen: set[int] = set()
    for name, value in tracked.items():
        for path, weight in weights_in(value):
            if id(weight) not in seen:
                weight.grad = given_back(saved.get(name, {}).get(path), weight.device)
            seen.add(id(weight))


def given_back(saved: Any, device: Any) -> Any:
    """The inverse of `dense`, on a device; shares nothing with what was saved."""
    if saved is None or not isinstance(saved, Mapping):
        return None if saved is None else saved.to(device, copy=True)
    torch = sys.modules["torch"]
    return torch.sparse_coo_tensor(
        saved["indices"].clone(), saved["values"].clone(), saved["shape"], device=device,
        is_coalesced=saved["coalesced"], check_invariants=True,
    )  # fmt: skip


# --- optimizers -----------------------------------------------------------------------------------------


def keep_dtypes(optimizer: Any, saved: Mapping[str, Any]) -> None:
    """Undo what torch's load_state_dict does to a state of another dtype than its weight's: it casts it."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(optimizer, torch.optim.Optimizer):
        return
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    numbers = [number for group in saved["param_groups"] for number in group["params"]]
    for number, weight in zip(numbers, weights, strict=True):
        state = optimizer.state.get(weight, {})
        for key, value in saved["state"].get(number, {}).items():
            loaded = state.get(key)
            if torch.is_tensor(value) and torch.is_tensor(loaded) and loaded.dtype != value.dtype:
                state[key] = value.to(loaded.device, copy=True)
