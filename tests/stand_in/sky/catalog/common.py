"""How catalogues are fetched, of which there is no need."""

import requests

from ..edge import folder  # noqa: TID252 - the package has two names
from ..market import CATALOGUE  # noqa: TID252

__all__ = ["get_catalog_path", "is_catalog_modified", "requests"]


def get_catalog_path(filename: str) -> str:
    """Of what `market` sells; the file tells that there is a catalogue, and has nothing in it."""
    for cloud in {line.cloud for line in CATALOGUE}:
        path = folder() / "catalogs" / cloud / "vms.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return str(folder() / "catalogs" / filename)


def is_catalog_modified(path: str) -> bool:
    return False
