"""How an S3 server is reached: its address, its region, and whose credentials.

Read are `access`, which holds the variables of the environment, and the files that AWS's own tools
keep. Of several sources the first that is there is taken: keys in `access`; a profile of those files
(with SSO, processes, roles and what else botocore knows of profiles); what the machine itself is given
(web identity, ECS, EC2), which obstore asks. A role that a profile takes on is asked of AWS through
botocore's own client, which follows the environment's proxy; and where a profile says itself that its
source is the environment or the machine (`credential_source`), it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from crown_exp.errors import SettingsError
from crown_exp.folder.urls import HOLDS_CREDENTIALS
from crown_exp.storage.parallel import left_behind

if TYPE_CHECKING:
    from botocore.credentials import Credentials
    from botocore.session import Session

AHEAD = timedelta(minutes=5)
"""So long before they expire, keys are asked for anew."""

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

_GIVE = frozenset(
    {
        "aws_access_key_id",
        "credential_process",
        "login_session",
        "role_arn",
        "sso_account_id",
        "sso_session",
        "sso_start_url",
        "web_identity_token_file",
    }
)
"""What a profile has that gives credentials."""

_NOT_OF_FILES = ("env", "ec2-credentials-file", "boto-config", "container-role", "iam-role")
"""What botocore would ask beside the files: the environment, and the machine."""

_SERVER_ERROR = 500
_THROTTLED = ("Throttl", "RequestLimitExceeded", "TooManyRequests", "SlowDown")

Found = dict[str, Any]
"""access_key_id, secret_access_key, token, expires_at: as obstore's credential providers say it."""


class NoCredentials(ValueError):
    """There are none, and will not be until somebody sets something: one line, which says what."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a server is reached.

    endpoint: empty for AWS itself. region: empty if none is set. credentials: asked before a request,
    and again when what they gave expires; None: what the machine is given, by `machine`. expiry: of keys that
    are only lent, asks when they end, which nobody may know; None: they last.
    """

    endpoint: str = ""
    region: str = ""
    authority: bytes | None = None
    credentials: Callable[[], Found] | None = None
    machine: Mapping[str, str] = field(default_factory=dict)
    expiry: Callable[[], datetime | None] | None = None


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

    Raises SettingsError for half a pair of keys; a profile or a certificate that is not there; files that
    cannot be read.
    """
    endpoint, region = endpoint_of(access), region_of(access)
    authority = _authority(access)
    if "AWS_ACCESS_KEY_ID" in access or "AWS_SECRET_ACCESS_KEY" in access:
        told = partial(_told_expiry, access) if "AWS_SESSION_TOKEN" in access else None
        return Way(_shown(endpoint), region, authority, _keys(access), expiry=told)
    files = _files(access, home or Path.home())
    if "AWS_PROFILE" in access or any(file.is_file() for file in files.values()):
        profile = Profile(access.get("AWS_PROFILE"), files)
        endpoint, region = endpoint or profile.endpoint, region or profile.region
        if profile.gives:
            lent = None if profile.lasts else profile.expiry
            return Way(_shown(endpoint), region, authority, profile, expiry=lent)
    machine = {ours: access[name] for name, ours in _MACHINE.items() if name in access}
    return Way(_shown(endpoint), region, authority, None, machine)


def _shown(endpoint: str) -> str:
    """It is shown wherever the store is. Raises SettingsError if it should not be."""
    if "@" in endpoint:
        raise SettingsError(f"CROWN_STORAGE__ENDPOINT (or AWS_ENDPOINT_URL): {HOLDS_CREDENTIALS}")
    if urlsplit(endpoint).path.strip("/"):  # of which every answer would be a 404
        raise SettingsError(
            "CROWN_STORAGE__ENDPOINT (or AWS_ENDPOINT_URL): expected no path; the bucket belongs "
            "in CROWN_STORAGE__ROOT=s3://bucket/prefix"
        )
    return endpoint


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


def _told_expiry(access: Mapping[str, str]) -> datetime | None:
    """When keys of the environment end, as botocore is told it."""
    try:
        told = datetime.fromisoformat(access.get("AWS_CREDENTIAL_EXPIRATION", ""))
    except ValueError:
        return None
    return told if told.tzinfo else told.replace(tzinfo=UTC)


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

    profile: its name; None for the default one. files: where botocore is to look. gives: whether it has
    credentials; a profile that is named must, or what it lacks is to be told. lasts: whether its keys stand in
    those files and are good until somebody takes them back.
    """

    def __init__(self, profile: str | None, files: Mapping[str, Path]) -> None:
        self._named, self._name, self._files = (
            profile is not None,
            profile or "default",
            dict(files),
        )
        self._found: Credentials | None = None
        session, scoped = self._session()
        self.region = str(scoped.get("region") or "")
        self.endpoint = _endpoint(session, scoped)
        self.gives = self._named or not _GIVE.isdisjoint(scoped)
        self.lasts = _GIVE & scoped.keys() == {"aws_access_key_id"} and not scoped.get(
            "aws_session_token"
        )

    def __call__(self) -> Found:
        """Asks whom the profile names. Raises OSError if it may succeed later; NoCredentials."""
        from botocore.credentials import RefreshableCredentials

        try:
            if not isinstance(self._found, RefreshableCredentials):  # those renew themselves
                self._found = self._look()
            frozen = None if self._found is None else self._found.get_frozen_credentials()
        except Exception as error:
            self._found = None
            raise self._told(error) from None
        if frozen is None:
            raise NoCredentials(f"profile {self._name} has none")
        expiry = getattr(self._found, "_expiry_time", None)
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": expiry or datetime.now(UTC) + LOOK_AGAIN,
        }

    def expiry(self) -> datetime | None:
        """When its keys of now end; None if they do not say. Asks and raises as a call."""
        self()
        told: datetime | None = getattr(self._found, "_expiry_time", None)
        return told

    def _look(self) -> Credentials | None:
        session, _ = self._session()
        resolver = session.get_component("credential_provider")
        for name in _NOT_OF_FILES:
            resolver.remove(name)
        found: Credentials | None = resolver.load_credentials()
        return found

    def _told(self, error: Exception) -> OSError | NoCredentials:
        """What went wrong, in one line: OSError if it may pass."""
        from botocore.exceptions import HTTPClientError

        passing = isinstance(error, HTTPClientError) or _is_passing(error)
        kind = OSError if passing else NoCredentials
        return kind(f"profile {self._name}: {_why(error, self._name)}")

    def _session(self) -> tuple[Session, Mapping[str, Any]]:
        """Botocore's, of the files alone, and what they say of the profile. Raises SettingsError."""
        try:
            from botocore.exceptions import BotoCoreError
            from botocore.session import Session
        except ImportError:
            raise SettingsError(
                "AWS_PROFILE and ~/.aws are read by botocore, which is not installed: "
                "pip install 'crown-exp[s3]'"
            ) from None
        session = Session(profile=self._name)  # with a name it looks for no keys in the environment
        for name, file in self._files.items():
            session.set_config_variable(name, str(file))
        try:
            profiles: Mapping[str, Any] = session.full_config.get("profiles", {})
        except (BotoCoreError, ValueError, OSError) as error:
            raise SettingsError(f"AWS's files cannot be read: {_line(error)}; mend them") from None
        if self._name not in profiles and self._named:
            raise SettingsError(
                f"AWS_PROFILE: there is no profile {self._name} in {self._files['config_file']}; "
                f"known are {', '.join(profiles) or 'none'}"
            )
        return session, profiles.get(self._name, {})


def session_of(credentials: Callable[[], Found]) -> Any:
    """An aiobotocore session whose clients ask for these credentials, and for no others."""
    from aiobotocore.credentials import AioCredentials
    from aiobotocore.session import AioSession
    from botocore.credentials import ReadOnlyCredentials

    class Asked(AioCredentials):  # type: ignore[misc]
        """Keys that are asked for before a request, where those of the last one have run out."""

        kept: Found | None = None

        async def get_frozen_credentials(self) -> ReadOnlyCredentials:
            if self.kept is None or _is_old(self.kept):
                self.kept = await left_behind(credentials)
            return ReadOnlyCredentials(
                self.kept["access_key_id"], self.kept["secret_access_key"], self.kept["token"]
            )

    session = AioSession()
    session._credentials = Asked("", "")
    return session


def _is_old(found: Found) -> bool:
    return found["expires_at"] is not None and found["expires_at"] < datetime.now(UTC) + AHEAD


def _why(error: Exception, profile: str) -> str:
    from botocore.exceptions import CredentialRetrievalError, SSOError, TokenRetrievalError

    if isinstance(error, SSOError | TokenRetrievalError):
        return f"its login is missing or has expired: aws sso login --profile {profile}"
    if isinstance(error, CredentialRetrievalError):
        who = str(error.kwargs.get("provider")).replace("custom-process", "credential_process")
        said = " ".join(str(error.kwargs.get("error_msg", "")).split())
        return f"its {who} fails: {said or 'without a word'}"
    if isinstance(error, FileNotFoundError | PermissionError):
        return f"its credential_process cannot be run: {_line(error)}"
    if isinstance(error, ValueError | KeyError | TypeError):  # not the text: it may hold keys
        return 'its credential_process does not print {"Version": 1, "AccessKeyId": ...}'
    return _line(error)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _is_passing(error: Exception) -> bool:
    """Whether AWS answered that it is busy."""
    response = getattr(error, "response", None)
    if not isinstance(response, Mapping):
        return False
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status >= _SERVER_ERROR or str(response.get("Error", {}).get("Code")).startswith(
        _THROTTLED
    )


def _endpoint(session: Session, scoped: Mapping[str, Any]) -> str:
    services = session.full_config.get("services", {}).get(scoped.get("services"), {})
    of_s3 = services.get("s3", {}) if isinstance(services, dict) else {}
    found = of_s3.get("endpoint_url") if isinstance(of_s3, dict) else None
    return str(found or scoped.get("endpoint_url") or "")
