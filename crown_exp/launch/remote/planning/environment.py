"""What a job finds in its environment: settings and secrets by name, never the whole of ours."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from crown_exp.compute.money import HOUR
from crown_exp.config.settings import variables
from crown_exp.errors import SettingsError, StoreError
from crown_exp.storage.aws import NoCredentials, way_to_s3
from crown_exp.tracking.wandb_mode import MODES, key_of

if TYPE_CHECKING:
    from crown_exp.compute.base import Target
    from crown_exp.launch.remote.base import Planned
    from crown_exp.launch.session import Session

OURS = ("CROWN_STORAGE__ENDPOINT", "CROWN_STORAGE__REGION", "CROWN_STORAGE__DEADLINE")
THEIRS = (
    "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION",
    "WANDB_MODE", "WANDB_ENTITY", "WANDB_PROJECT", "WANDB_BASE_URL",
)  # fmt: skip
"""Settings that hold for a job as they do here. What they say of this machine alone (its home, its SkyPilot,
its cloud's notices) does not travel: CROWN_NOTICES__CLOUD=none of a laptop would hide a preemption."""

FILES = ("AWS_CA_BUNDLE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "AWS_PROFILE")
"""Settings that name files of this machine, or what is in them."""

OUR_KEYS = ("CROWN_STORAGE__ACCESS_KEY_ID", "CROWN_STORAGE__SECRET_ACCESS_KEY")
AWS_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
WANDB_KEY = "WANDB_API_KEY"


def travelling_env(session: Session, target: Target) -> dict[str, str]:
    """What a job of this target needs to reach the store, without secrets; what `compute.env` sets is left out.

    Raises SettingsError for a .env that cannot be read, and for a profile that is not there.
    """
    known = variables(session.project)
    found = chosen(known, (*OURS, *THEIRS))
    if session.blobs.url.startswith("s3://"):
        way = way_to_s3(session.settings.storage.access)
        profiles = {"CROWN_STORAGE__ENDPOINT": way.endpoint, "CROWN_STORAGE__REGION": way.region}
        found |= {name: value for name, value in profiles.items() if value}
    if target.shared:
        found |= aws_files() | chosen(known, FILES)
    found["CROWN_STORAGE__ROOT"] = session.blobs.url
    return {name: value for name, value in found.items() if name not in target.env}


def uses_wandb(config: Mapping[str, Any]) -> bool:
    """Whether a config's tracker speaks to W&B: ours, or one of the user's whose class or module says so."""
    return "wandb" in str(config["tracker"].get("_target_") or "").lower()


def keyless_wandb(session: Session, runs: Iterable[Planned]) -> str:
    """A warning that jobs of these runs are to send to W&B and will have no key for it, or "".

    Not where it was said that they send nothing: tracker.mode, or WANDB_MODE, is offline or disabled.
    """
    known = variables(session.project)
    if not any(_is_keyless(run, known) for run in runs):
        return ""
    return (
        "no W&B key is here to travel, so the job writes for W&B offline, if at all: set WANDB_API_KEY, or "
        "type wandb login; crown-exp push --wandb sends it later; tracker.mode=offline says that it is meant"
    )


def _is_keyless(run: Planned, known: Mapping[str, str]) -> bool:
    config, env = run.order.composition.config, {**run.target.env, **run.env}
    if not uses_wandb(config) or env.get(WANDB_KEY, key_of(known)):
        return False
    mode = str(config["tracker"].get("mode", "auto"))
    if mode == "auto":
        mode = env.get("WANDB_MODE") or known.get("WANDB_MODE") or mode
    return MODES.get(mode, "online") == "online"


def travelling_secrets(session: Session, target: Target, *, wandb: bool) -> dict[str, str]:
    """The secrets that a job of this target needs: those of `compute.secrets`, and keys for what it writes to.

    wandb: whether W&B's key is one.

    A key that the environment does not hold but AWS's files or `wandb login` do is looked up; what the machine
    itself is given (a role) stays its own, and machines that see our files read those of AWS by themselves.
    They are to be handed to an executor, and written nowhere. Raises SettingsError as `travelling_env`, and for
    a profile that gives no keys; StoreError for one that may give them later.
    """
    known = variables(session.project)
    found = chosen(known, target.secrets)
    key = key_of(known) if wandb else ""
    found |= {WANDB_KEY: key} if key else {}
    if session.blobs.url.startswith("s3://"):
        found |= store_keys(known, session.settings.storage.access, of_files=not target.shared)
    return {name: value for name, value in found.items() if name not in target.env}


def lent_keys(session: Session, runs: Iterable[Planned]) -> str:
    """A warning of the store's keys that travel with jobs of these runs and may end before they do, or "".

    Who gives the keys is asked when they end, as when the store itself is used; no answer is no error.
    """
    if not session.blobs.url.startswith("s3://"):
        return ""
    known, way = variables(session.project), way_to_s3(session.settings.storage.access)
    in_files = not chosen(known, AWS_KEYS)
    runs = [
        run
        for run in runs
        if not (in_files and run.target.shared) and not set(AWS_KEYS) <= run.target.env.keys()
    ]
    if way.expiry is None or not runs:
        return ""
    try:
        end = way.expiry()
    except (NoCredentials, OSError):
        end = None
    if end is not None and all(_ends_before(run, end, session.clock.now()) for run in runs):
        return ""
    when = (
        f"end {end.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        if end
        else "end at a time that nobody tells"
    )
    return (
        f"the store's keys that travel are lent ones and {when}: a job that lives longer cannot save; set "
        "CROWN_STORAGE__ACCESS_KEY_ID and CROWN_STORAGE__SECRET_ACCESS_KEY to keys that last, or, where "
        f"machines have a role that may write there, {', '.join(AWS_KEYS)} to '' in compute.env"
    )


def _ends_before(run: Planned, moment: datetime, now: datetime) -> bool:
    """Whether a run is expected to be over then, even if it waits for its machine as long as it may."""
    if run.guess is None or math.isinf(run.target.start_deadline):
        return False
    seconds = run.target.start_deadline + run.guess.hours * HOUR
    return now + timedelta(seconds=seconds) < moment


def store_keys(
    known: Mapping[str, str], access: Mapping[str, str], *, of_files: bool = True
) -> dict[str, str]:
    """The keys of an S3 store: as they are set, else those of the profile, as they are now; {} if none is."""
    for names in (OUR_KEYS, AWS_KEYS):
        if given := chosen(known, names):
            return given
    way = way_to_s3(access)
    if way.credentials is None or not of_files:
        return {}
    try:
        keys = way.credentials()
    except NoCredentials as error:
        raise SettingsError(f"the store's keys for jobs elsewhere: {error}") from None
    except OSError as error:
        raise StoreError(f"the store's keys for jobs elsewhere: {error}") from None
    values = (keys["access_key_id"], keys["secret_access_key"], keys["token"])
    return {name: value for name, value in zip(AWS_KEYS, values, strict=True) if value}


def aws_files() -> dict[str, str]:
    """Where AWS's files are unless somebody says otherwise: a job may have another home."""
    folder = Path.home() / ".aws"
    return {
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials"),
        "AWS_CONFIG_FILE": str(folder / "config"),
    }


def missing_secrets(session: Session, target: Target) -> list[str]:
    """Names of `compute.secrets` that have no value here."""
    set_here = chosen(variables(session.project), target.secrets)
    return [name for name in target.secrets if name not in set_here]


def chosen(known: Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    """Those of these variables that say something."""
    return {name: value for name in names if (value := known.get(name, "").strip())}


def is_loopback(url: str) -> bool:
    """Whether a URL's host is whatever machine it is read on."""
    from ipaddress import ip_address

    host = (urlsplit(url).hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_unspecified)
