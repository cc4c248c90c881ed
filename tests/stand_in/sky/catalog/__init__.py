"""The names of accelerators that are sold."""

from typing import Any

from ..market import CATALOGUE  # noqa: TID252 - the package has two names


def list_accelerators(clouds: str, require_price: bool = True) -> dict[str, Any]:
    return {it.accelerator: it for it in CATALOGUE if it.cloud == clouds and it.accelerator}
