"""What the environment says. No other module of ours reads it.

Settings come from `CROWN_*` variables, then from the `.env` file in the project's root;
.env.example lists them. What others set (torchrun, SkyPilot, Slurm) is read by the functions below,
which do not import pydantic.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from crown_exp.errors import SettingsError

if TYPE_CHECKING:
    from crown_exp.config.project import Project
    from crown_exp.config.settings_model import Settings

_SECRET_NAMES = ("_API_KEY", "_TOKEN", "_SECRET", "_PASSWORD", "_SECRET_ACCESS_KEY")
_RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
_JOBS = ("CROWN_JOB", "SKYPILOT_TASK_ID", "SLURM_JOB_ID")

_ACCESS = {
    "CROWN_STORAGE__ENDPOINT": "AWS_ENDPOINT_URL_S3",
    "CROWN_STORAGE__REGION": "AWS_REGION",
    "CROWN_STORAGE__ACCESS_KEY_ID": "AWS_ACCESS_KEY_ID",
    "CROWN_STORAGE__SECRET_ACCESS_KEY": "AWS_SECRET_ACCESS_KEY",
    "CROWN_STORAGE__DEADLINE": "DEADLINE",
}
_AWS_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE")

SECRET_LENGTH = 8
"""Shorter values are not taken for secrets: every text would hold them."""


CLOUDS = ("auto", "aws", "gcp", "azure", "none")
"""Whose machine this may be: `auto` is whose its firmware says."""


class Notices(NamedTuple):
    """Where the cloud tells that it is about to take the machine.

    cloud: one of CLOUDS. endpoint: the URL of the metadata server; None: the cloud's own.
    """

    cloud: str = "auto"
    endpoint: str | None = None


class Ranks(NamedTuple):
    """Which process of how many this is.

    rank: 0 <= rank < world, over all machines. local_rank: the same within its machine.
    """

    rank: int = 0
    local_rank: int = 0
    world: int = 1


class Machine(NamedTuple):
    """The machine that a job was given, as SkyPilot and our launcher say it; "" and None if they say nothing.

    cloud, region: in lower case. since: when it began to be paid.
    """

    cloud: str = ""
    region: str = ""
    since: datetime | None = None


def load_settings(project: Project | None, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings of a project, or of the current directory without one.

    The store's root is CROWN_STORAGE__ROOT, else the project's `store`, else `store` in the home.
    Relative paths are relative to the project's root. An empty variable counts as not set.
    Raises SettingsError with a line for each variable that is wrong, or that is not a setting but
    nearly is; secrets are not shown.
    """
    from pydantic import ValidationError

    from crown_exp.config import settings_model

    base = project.root if project else Path.cwd()
    store = project.store if project else None
    found = {name.upper(): value for name, value in variables(project, environ).items()}
    given = {name.upper() for name in environ}
    lines = _typos(found, settings_model.variable_names())
    try:
        settings = settings_model.read(found, base, store)
    except ValidationError as error:
        lines |= settings_model.problems(error)
    if lines:
        raise SettingsError(
            "\n".join(
                f"{_origin(name, found, given, base)}: {line}" for name, line in lines.items()
            )
        )
    return settings


def variables(project: Project | None, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment, and what the `.env` of the project (or the current directory) adds to it.

    Raises SettingsError, with file and line, if that cannot be read.
    """
    base = project.root if project else Path.cwd()
    return {**_env_file(base / ".env"), **environ}


def home_of(project: Project | None, environ: Mapping[str, str] = os.environ) -> Path:
    """CROWN_HOME, absolute: what `load_settings` says of it, for those who need nothing else.

    Raises SettingsError as `variables`.
    """
    given = variables(project, environ).get("CROWN_HOME", "").strip() or ".crown"
    return (project.root if project else Path.cwd()) / Path(given).expanduser()


def database_of(project: Project | None, environ: Mapping[str, str] = os.environ) -> str | None:
    """CROWN_DATABASE__URL as it is given, unchecked, for those who need nothing else; None if it is not.

    Raises SettingsError as `variables`.
    """
    return variables(project, environ).get("CROWN_DATABASE__URL", "").strip() or None


def store_access(
    project: Project | None, environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """How remote stores are reached: the AWS variables, and ours, which win over those.

    Ours have their AWS names: CROWN_STORAGE__ENDPOINT is AWS_ENDPOINT_URL_S3; DEADLINE is
    CROWN_STORAGE__DEADLINE. Unchecked. Raises SettingsError as `variables`.
    """
    return access_in(variables(project, environ))


def access_in(found: Mapping[str, str]) -> dict[str, str]:
    """As `store_access`, from these variables."""
    given = {name: value.strip() for name, value in found.items() if value.strip()}
    access = {name: value for name, value in given.items() if name.startswith("AWS_")}
    if "CROWN_STORAGE__ACCESS_KEY_ID" in given:  # never a key of one with the secret of the other
        access = {name: value for name, value in access.items() if name not in _AWS_KEYS}
    return access | {theirs: given[ours] for ours, theirs in _ACCESS.items() if ours in given}


def notices_of(root: Path, environ: Mapping[str, str] = os.environ) -> Notices:
    """CROWN_NOTICES__CLOUD and CROWN_NOTICES__ENDPOINT, for those who need nothing else.

    root: the project's, whose `.env` counts. Raises SettingsError for what is none, and as `variables`.
    """
    found = {**_env_file(root / ".env"), **environ}
    cloud = found.get("CROWN_NOTICES__CLOUD", "").strip() or "auto"
    endpoint = found.get("CROWN_NOTICES__ENDPOINT", "").strip()
    if cloud not in CLOUDS:
        raise SettingsError(f"CROWN_NOTICES__CLOUD: expected one of {', '.join(CLOUDS)}")
    try:
        return Notices(cloud, metadata_url(endpoint) if endpoint else None)
    except ValueError as error:
        raise SettingsError(f"CROWN_NOTICES__ENDPOINT: {error}") from None


def metadata_url(url: str) -> str:
    """The URL of a metadata server, without a slash at the end. Raises ValueError if it is none."""
    kept = url.rstrip("/")
    match = re.fullmatch(r"http://(\[[^\]\s]+\]|[^/:@\s\[\]]+)(:\d{1,5})?(/\S*)?", kept)
    if match is None or int((match[2] or ":0")[1:]) > 65535:
        raise ValueError("expected a URL as http://169.254.169.254")
    return kept


def wants_colour(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a terminal may be shown colours: it may, unless NO_COLOR is set (https://no-color.org)."""
    return not environ.get("NO_COLOR")


def completion_line(environ: Mapping[str, str] = os.environ) -> str | None:
    """The line that a shell wants completed; None if none asks."""
    return environ.get("COMP_LINE")


def known_secrets(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Name and value of every secret in the environment: what must never leave.

    A secret's name ends in _API_KEY, _TOKEN, _SECRET or _PASSWORD, or is AWS_SECRET_ACCESS_KEY.
    Values under 8 characters and plain words ("postgres") are left out: searching for them would
    accuse every file that holds the word.
    """
    return {
        name: value
        for name, text in environ.items()
        if f"_{name.upper()}".endswith(_SECRET_NAMES)
        and len(value := text.strip()) >= SECRET_LENGTH
        and not _is_word(value)
    }


def rank_environment(environ: Mapping[str, str] = os.environ) -> Ranks:
    """Which process this is, as torchrun and its kind say it; one of one if they say nothing.

    Without LOCAL_RANK (Kubeflow sets none) it is the only process of its machine.
    Raises SettingsError if RANK, LOCAL_RANK and WORLD_SIZE are malformed, incomplete or contradict.
    """
    given = {name: environ[name] for name in _RANKS if environ.get(name)}
    if not given:
        return Ranks()
    given.setdefault("LOCAL_RANK", "0")
    if wrong := [name for name, value in given.items() if not value.isdecimal()]:
        raise SettingsError(f"{wrong[0]}: expected a whole number, got {given[wrong[0]]!r}")
    if missing := [name for name in _RANKS if name not in given]:
        raise SettingsError(
            f"{missing[0]}: is not set, but others of RANK, LOCAL_RANK and WORLD_SIZE are; "
            "torchrun sets them together"
        )
    rank, local_rank, world = (int(given[name]) for name in _RANKS)
    if not local_rank <= rank < world:
        raise SettingsError(
            f"RANK={rank} LOCAL_RANK={local_rank} WORLD_SIZE={world}: "
            "expected LOCAL_RANK <= RANK < WORLD_SIZE"
        )
    return Ranks(rank, local_rank, world)


def compiler(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What names the C++ compiler that torch.compile calls, if anything does."""
    return {name: value for name, value in environ.items() if name == "CXX"}


def executor_job(environ: Mapping[str, str] = os.environ) -> str | None:
    """The id of the job that holds this process, stable over its recoveries; None if none does."""
    return next((environ[name] for name in _JOBS if environ.get(name)), None)


def machine(environ: Mapping[str, str] = os.environ) -> Machine:
    """Where this is (SKYPILOT_CLUSTER_INFO), and since when it is paid (CROWN_MACHINE_SINCE, unix seconds).

    What SkyPilot writes otherwise than expected says nothing. Raises SettingsError for what is no time.
    """
    try:
        told = json.loads(environ.get("SKYPILOT_CLUSTER_INFO") or "{}")
    except (ValueError, RecursionError):
        told = {}
    told = told if isinstance(told, dict) else {}
    cloud, region = (str(told.get(name) or "").lower() for name in ("cloud", "region"))
    given = environ.get("CROWN_MACHINE_SINCE", "").strip()
    try:
        since = datetime.fromtimestamp(float(given), UTC) if given else None
        if since is not None and since.year < 2020:  # decades would be paid, and every cap reached
            raise ValueError
    except (ValueError, OverflowError, OSError):
        raise SettingsError(
            f"CROWN_MACHINE_SINCE: expected seconds since 1970, got {given!r}"
        ) from None
    return Machine(cloud, region, since)


def whole_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What a process is started with that is to find what the user's own commands find."""
    return dict(environ)


def wants_tracebacks(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether errors come with their traceback (HYDRA_FULL_ERROR=1, Hydra's own switch)."""
    return environ.get("HYDRA_FULL_ERROR") == "1"


@contextmanager
def environment_kept(
    environ: MutableMapping[str, str] = os.environ,
) -> Iterator[MutableMapping[str, str]]:
    """The environment, to be changed inside; at the end every change, whoever made it, is undone."""
    before = dict(environ)
    try:
        yield environ
    finally:
        for name in environ.keys() - before.keys():
            del environ[name]
        environ.update({name: was for name, was in before.items() if environ.get(name) != was})


def with_variables(
    own: Mapping[str, str], environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """The environment of a process that is started with variables of its own."""
    return {**environ, **own}


def git_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment for a git that only reads and finds the repository by its directory.

    What a hook sets (GIT_DIR, GIT_INDEX_FILE, …) would send it elsewhere; messages are in English.
    """
    kept = {
        name: value
        for name, value in environ.items()
        if not name.startswith("GIT_") or name.startswith(("GIT_CONFIG", "GIT_CEILING"))
    }
    return {**kept, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}


def _typos(found: Mapping[str, str], known: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """What to say about each variable that is not a setting but nearly is.

    A name that is near to none is left alone: other tools have CROWN_ variables too.
    """
    from crown_exp.config.nearest import nearest

    sections = {place[0].upper(): name for name, place in reversed(list(known.items()))}
    meant = {**sections, **{name.removeprefix("CROWN_"): name for name in known}}
    lines: dict[str, str] = {}
    for name in found:
        if name.startswith("CROWN_") and name not in known:
            near = nearest(name.removeprefix("CROWN_"), meant, limit=1)
            lines |= {name: f"is not a setting; did you mean {meant[near[0]]}?"} if near else {}
    return lines


def _origin(name: str, found: Mapping[str, str], given: set[str], base: Path) -> str:
    """The variable, and the file in which it stands if it does not come from the environment."""
    if name in given:
        return name
    if name in found:
        return f"{name} in {base / '.env'}"
    if name == "CROWN_STORAGE__ROOT":
        return f"store in {base / 'pyproject.toml'}"
    return name


def _env_file(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    from dotenv import dotenv_values
    from dotenv.parser import parse_stream

    try:
        with path.open(encoding="utf-8") as stream:
            for binding in parse_stream(stream):
                if binding.error:
                    raise SettingsError(f"{path}:{binding.original.line}: expected NAME=value")
        values = dotenv_values(path, encoding="utf-8")
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: is not UTF-8 text") from None
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
    return {name: value for name, value in values.items() if value is not None}


def _is_word(value: str) -> bool:
    return len(value) < 2 * SECRET_LENGTH and value.isalpha() and value == value.lower()
