"""Which values outside of any function the turns of a run change: of modules, of classes, of functions."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from crown_exp.runner.post_mortem import is_own

PLAIN = (bool, int, float, complex, str, bytes, bytearray, type(None))
CONTAINERS = (list, tuple, dict, set, frozenset)
LONGEST = 100_000
"""Letters of a container's repr that are looked at."""


class Globals:
    """The values in the project's own modules, as they were when this was made."""

    def __init__(self, root: Path) -> None:
        self.modules = own_modules(root)
        self.before = self.values()

    @property
    def files(self) -> list[str]:
        """The modules' files."""
        return sorted({str(module.__file__) for module in self.modules})

    def values(self) -> dict[str, str]:
        """A fingerprint of each value, by `tasks.SEEN`, `tasks.Counter.count`, `tasks.step.calls`."""
        found = {}
        for module in self.modules:
            for path, value in named(module):
                if print_ := fingerprint(value):
                    found[path] = print_
        return found

    def changed(self) -> list[str]:
        """The names whose values are others by now."""
        now = self.values()
        return [path for path, value in now.items() if self.before.get(path) != value]


def own_modules(root: Path) -> list[ModuleType]:
    """The modules of the user's own that are imported, from below the project's root."""
    bases = tuple(f"{base}/" for base in {root.absolute(), root.resolve()})
    return [
        module for module in list(sys.modules.values())
        if (file := getattr(module, "__file__", None)) and file.startswith(bases) and is_own(file)
    ]  # fmt: skip


def named(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """What a module holds, and what its own classes and functions hold."""
    for name, value in list(vars(module).items()):
        path = f"{module.__name__}.{name}"
        if name.startswith("__"):
            continue
        if isinstance(value, type) and value.__module__ == module.__name__:
            yield from (
                (f"{path}.{key}", it) for key, it in list(vars(value).items()) if key[:2] != "__"
            )
        elif isinstance(value, FunctionType) and value.__module__ == module.__name__:
            yield from ((f"{path}.{key}", it) for key, it in list(vars(value).items()))
            yield f"{path}() defaults", value.__defaults__
        elif hasattr(value, "cache_info") and callable(value.cache_info):
            yield f"{path}() cache", value.cache_info().currsize
        elif type(value).__module__ == module.__name__ and hasattr(value, "__dict__"):
            yield from ((f"{path}.{key}", it) for key, it in list(vars(value).items()))
        else:
            yield path, value


def fingerprint(value: Any) -> str:
    """What two equal values have in common; "" for a value that is not looked into."""
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if isinstance(value, PLAIN):
        return repr(value)
    if isinstance(value, CONTAINERS) or type(value).__name__ in ("deque", "Counter", "defaultdict"):
        return sha256(repr(value)[:LONGEST].encode()).hexdigest()
    if isinstance(value, random.Random):
        return sha256(repr(value.getstate()).encode()).hexdigest()
    if torch is not None and isinstance(value, torch.Tensor):
        return f"tensor {value._version} {tuple(value.shape)}"
    if torch is not None and isinstance(value, torch.Generator):
        return sha256(value.get_state().numpy().tobytes()).hexdigest()
    if numpy is not None and isinstance(value, numpy.ndarray):
        return sha256(value.tobytes()).hexdigest() if value.dtype.kind != "O" else ""
    if numpy is not None and isinstance(value, numpy.random.Generator):
        return repr(value.bit_generator.state)
    return ""
