"""How catalogues are fetched, of which there is no need."""

import requests

__all__ = ["is_catalog_modified", "requests"]


def is_catalog_modified(path: str) -> bool:
    return False
