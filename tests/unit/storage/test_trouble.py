"""What answers of S3 mean, and what the user is told to set."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crown_exp.storage.advice import trouble
from crown_exp.storage.trouble import (
    MIS_SET,
    PASSING,
    Answer,
    Kind,
    Place,
    Verb,
    answer_in,
    kind_of,
)

AWS = Place("s3://data/runs", region="us-east-1")
OURS = Place("s3://data/runs", endpoint="http://minio:9000")

# As AWS answers them (ids and hosts shortened).
ANSWERS = {
    "no bucket": (
        404,
        "<Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message>"
        "<BucketName>data</BucketName><RequestId>1</RequestId><HostId>2</HostId></Error>",
    ),
    "no key": (
        404,
        "<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message>"
        "<Key>x</Key></Error>",
    ),
    "denied": (
        403,
        "<Error><Code>AccessDenied</Code><Message>User: arn:aws:iam::1:user/ada is not authorized to perform: "
        's3:PutObject on resource: "arn:aws:s3:::data/x"</Message></Error>',
    ),
    "region": (
        400,
        "<Error><Code>AuthorizationHeaderMalformed</Code><Message>The authorization header is malformed; the "
        "region 'us-east-1' is wrong; expecting 'eu-central-1'</Message><Region>eu-central-1</Region></Error>",
    ),
    "redirect": (
        301,
        "<Error><Code>PermanentRedirect</Code><Message>The bucket you are attempting to access must be "
        "addressed using the specified endpoint.</Message>"
        "<Endpoint>data.s3.eu-west-3.amazonaws.com</Endpoint></Error>",
    ),
    "expired": (
        400,
        "<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message>"
        "<Token-0>IQoJb3JpZ2luX2VjE-HIDDEN</Token-0></Error>",
    ),
    "key id": (
        403,
        "<Error><Code>InvalidAccessKeyId</Code><Message>The AWS Access Key Id you provided does not exist in "
        "our records.</Message><AWSAccessKeyId>AKIA</AWSAccessKeyId></Error>",
    ),
    "secret": (
        403,
        "<Error><Code>SignatureDoesNotMatch</Code><Message>The request signature we calculated does not match "
        "the signature you provided.</Message></Error>",
    ),
    "skew": (
        403,
        "<Error><Code>RequestTimeTooSkewed</Code><Message>The difference between the request time and the "
        "current time is too large.</Message></Error>",
    ),
    "proxy": (404, "<html>default backend - 404</html>"),
    "slow": (
        503,
        "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>",
    ),
    "conflict": (
        409,
        "<Error><Code>ConditionalRequestConflict</Code><Message>The conditional request cannot succeed due to "
        "a conflicting operation against this resource.</Message></Error>",
    ),
    "exists": (
        412,
        "<Error><Code>PreconditionFailed</Code><Message>At least one of the pre-conditions you specified did "
        "not hold</Message><Condition>If-None-Match</Condition></Error>",
    ),
    "torn": (
        400,
        "<Error><Code>XAmzContentSHA256Mismatch</Code><Message>The provided 'x-amz-content-sha256' header does "
        "not match what was computed.</Message></Error>",
    ),
    "idle": (
        400,
        "<Error><Code>RequestTimeout</Code><Message>Your socket connection to the server was not read from or "
        "written to within the timeout period.</Message></Error>",
    ),
    "quota": (403, "<Error><Code>QuotaExceeded</Code></Error>"),
    "no header": (501, "<Error><Code>NotImplemented</Code></Error>"),
}
KINDS = {
    "no bucket": Kind.NO_BUCKET,
    "no key": Kind.MISSING,
    "denied": Kind.DENIED,
    "region": Kind.REGION,
    "redirect": Kind.REGION,
    "expired": Kind.CREDENTIALS,
    "key id": Kind.CREDENTIALS,
    "secret": Kind.CREDENTIALS,
    "skew": Kind.SKEWED,
    "proxy": Kind.STRAY,
    "slow": Kind.BUSY,
    "conflict": Kind.CONFLICT,
    "exists": Kind.EXISTS,
    "torn": Kind.DAMAGED,
    "idle": Kind.BUSY,
    "quota": Kind.FULL,
    "no header": Kind.UNABLE,
}


def line(name: str, place: Place = AWS, verb: Verb = Verb.WRITE) -> str:
    return str(trouble(answer_in(*ANSWERS[name]), verb, place))


@pytest.mark.parametrize("name", ANSWERS)
def test_what_aws_answers(name: str) -> None:
    assert kind_of(answer_in(*ANSWERS[name])) is KINDS[name]
    assert len(line(name).splitlines()) == 1
    assert "<" not in line(name).replace("<run>", "")
    assert "HIDDEN" not in line(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no bucket", ["there is no bucket data", "aws s3 mb s3://data", "CROWN_STORAGE__ROOT"]),
        ("region", ["in eu-central-1", "is us-east-1", "set CROWN_STORAGE__REGION=eu-central-1"]),
        ("redirect", ["in eu-west-3", "set CROWN_STORAGE__REGION=eu-west-3"]),
        ("expired", ["have expired", "aws sso login"]),
        ("key id", ["AWS does not know the access key id", "CROWN_STORAGE__ACCESS_KEY_ID"]),
        ("secret", ["the secret key does not fit"]),
        ("proxy", ["answers 404 without a word of S3's", "CROWN_STORAGE__ENDPOINT"]),
        ("skew", ["clock is wrong", "timedatectl"]),
        ("quota", ["no more room", "crown-exp checkpoints prune <run>"]),
    ],
)
def test_what_to_set(name: str, said: list[str]) -> None:
    for part in said:
        assert part in line(name)


@pytest.mark.parametrize("verb", Verb)
def test_the_permission_that_is_missing(verb: Verb) -> None:
    assert f"may not {verb.value}" in line("denied", verb=verb)
    assert verb.permission in line("denied", verb=verb)


def test_an_endpoint_is_named() -> None:
    assert "no bucket data at http://minio:9000" in line("no bucket", OURS)
    assert "--endpoint-url http://minio:9000 s3 mb s3://data" in line("no bucket", OURS)
    assert "http://minio:9000 does not know the access key id" in line("key id", OURS)


@pytest.mark.parametrize(
    ("said", "kind", "told"),
    [
        ("dns error: failed to lookup", Kind.UNREACHABLE, "no address is known for minio"),
        ("ConnectionRefused, message: ...", Kind.UNREACHABLE, "does not answer (connection refused)"),
        ("source: TimedOut", Kind.UNREACHABLE, "does not answer (timed out)"),
        ("IncompleteMessage", Kind.UNREACHABLE, "does not answer (the connection broke)"),
        ("InvalidCertificate(UnknownIssuer)", Kind.CERTIFICATE, "nobody known signed it"),
        ("InvalidCertificate(NotValidForName)", Kind.CERTIFICATE, "it is for another name"),
        ("InvalidCertificate(Expired)", Kind.CERTIFICATE, "it has expired"),
        ("InvalidMessage(InvalidContentType)", Kind.CERTIFICATE, "does not speak TLS"),
        ("PUT http://169.254.169.254/latest", Kind.NO_CREDENTIALS, "no credentials were found"),
    ],
)  # fmt: skip
def test_no_answer(said: str, kind: Kind, told: str) -> None:
    found = trouble(Answer(said=said), Verb.READ, OURS)
    assert found.kind is kind
    assert told in str(found)


def test_what_is_tried_again_is_not_what_is_set() -> None:
    assert not PASSING & MIS_SET
    for name in ("denied", "expired", "no bucket", "exists", "no key", "region", "skew"):
        assert KINDS[name] not in PASSING


@given(st.integers(0, 599), st.text(), st.text(), st.sampled_from(Verb))
def test_any_answer_is_one_line(status: int, code: str, said: str, verb: Verb) -> None:
    told = str(trouble(Answer(status, code, said), verb, OURS))
    assert len(told.splitlines()) == 1
    assert told.isprintable()


@given(st.integers(100, 599), st.text())
def test_any_body_is_an_answer(status: int, body: str) -> None:
    assert answer_in(status, body).status == status
