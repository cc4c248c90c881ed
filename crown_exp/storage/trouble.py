"""What a remote store's answer means; what to do about it says `crown_exp.storage.advice`.

Pure: a transport translates its errors into an `Answer`; nothing here knows which one it was.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit


class Verb(Enum):
    """What is done to a blob, and what AWS calls the permission for it."""

    WRITE = "write"
    READ = "read"
    LOOK = "look at"
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
    Verb.LOOK: "s3:GetObject",
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
    STRAY = "not found, and not in S3's words: a proxy's answer, or of a server that just begins"
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


PASSING = frozenset({Kind.CONFLICT, Kind.STRAY, Kind.BUSY, Kind.UNREACHABLE, Kind.DAMAGED})
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
NO_TLS = re.compile(
    r"InvalidContentType|InvalidMessage|wrong version number|record overflow", re.IGNORECASE
)
_NO_KEYS = re.compile(
    r"169\.254\.169\.254|fd00:ec2::254|169\.254\.170\.2|NoCredentials|locate credentials"
)


def answer_in(status: int, body: str) -> Answer:
    """The answer of a status and S3's XML."""
    code, message, region, host = (
        _inner(tag, body) for tag in ("Code", "Message", "Region", "Endpoint")
    )
    return Answer(status, code, message, region or _region_of(host))


def _region_of(host: str) -> str:
    """The region in the name of one of AWS's hosts; empty if it names none."""
    match = re.search(r"\bs3[.-]([a-z]{2}(?:-[a-z]+)+-\d)\.amazonaws\.", host)
    return match[1] if match else ""


def _inner(tag: str, body: str) -> str:
    match = re.search(f"<{tag}>([^<]*)</{tag}>", body)
    return match[1] if match else ""


def kind_of(answer: Answer, verb: Verb = Verb.READ) -> Kind:
    """What kind of trouble an answer is to who wanted to do `verb`.

    That a blob is not there counts only in S3's own words. To a look it cannot answer in words: whoever looks
    has to ask again in another way, before anything hangs on it.
    """
    if answer.status == 404 and not answer.code:
        return Kind.MISSING if verb is Verb.LOOK else Kind.STRAY
    if answer.status or answer.code:
        return _CODES.get(answer.code) or _STATUSES.get(answer.status, Kind.OTHER)
    if _NO_KEYS.search(answer.said):
        return Kind.NO_CREDENTIALS
    if _UNTRUSTED.search(answer.said) or NO_TLS.search(answer.said):
        return Kind.CERTIFICATE
    return Kind.UNREACHABLE
