"""The index of what ran: read from the runs' folders, asked by `runs`, `show`, `compare`; never the truth.

What touches the database imports SQLAlchemy, so those names are imported when they are first used.
"""

from typing import TYPE_CHECKING, Any

from crown_exp.registry.base import Condition, Filter, Wanted, check_url, chosen_url, default_url

if TYPE_CHECKING:
    from crown_exp.registry.changes import change_run, delete_run, size_up
    from crown_exp.registry.ingest import ingest_run
    from crown_exp.registry.notes import Change
    from crown_exp.registry.opening import open_registry
    from crown_exp.registry.registry import Registry
    from crown_exp.registry.terms import parse_filter, parse_wanted
    from crown_exp.registry.upkeep import refresh, reindex

__all__ = [
    "Change", "Condition", "Filter", "Registry", "Wanted", "change_run", "check_url", "chosen_url",
    "default_url",
    "delete_run", "ingest_run", "open_registry", "parse_filter", "parse_wanted", "refresh", "reindex",
    "size_up",
]  # fmt: skip

_HOMES = {
    "changes": ("change_run", "delete_run", "size_up"),
    "ingest": ("ingest_run",),
    "notes": ("Change",),
    "opening": ("open_registry",),
    "upkeep": ("refresh", "reindex"),
    "registry": ("Registry",),
    "terms": ("parse_filter", "parse_wanted"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            from importlib import import_module

            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
