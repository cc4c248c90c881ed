"""What to do about the trouble with a remote store: one line for the user. Pure."""

from __future__ import annotations

import re
from dataclasses import replace
from urllib.parse import urlsplit

from crown_exp.storage.trouble import NO_TLS, Answer, Kind, Place, Trouble, Verb, kind_of

SAID_LENGTH = 160

_NO_NAME = re.compile(
    r"dns error|name resolution|name or service not known|nodename nor", re.IGNORECASE
)
_REASONS = (
    ("connection refused", "connection refused"),
    ("connectionrefused", "connection refused"),
    ("connection reset", "connection reset"),
    ("broken pipe", "the connection broke"),
    ("unreachable", "network unreachable"),
    ("timed out", "timed out"),
    ("timedout", "timed out"),
)


def trouble(answer: Answer, verb: Verb, place: Place) -> Trouble:
    """What `answer` means to who wanted to do `verb` in `place`: one line, without a secret."""
    kind = kind_of(answer, verb)
    answer = replace(answer, code=_short(answer.code), region=_short(answer.region))
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
    if NO_TLS.search(answer.said):
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
        (
            "causedasendentity",
            "it is an authority's (CA:TRUE), not a server's; make one with CA:FALSE",
        ),
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


def _stray(_: Answer, __: Verb, place: Place) -> tuple[str, str]:
    return (
        f"{place.server} answers 404 without a word of S3's, as a proxy does whose server is away",
        "try again later; if it stays so, check CROWN_STORAGE__ENDPOINT",
    )


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
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in said).split())
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
    Kind.STRAY: _stray,
    Kind.CONFLICT: _busy,
    Kind.DAMAGED: _damaged,
    Kind.UNABLE: _unable,
    Kind.FOREIGN: _foreign,
}
