"""What a remote store's answer means, and what to set so that it answers better.

Pure: a transport translates its errors into an `Answer`; nothing here knows which one it was.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit

SAID_LENGTH = 160


class Verb(Enum):
    """What is done to a blob, and what AWS calls the permission for it."""

    WRITE = "write"
    READ = "read"
    LIST = "list"
    DELETE = "delete"
    COPY = "copy"

    @property
    def permission(self) -> str:
        """As a policy spells it."""
        return _PERMISSIONS[self]


_PERMISSIONS = {
    Verb.WRITE: "s3:PutObject",
    Verb.READ: "s3:GetObject",
    Verb.LIST: "s3:ListBucket",
    Verb.DELETE: "s3:DeleteObject",
    Verb.COPY: "s3:GetObject and s3:PutObject",
}


class Kind(Enum):
    """What kind of trouble an answer is."""

    MISSING = "there is no such blob"
    EXISTS = "there is one already"
    CONFLICT = "others write it right now, or wrote it"
    SHORT = "it has not the bytes that were asked for"
    BUSY = "the server is not well, or asks to be spared for a while"
    UNREACHABLE = "no answer, or one that broke off"
    DAMAGED = "what was sent did not arrive as it was"
    NO_BUCKET = "no such bucket"
    DENIED = "not allowed"
    NO_CREDENTIALS = "there are none"
    CREDENTIALS = "wrong or expired"
    REGION = "the bucket is elsewhere"
    SKEWED = "this machine's clock is wrong"
    CERTIFICATE = "TLS cannot trust the server"
    FULL = "no room, or no more of it for us"
    FOREIGN = "another's key is in the way"
    UNABLE = "the server has no such operation"
    OTHER = "anything else"


PASSING = frozenset({Kind.CONFLICT, Kind.BUSY, Kind.UNREACHABLE, Kind.DAMAGED})
"""The same request may succeed when it is sent again."""

MIS_SET = frozenset(
    {
        Kind.NO_BUCKET,
        Kind.DENIED,
        Kind.NO_CREDENTIALS,
        Kind.CREDENTIALS,
        Kind.REGION,
        Kind.SKEWED,
        Kind.CERTIFICATE,
        Kind.UNABLE,
        Kind.FOREIGN,
    }
)
"""It stays so until somebody sets something."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came instead of success.

    status: of HTTP; 0 if no answer came. code: S3's word for it. said: the server's sentence, or the
    transport's account of why there is no answer. region: where the server says the bucket is.
    """

    status: int = 0
    code: str = ""
    said: str = ""
    region: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """A store as it is set. endpoint: empty for the vendor's own. region: empty if none is set."""

    url: str
    endpoint: str = ""
    region: str = ""

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return urlsplit(self.url).netloc

    @property
    def server(self) -> str:
        """Who should have answered, for a sentence."""
        return self.endpoint or {"s3": "AWS"}.get(urlsplit(self.url).scheme, "the server")


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong, and what to do about it: two halves of one line (the second may be empty)."""

    kind: Kind
    what: str
    todo: str = ""

    def __str__(self) -> str:
        return f"{self.what}; {self.todo}" if self.todo else self.what


FOREIGN_KEY = "ForeignKey"
"""An answer's code, not S3's: `said` is a key that cannot be a path, so that nothing there can be listed."""

_CODES = {
    "NoSuchKey": Kind.MISSING,
    "NoSuchBucket": Kind.NO_BUCKET,
    "PreconditionFailed": Kind.EXISTS,
    "ConditionalRequestConflict": Kind.CONFLICT,
    "OperationAborted": Kind.CONFLICT,
    "InvalidRange": Kind.SHORT,
    "SlowDown": Kind.BUSY,
    "RequestTimeout": Kind.BUSY,
    "InternalError": Kind.BUSY,
    "ServiceUnavailable": Kind.BUSY,
    "BadDigest": Kind.DAMAGED,
    "IncompleteBody": Kind.DAMAGED,
    "InvalidDigest": Kind.DAMAGED,
    "XAmzContentSHA256Mismatch": Kind.DAMAGED,
    "AccessDenied": Kind.DENIED,
    "AllAccessDisabled": Kind.DENIED,
    "AccountProblem": Kind.DENIED,
    "InvalidAccessKeyId": Kind.CREDENTIALS,
    "SignatureDoesNotMatch": Kind.CREDENTIALS,
    "InvalidToken": Kind.CREDENTIALS,
    "ExpiredToken": Kind.CREDENTIALS,
    "ExpiredTokenException": Kind.CREDENTIALS,
    "TokenRefreshRequired": Kind.CREDENTIALS,
    "RequestExpired": Kind.CREDENTIALS,
    "AuthorizationHeaderMalformed": Kind.REGION,
    "IllegalLocationConstraintException": Kind.REGION,
    "IncorrectEndpoint": Kind.REGION,
    "PermanentRedirect": Kind.REGION,
    "TemporaryRedirect": Kind.REGION,
    "RequestTimeTooSkewed": Kind.SKEWED,
    "EntityTooLarge": Kind.FULL,
    "InsufficientStorage": Kind.FULL,
    "QuotaExceeded": Kind.FULL,
    "XMinioStorageFull": Kind.FULL,
    "XMinioAdminBucketQuotaExceeded": Kind.FULL,
    "NoCredentials": Kind.NO_CREDENTIALS,
    "NotImplemented": Kind.UNABLE,
    FOREIGN_KEY: Kind.FOREIGN,
}
_STATUSES = {
    301: Kind.REGION,
    307: Kind.REGION,
    401: Kind.CREDENTIALS,
    403: Kind.DENIED,
    404: Kind.MISSING,
    408: Kind.BUSY,
    409: Kind.CONFLICT,
    412: Kind.EXISTS,
    413: Kind.FULL,
    416: Kind.SHORT,
    429: Kind.BUSY,
    500: Kind.BUSY,
    501: Kind.UNABLE,
    502: Kind.BUSY,
    503: Kind.BUSY,
    504: Kind.BUSY,
    507: Kind.FULL,
}
_UNTRUSTED = re.compile(r"certificate|UnknownIssuer|NotValidForName|SELF.?SIGNED", re.IGNORECASE)
_NO_TLS = re.compile(
    r"InvalidContentType|InvalidMessage|wrong version number|record overflow", re.IGNORECASE
)
_NO_NAME = re.compile(
    r"dns error|name resolution|name or service not known|nodename nor", re.IGNORECASE
)
_NO_KEYS = re.compile(
    r"169\.254\.169\.254|fd00:ec2::254|169\.254\.170\.2|NoCredentials|locate credentials"
)
_REASONS = (
    ("connection refused", "connection refused"),
    ("connection reset", "connection reset"),
    ("broken pipe", "the connection broke"),
    ("unreachable", "network unreachable"),
    ("timed out", "timed out"),
    ("timedout", "timed out"),
)


def answer_in(status: int, body: str) -> Answer:
    """The answer of a status and S3's XML."""
    code, message, region = (_inner(tag, body) for tag in ("Code", "Message", "Region"))
    return Answer(status, code, message, region)


def _inner(tag: str, body: str) -> str:
    match = re.search(f"<{tag}>([^<]*)</{tag}>", body)
    return match[1] if match else ""


def kind_of(answer: Answer) -> Kind:
    """What kind of trouble an answer is."""
    if answer.status or answer.code:
        # An old S3 gateway puts the code of another case with the status that counts: 5xx is no refusal.
        known = _CODES.get(answer.code)
        return known or _STATUSES.get(answer.status, Kind.OTHER)
    if _NO_KEYS.search(answer.said):
        return Kind.NO_CREDENTIALS
    if _UNTRUSTED.search(answer.said) or _NO_TLS.search(answer.said):
        return Kind.CERTIFICATE
    return Kind.UNREACHABLE


def trouble(answer: Answer, verb: Verb, place: Place) -> Trouble:
    """What `answer` means to who wanted to do `verb` in `place`: one line, without a secret."""
    kind = kind_of(answer)
    return Trouble(kind, *_LINES.get(kind, _other)(answer, verb, place))


def _no_bucket(_: Answer, __: Verb, place: Place) -> tuple[str, str]:
    at = f" at {place.endpoint}" if place.endpoint else ""
    option = f"--endpoint-url {place.endpoint} " if place.endpoint else ""
    return (
        f"there is no bucket {place.bucket}{at}",
        f"make it (aws {option}s3 mb s3://{place.bucket}) or correct CROWN_STORAGE__ROOT",
    )


def _denied(_: Answer, verb: Verb, place: Place) -> tuple[str, str]:
    return (
        f"the credentials may not {verb.value} there",
        f"allow {verb.permission} (and s3:ListBucket) on {place.url}, or use others: AWS_PROFILE, or "
        "CROWN_STORAGE__ACCESS_KEY_ID and CROWN_STORAGE__SECRET_ACCESS_KEY",
    )


def _no_credentials(answer: Answer, _: Verb, __: Place) -> tuple[str, str]:
    why = f" ({_short(answer.said)})" if answer.code and answer.said else ""
    return (
        f"no credentials were found{why}",
        "set AWS_PROFILE, or CROWN_STORAGE__ACCESS_KEY_ID and CROWN_STORAGE__SECRET_ACCESS_KEY",
    )


def _credentials(answer: Answer, _: Verb, place: Place) -> tuple[str, str]:
    if "Expired" in answer.code or answer.code == "TokenRefreshRequired":
        return (
            "the credentials have expired",
            "renew them (aws sso login, or a new AWS_SESSION_TOKEN with its keys); a profile or an "
            "instance's role renews itself",
        )
    what = {
        "InvalidAccessKeyId": f"{place.server} does not know the access key id",
        "SignatureDoesNotMatch": "the secret key does not fit the access key id",
        "InvalidToken": "the session token is not one of this access key",
    }.get(answer.code, f"{place.server} does not accept the credentials")
    return (
        what,
        "correct CROWN_STORAGE__ACCESS_KEY_ID and CROWN_STORAGE__SECRET_ACCESS_KEY (or AWS_PROFILE, or "
        "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN)",
    )


def _region(answer: Answer, _: Verb, place: Place) -> tuple[str, str]:
    set_to = place.region or "none, so us-east-1"
    if answer.region:
        return (
            f"the bucket is in {answer.region}, and the region that is set is {set_to}",
            f"set CROWN_STORAGE__REGION={answer.region}",
        )
    return (
        f"the bucket is in another region than the one that is set ({set_to})",
        "set CROWN_STORAGE__REGION to the bucket's, as "
        f"`aws s3api get-bucket-location --bucket {place.bucket}` tells it",
    )


def _skewed(_: Answer, __: Verb, place: Place) -> tuple[str, str]:
    return (
        f"this machine's clock is wrong: {place.server} takes no request that is 15 minutes off",
        "set the clock (sudo timedatectl set-ntp true)",
    )


def _certificate(answer: Answer, _: Verb, place: Place) -> tuple[str, str]:
    if _NO_TLS.search(answer.said):
        return (
            f"{place.server} does not speak TLS",
            "if it is to be plain http, set CROWN_STORAGE__ENDPOINT=http://...",
        )
    return (
        f"the certificate of {place.server} is not to be trusted: {_untrusted(answer.said)}",
        "set AWS_CA_BUNDLE to the file of the authority that signed it, or correct "
        "CROWN_STORAGE__ENDPOINT",
    )


def _untrusted(said: str) -> str:
    for sign, reason in (
        ("expired", "it has expired"),
        ("notvalidforname", "it is for another name"),
        ("not valid for", "it is for another name"),
        ("mismatch", "it is for another name"),
    ):
        if sign in said.lower():
            return reason
    return "nobody known signed it"


def _full(answer: Answer, _: Verb, __: Place) -> tuple[str, str]:
    return (
        f"there is no more room for it there ({answer.code or answer.status})",
        "raise the quota, or free some space (crown-exp checkpoints prune <run>)",
    )


def _unreachable(answer: Answer, _: Verb, place: Place) -> tuple[str, str]:
    if _NO_NAME.search(answer.said):
        host = urlsplit(place.endpoint).hostname if place.endpoint else f"{place.bucket} at AWS"
        return (
            f"no address is known for {host}",
            "check the network, and CROWN_STORAGE__ENDPOINT and CROWN_STORAGE__REGION",
        )
    said = answer.said.lower()
    reason = next((text for sign, text in _REASONS if sign in said), "the connection broke")
    return (
        f"{place.server} does not answer ({reason})",
        "check the network and CROWN_STORAGE__ENDPOINT",
    )


def _busy(answer: Answer, _: Verb, place: Place) -> tuple[str, str]:
    return f"{place.server} answers {_name(answer)}", "try again later"


def _damaged(answer: Answer, _: Verb, place: Place) -> tuple[str, str]:
    return (
        f"the bytes did not reach {place.server} as they were sent ({answer.code})",
        "check what lies between: a proxy, or this machine's memory",
    )


def _unable(answer: Answer, _: Verb, place: Place) -> tuple[str, str]:
    return (
        f"{place.server} cannot do this ({_name(answer)})",
        "set CROWN_STORAGE__ROOT to another store",
    )


def _foreign(answer: Answer, _: Verb, place: Place) -> tuple[str, str]:
    return (
        f"there is a key with an empty name in it: {answer.said!r}",
        f"move it away, or set CROWN_STORAGE__ROOT to an empty prefix, as {place.url}/crown",
    )


def _other(answer: Answer, _: Verb, place: Place) -> tuple[str, str]:
    said = f": {_short(answer.said)}" if answer.said else ""
    return f"{place.server} answers {_name(answer)}{said}", ""


def _name(answer: Answer) -> str:
    return " ".join(part for part in (str(answer.status or ""), answer.code) if part)


def _short(said: str) -> str:
    line = " ".join(said.split())
    return line if len(line) <= SAID_LENGTH else f"{line[:SAID_LENGTH]}..."


_LINES = {
    Kind.NO_BUCKET: _no_bucket,
    Kind.DENIED: _denied,
    Kind.NO_CREDENTIALS: _no_credentials,
    Kind.CREDENTIALS: _credentials,
    Kind.REGION: _region,
    Kind.SKEWED: _skewed,
    Kind.CERTIFICATE: _certificate,
    Kind.FULL: _full,
    Kind.UNREACHABLE: _unreachable,
    Kind.BUSY: _busy,
    Kind.CONFLICT: _busy,
    Kind.DAMAGED: _damaged,
    Kind.UNABLE: _unable,
    Kind.FOREIGN: _foreign,
}
