"""The settings that the environment may hold: names, types and what makes a value right.

Nothing here looks at the environment: `crown_exp.config.settings` hands its variables over. This is
a module of its own because importing pydantic-settings costs ten times as much as that one.
"""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from crown_exp.config.settings import access_in, metadata_url
from crown_exp.folder.urls import HOLDS_CREDENTIALS, holds_credentials

PREFIX = "CROWN_"
DELIMITER = "__"
SCHEMES = {"file": "file:///folder", "s3": "s3://bucket/prefix", "memory": "memory://"}
"""What a store's root may begin with, and how it is written."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # two letters at least: C:\ is a path


def _store_root(root: str) -> str:
    """A root in its one spelling. Raises ValueError, never with a password in the message."""
    scheme, mark, rest = root.partition("://")
    if not mark:
        raise ValueError(f"expected a path or one of {', '.join(SCHEMES.values())}")
    if holds_credentials(root):
        raise ValueError(HOLDS_CREDENTIALS)
    authority = rest.partition("/")[0]
    if scheme == "file" and (authority or not rest):
        raise ValueError("expected an absolute path after file:// (three slashes)")
    if scheme == "s3" and not authority:
        raise ValueError(f"expected a bucket: {SCHEMES['s3']}")
    return f"{scheme}://{rest.rstrip('/') or rest[:1]}"


def _endpoint(url: str) -> str:
    scheme, mark, rest = url.partition("://")
    if not mark or scheme not in ("http", "https") or not rest.strip("/"):
        raise ValueError("expected a URL as https://s3.example.org")
    if "@" in rest:
        raise ValueError(HOLDS_CREDENTIALS)
    return url.rstrip("/")


def _home(home: Path) -> Path:
    if home.exists() and not home.is_dir():
        raise ValueError(f"expected a directory; {home} is none")
    return home


def _conf(directory: Path) -> Path:
    if not directory.is_dir():
        raise ValueError(
            f"expected directories separated by {os.pathsep!r}; {directory} is no directory"
        )
    return directory


def _user(name: str) -> str:
    name = name.strip()
    if not (0 < len(name) <= 64 and name.isprintable()):
        raise ValueError("expected a name of 1 to 64 printable characters")
    return name


class StorageSettings(BaseModel):
    """Where bytes live."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    root: Annotated[str, AfterValidator(_store_root)]
    """The store's root as a URL, without a slash at the end (`file://` is percent-encoded)."""
    endpoint: Annotated[str, AfterValidator(_endpoint)] | None = None
    """Where the S3 service is; None: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, ~/.aws/config, or AWS itself."""
    region: str | None = None
    """Of the bucket; None: AWS_REGION, AWS_DEFAULT_REGION, ~/.aws/config."""
    access_key_id: str | None = None
    secret_access_key: SecretStr | None = None
    """The keys; None: those of the usual AWS chain."""
    deadline: Annotated[float, Ge(0.1)] = 60.0
    """Seconds that a call to a remote store may take, beside a second for each 256 KiB that it moves."""
    access: Mapping[str, str] = Field(default={}, repr=False, exclude=True)
    """What `open_blobs` is given with the root: `settings.store_access`."""


class NoticeSettings(BaseModel):
    """Where the cloud tells that it is about to take the machine."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    cloud: Literal["auto", "aws", "gcp", "azure", "none"] = "auto"
    """Whose machine this is; auto: as its firmware says."""
    endpoint: Annotated[str, AfterValidator(metadata_url)] | None = None
    """The metadata server; None: the cloud's own."""


class SkySettings(BaseModel):
    """Where SkyPilot is, which runs in a process of its own."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    python: Path | None = None
    """A Python that has SkyPilot; None: this one."""
    home: Path | None = None
    """The home directory whose ~/.sky is SkyPilot's; None: the user's own."""


class DatabaseSettings(BaseModel):
    """Where the registry is: an index of runs that can be made anew from them."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    url: SecretStr | None = None
    """`sqlite+aiosqlite:///path`; None: `registry.db` in the home."""


class Settings(BaseSettings):
    """What the environment decides: endpoints and places, never anything that decides a result.

    Made by `crown_exp.config.settings.load_settings`; the class by itself reads nothing.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=DELIMITER,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    home: Annotated[Path, AfterValidator(_home)]
    """Where all of this machine's own state lies, and the store by default. Absolute."""
    storage: StorageSettings
    database: DatabaseSettings
    notices: NoticeSettings
    sky: SkySettings
    user: Annotated[str, AfterValidator(_user)]
    """Whose runs these are."""
    conf: Annotated[tuple[Annotated[Path, AfterValidator(_conf)], ...], NoDecode]
    """Directories that lie over the project's conf, the topmost first. Absolute."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what it is given: there is one reader of the environment."""
        return (init_settings,)


def variable_names() -> dict[str, tuple[str, ...]]:
    """The environment's name of every setting, and its place in `Settings`."""
    return {PREFIX + DELIMITER.join(place).upper(): place for place in _places(Settings, ())}


def _places(model: type[BaseModel], above: tuple[str, ...]) -> list[tuple[str, ...]]:
    places = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            places += _places(inner, (*above, name))
        elif not field.exclude:
            places.append((*above, name))
    return places


def read(variables: Mapping[str, str], base: Path, store: str | None) -> Settings:
    """The settings in `variables`, with the defaults filled in.

    base: what relative paths are relative to. store: the store's root as the project has it.
    Raises ValidationError.
    """
    source = EnvSettingsSource(Settings)
    source.env_vars = {
        name.lower(): variables[name] for name in variable_names() if variables.get(name)
    }
    given: dict[str, Any] = source()
    home = _anchored(given.get("home", ".crown"), base)
    root = given.get("storage", {}).get("root") or store or str(home / "store")
    return Settings.model_validate(
        {
            "home": home,
            "storage": {
                **given.get("storage", {}),
                "root": root if _SCHEME.match(root) else _anchored(root, base).as_uri(),
                "access": access_in(variables),
            },
            "notices": given.get("notices", {}),
            "sky": {name: _anchored(path, base) for name, path in given.get("sky", {}).items()},
            "database": {
                name: _sqlite_anchored(url, base) for name, url in given.get("database", {}).items()
            },
            "user": given.get("user") or login_name(),
            "conf": [
                _anchored(part, base) for part in given.get("conf", "").split(os.pathsep) if part
            ],
        }
    )


def _sqlite_anchored(url: str, base: Path) -> str:
    """A URL with the path of an SQLite file made absolute: three slashes begin a relative one."""
    match = re.fullmatch(r"(sqlite(?:\+aiosqlite)?:///)([^/].*)", url)
    return f"{match[1]}{_anchored(match[2], base)}" if match else url


def problems(error: ValidationError) -> dict[str, str]:
    """What is wrong with each variable, by its name; without the values."""
    names = {place: name for name, place in variable_names().items()}
    found: dict[str, str] = {}
    for item in error.errors(include_url=False, include_input=False):
        place = tuple(str(step) for step in item["loc"] if not isinstance(step, int))
        found.setdefault(names[place], item["msg"].removeprefix("Value error, "))
    return found


def login_name() -> str:
    """Who is logged in; "unknown" where the system has no name (a container with a bare uid)."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _anchored(path: str, base: Path) -> Path:
    return Path(os.path.normpath(base / os.path.expanduser(path)))  # noqa: PTH111 - never raises
