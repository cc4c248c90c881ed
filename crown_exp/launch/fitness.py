"""Whether this machine can do what a config asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crown_exp.config.settings import compiler, rank_environment
from crown_exp.errors import ConfigError, Problem
from crown_exp.storage import BlobStore


def unfit(config: Mapping[str, Any]) -> list[Problem]:
    """What this machine cannot do of a config's `device`. Torch is asked only if need be."""
    device = config["device"]
    processes = rank_environment().world
    if is_plain(device) and processes == 1:
        return []  # every machine can
    from crown_exp.devices import choose
    from crown_exp.devices.probe import TorchProbe

    try:
        choose(device, TorchProbe(compiler()), processes)
    except ConfigError as error:
        return list(error.problems)
    return []


def is_plain(device: Mapping[str, Any]) -> bool:
    """Whether it asks for nothing that a machine may lack."""
    kind, precision, compiled = device["kind"], device["precision"], device["compile"]
    return kind in ("auto", "cpu") and precision in ("auto", "fp32") and compiled is not True


def is_lost(blobs: BlobStore) -> bool:
    """Whether a store is gone with this process, and no other can see it."""
    return blobs.url.startswith("memory:")


def approve_shared(blobs: BlobStore) -> None:
    """Raises ConfigError for a store that the processes of a sweep's runs cannot see."""
    if is_lost(blobs):
        what = "only this process sees it, and each run of a sweep has its own: name a directory"
        raise ConfigError.of(f"the store {blobs.url}", what, "CROWN_STORAGE__ROOT")
