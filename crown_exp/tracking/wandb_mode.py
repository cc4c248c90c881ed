"""Whether W&B is online, offline or disabled, and the environment of its process. Imports no wandb."""

from __future__ import annotations

import netrc
from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from crown_exp.errors import SettingsError

Mode = Literal["online", "offline", "disabled"]
MODES: dict[str, Mode] = {
    "online": "online", "offline": "offline", "disabled": "disabled", "run": "online", "dryrun": "offline",
}  # fmt: skip
"""What WANDB_MODE may say, and what it means."""


def chosen_mode(mode: str, known: Mapping[str, str]) -> Mode:
    """What `auto` comes to. known: the environment and .env. Raises SettingsError for a strange WANDB_MODE."""
    if mode == "auto" and (given := known.get("WANDB_MODE")):
        if given not in MODES:
            expected = "expected online, offline or disabled"
            raise SettingsError(f"WANDB_MODE: {expected}, got {given!r}")
        return MODES[given]
    if mode == "auto":
        return "online" if has_key(known) else "offline"
    return MODES[mode]


def has_key(known: Mapping[str, str]) -> bool:
    """Whether W&B would find a key: in the environment, .env, or the netrc file of `wandb login`."""
    return bool(known.get("WANDB_IDENTITY_TOKEN_FILE") or key_of(known))


def key_of(known: Mapping[str, str]) -> str:
    """The key that W&B would find, as `has_key`; "" if there is none."""
    if key := known.get("WANDB_API_KEY"):
        return key
    host = urlsplit(known.get("WANDB_BASE_URL") or "https://api.wandb.ai").netloc
    given = known.get("NETRC")
    for path in [Path(given)] if given else [Path("~/.netrc"), Path("~/_netrc")]:
        try:
            found = netrc.netrc(path.expanduser()).authenticators(host)
        except (OSError, netrc.NetrcParseError, RuntimeError):
            continue
        if found and found[2]:
            return found[2]
    return ""


def environment(known: Mapping[str, str], home: Path) -> dict[str, str]:
    """The environment of W&B's process: what it writes beside its runs stays in `home`.

    WANDB_SERVICE would lead it to the process of another wandb, which is not ours to load or to end.
    """
    ours = {
        "WANDB_CACHE_DIR": str(home / "cache"),
        "WANDB_DATA_DIR": str(home / "data"),
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_SILENT": "true",
    }
    return {**ours, **{name: value for name, value in known.items() if name != "WANDB_SERVICE"}}
