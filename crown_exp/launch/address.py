"""Which run was typed: an id in the project's store, or the URL of a run's folder, whose store is another."""

from __future__ import annotations

from dataclasses import dataclass

from crown_exp.errors import ConfigError, SettingsError
from crown_exp.folder.paths import is_id
from crown_exp.folder.urls import HOLDS_CREDENTIALS, RUN_FOLDER, holds_credentials
from crown_exp.storage import open_blobs

EXPECTED = "expected an id, or the folder of a run: <store>/runs/<id>"


@dataclass(frozen=True, slots=True)
class Address:
    """A run as it was typed.

    store: of the folder that was typed; None for an id, its beginning or `latest`, which the project's store
    is asked about. step: what stood behind the `@`; None without one.
    """

    store: str | None
    run: str
    step: str | None = None


def address(typed: str, *, steps: bool = False) -> Address:
    """Read RUN, or `<store>/runs/<id>`; with steps also RUN@STEP.

    Raises ConfigError for any other path, and for a store that there cannot be.
    """
    if holds_credentials(typed):
        raise ConfigError.of("the run's URL", HOLDS_CREDENTIALS)
    run, step = parted(typed) if steps else (typed, None)
    if "/" not in run:
        return Address(None, run, step)
    match = RUN_FOLDER.fullmatch(run)
    if match is None or not is_id(match[2]):
        raise ConfigError.of(typed, EXPECTED)
    if match[1].lower().startswith("memory:"):
        raise ConfigError.of(typed, "what is in memory is gone with the process that held it")
    try:
        open_blobs(match[1])
    except SettingsError as error:
        why = str(error).removeprefix("CROWN_STORAGE__ROOT: ")
        raise ConfigError.of(f"…/runs/{match[2]}", why) from None
    return Address(match[1], match[2], step)


def parted(typed: str) -> tuple[str, str | None]:
    """RUN@STEP as its two parts; an `@` in the middle of a URL is part of that."""
    run, at, step = typed.rpartition("@")
    return (run, step) if at and "/" not in step else (typed, None)
