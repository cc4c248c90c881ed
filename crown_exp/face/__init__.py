"""crown_exp from Python: what the command line does, as functions with values.

To look at runs needs no Hydra, to start one no database: the names are imported when they are first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crown_exp.face.curves import Curve
    from crown_exp.face.files import Files, RunFile
    from crown_exp.face.listing import RunList, runs
    from crown_exp.face.recorded import RecordedRun, RunCode, open
    from crown_exp.face.starting import Started, checked, compose, start

__all__ = [
    "Curve", "Files", "RecordedRun", "RunCode", "RunFile", "RunList", "Started", "checked", "compose",
    "open", "runs", "start",
]  # fmt: skip

_HOMES = {
    "curves": ("Curve",),
    "files": ("Files", "RunFile"),
    "listing": ("RunList", "runs"),
    "recorded": ("RecordedRun", "RunCode", "open"),
    "starting": ("Started", "checked", "compose", "start"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            from importlib import import_module

            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
