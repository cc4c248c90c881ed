"""How an S3 server is reached: its address, its region, and whose credentials.

Read are `access`, which holds the variables of the environment, and the files that AWS's own tools
keep. Of several sources the first that is there is taken: keys in `access`; a profile, or the files
(with SSO, roles and what else botocore knows); what the machine itself is given (web identity, ECS, EC2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crown_exp.errors import SettingsError

if TYPE_CHECKING:
    from botocore.credentials import Credentials
    from botocore.session import Session

LOOK_AGAIN = timedelta(minutes=6)
"""Keys of a file are read again: who renews them goes on. (The transport asks five minutes early.)"""

REGION_S = 5.0

_MACHINE = {
    "AWS_WEB_IDENTITY_TOKEN_FILE": "web_identity_token_file",
    "AWS_ROLE_ARN": "role_arn",
    "AWS_ROLE_SESSION_NAME": "role_session_name",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "container_credentials_relative_uri",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": "container_credentials_full_uri",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "container_authorization_token_file",
    "AWS_METADATA_ENDPOINT": "metadata_endpoint",
}

Found = dict[str, Any]
"""access_key_id, secret_access_key, token, expires_at: as obstore's credential providers say it."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a server is reached.

    endpoint: empty for AWS itself. region: empty if none is set. credentials: asked before a request,
    and again when what they gave expires; None: what the machine is given, by `machine`.
    """

    endpoint: str = ""
    region: str = ""
    authority: bytes | None = None
    credentials: Callable[[], Found] | None = None
    machine: Mapping[str, str] = field(default_factory=dict)


def endpoint_of(access: Mapping[str, str]) -> str:
    """The endpoint that `access` names; empty if none."""
    return access.get("AWS_ENDPOINT_URL_S3") or access.get("AWS_ENDPOINT_URL") or ""


def region_of(access: Mapping[str, str]) -> str:
    """The region that `access` names; empty if none."""
    return access.get("AWS_REGION") or access.get("AWS_DEFAULT_REGION") or ""


def told_region(bucket: str, server: str = "https://s3.amazonaws.com") -> str:
    """The region of a bucket, which AWS tells everybody; empty if it does not answer. Takes a request."""
    from urllib.error import HTTPError
    from urllib.request import HTTPRedirectHandler, Request, build_opener

    class NoRedirect(HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            """The redirect itself says where the bucket is."""

    opener = build_opener(NoRedirect)
    try:
        answer = opener.open(Request(f"{server}/{bucket}", method="HEAD"), timeout=REGION_S)
    except HTTPError as refused:  # which it is, without credentials
        answer = refused
    except (OSError, ValueError):
        return ""
    with answer:
        return answer.headers.get("x-amz-bucket-region") or ""


def way_to_s3(access: Mapping[str, str], home: Path | None = None) -> Way:
    """The way to S3 by `access` and the files in `home` (the user's own). Reads files; asks nobody.

    Raises SettingsError for half a pair of keys, a profile or a certificate that is not there.
    """
    endpoint, region = endpoint_of(access), region_of(access)
    authority = _authority(access)
    if "AWS_ACCESS_KEY_ID" in access or "AWS_SECRET_ACCESS_KEY" in access:
        return Way(endpoint, region, authority, _keys(access))
    files = _files(access, home or Path.home())
    if "AWS_PROFILE" in access or any(file.is_file() for file in files.values()):
        profile = Profile(access.get("AWS_PROFILE"), files)
        endpoint, region = endpoint or profile.endpoint, region or profile.region
        if profile.is_of_use():
            return Way(endpoint, region, authority, profile)
    machine = {ours: access[name] for name, ours in _MACHINE.items() if name in access}
    return Way(endpoint, region, authority, None, machine)


def _authority(access: Mapping[str, str]) -> bytes | None:
    file = access.get("AWS_CA_BUNDLE")
    if not file:
        return None
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise SettingsError(f"AWS_CA_BUNDLE: cannot read {file}: {error.strerror}") from None


def _keys(access: Mapping[str, str]) -> Callable[[], Found]:
    for name, ours in (("ACCESS_KEY_ID", "id"), ("SECRET_ACCESS_KEY", "key")):
        if f"AWS_{name}" not in access:
            raise SettingsError(
                f"CROWN_STORAGE__{name} (or AWS_{name}) is not set: an access key has two halves; "
                f"set its {ours} too"
            )
    found: Found = {
        "access_key_id": access["AWS_ACCESS_KEY_ID"],
        "secret_access_key": access["AWS_SECRET_ACCESS_KEY"],
        "token": access.get("AWS_SESSION_TOKEN"),
        "expires_at": None,
    }
    return lambda: dict(found)


def _files(access: Mapping[str, str], home: Path) -> dict[str, Path]:
    return {
        "credentials_file": _path(
            access, "AWS_SHARED_CREDENTIALS_FILE", home / ".aws" / "credentials"
        ),
        "config_file": _path(access, "AWS_CONFIG_FILE", home / ".aws" / "config"),
    }


def _path(access: Mapping[str, str], name: str, default: Path) -> Path:
    return Path(access[name]).expanduser() if name in access else default


class Profile:
    """The credentials of a profile in AWS's files: called, it gives those of now.

    profile: its name; None for the default one. files: where botocore is to look.
    """

    def __init__(self, profile: str | None, files: Mapping[str, Path]) -> None:
        self._profile, self._files = profile, dict(files)
        self._found: Credentials | None = None
        session = self._session()
        self.region: str = session.get_config_variable("region") or ""
        self.endpoint: str = _endpoint(session)

    def is_of_use(self) -> bool:
        """Whether it has credentials; a profile that is named must, or what it lacks is to be told."""
        return self._profile is not None or self._look() is not None

    def __call__(self) -> Found:
        """Raises OSError if who gives them does not answer; ValueError, with the reason, if there are none."""
        from botocore.credentials import RefreshableCredentials
        from botocore.exceptions import BotoCoreError, HTTPClientError

        try:
            if not isinstance(self._found, RefreshableCredentials):  # those renew themselves
                self._found = self._look()
            if self._found is None:
                raise ValueError(f"profile {self._profile or 'default'} has none")
            frozen = self._found.get_frozen_credentials()
        except HTTPClientError as error:
            raise OSError(str(error)) from None
        except BotoCoreError as error:
            self._found = None
            raise ValueError(f"profile {self._profile or 'default'}: {error}") from None
        expiry = getattr(self._found, "_expiry_time", None)
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": expiry or datetime.now(UTC) + LOOK_AGAIN,
        }

    def _look(self) -> Credentials | None:
        return self._session().get_credentials()

    def _session(self) -> Session:
        try:
            from botocore.exceptions import ProfileNotFound
            from botocore.session import Session
        except ImportError:
            raise SettingsError(
                "AWS_PROFILE and ~/.aws are read by botocore, which is not installed: "
                "pip install 'crown-exp[s3]'"
            ) from None
        session = Session(profile=self._profile)
        for name, file in self._files.items():
            session.set_config_variable(name, str(file))
        try:
            session.get_scoped_config()
        except ProfileNotFound:
            raise SettingsError(
                f"AWS_PROFILE: there is no profile {self._profile} in {self._files['config_file']}; "
                f"known are {', '.join(session.available_profiles) or 'none'}"
            ) from None
        return session


def _endpoint(session: Session) -> str:
    scoped: dict[str, Any] = session.get_scoped_config()
    services = session.full_config.get("services", {}).get(scoped.get("services"), {})
    of_s3 = services.get("s3", {}) if isinstance(services, dict) else {}
    found = of_s3.get("endpoint_url") if isinstance(of_s3, dict) else None
    return str(found or scoped.get("endpoint_url") or "")
