"""The device of an attempt: chosen when torch comes into play, which for some tasks is never."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import ExitStack, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

from crown_exp.config.settings import rank_environment
from crown_exp.errors import ConfigError

if TYPE_CHECKING:
    from crown_exp.devices import Choice
    from crown_exp.devices.precision import Precision


class DeviceOnDemand:
    """Chooses once, and then seeds torch and sets its switches; `undo` puts them back.

    wish: the config's `device`. environment: of the process. Ranks are what its launcher says.
    """

    def __init__(
        self,
        wish: Mapping[str, Any],
        seed: int,
        environment: MutableMapping[str, str],
        undo: ExitStack,
    ) -> None:
        self.wish, self.seed, self.environment, self.undo = wish, seed, environment, undo
        self.tell: Callable[[Choice], None] = lambda choice: None
        if (
            sys.platform == "darwin"
        ):  # read when torch is imported; torch warns of each operation it lacks
            environment.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")

    @cached_property
    def precision(self) -> Precision:
        """The device and precision. Raises ConfigError if this machine does not have them."""
        from crown_exp.devices import choose
        from crown_exp.devices.precision import Precision, torch_globals
        from crown_exp.devices.probe import TorchProbe

        choice = choose(self.wish, TorchProbe(self.environment), rank_environment().world)
        if choice.deterministic:  # what cuBLAS needs for it; read when CUDA is first used
            self.environment.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        self.undo.enter_context(torch_globals(choice, self.seed, self.wish["threads"]))
        self.tell(choice)
        precision = Precision(choice)
        self.undo.callback(precision.placement.close)
        return precision

    def on_choice(self, tell: Callable[[Choice], None]) -> None:
        """Call `tell` when the device is chosen: now, or when torch comes into play."""
        self.tell = tell
        if "precision" in self.__dict__:
            tell(self.precision.choice)

    def ask(self) -> Precision:
        """`precision`, as a function that can be handed on."""
        return self.precision

    def torch_came(self) -> None:
        """torch has been imported; a device that is not there is for those who ask for it to tell."""
        with suppress(ConfigError):
            self.ask()

    @property
    def choice(self) -> Choice | None:
        """What was chosen; None if torch has no part in the task so far."""
        return self.precision.choice if "torch" in sys.modules else None

    def numerics(self, parts: int) -> dict[str, Any]:
        """What decides the bits beside the signature, with batches cut so; nothing without torch."""
        choice = self.choice
        if choice is None:
            return {}
        return choice.numerics() | {
            "accumulate": parts,
            "threads": sys.modules["torch"].get_num_threads(),
            "ranks": 1,
        }

    def versions(self) -> dict[str, str]:
        """torch's version, if it has a part."""
        return {"torch": sys.modules["torch"].__version__} if "torch" in sys.modules else {}
