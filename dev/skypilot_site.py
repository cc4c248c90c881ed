"""`sitecustomize` of SkyPilot's API server on a machine without internet, put there by dev/skypilot.sh.

Before SkyPilot believes that a machine is gone it asks 8.8.8.8 and 1.1.1.1 whether its own network is up.
This points that question at $CROWN_SKY_NETWORK_CHECK; nothing else is changed.
"""

import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Sequence
from types import ModuleType

ASKS = "sky.backends.backend_utils"


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != ASKS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            module._TEST_IP_LIST = [os.environ["CROWN_SKY_NETWORK_CHECK"]]  # type: ignore[attr-defined]

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if os.environ.get("CROWN_SKY_NETWORK_CHECK"):
    sys.meta_path.insert(0, _Finder())
