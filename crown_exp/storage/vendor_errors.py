"""What the exceptions of file systems under fsspec say, whatever their vendor calls them."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from typing import Any

from crown_exp.storage.aws import NoCredentials
from crown_exp.storage.trouble import Answer

_ANSWERS: tuple[tuple[type[OSError], int, str], ...] = (
    (FileNotFoundError, 404, "NoSuchKey"),
    (FileExistsError, 412, ""),
    (PermissionError, 403, ""),
)
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_OURS = frozenset({"builtins", "crown_exp", "fsspec"})
"""Errors of these packages that are no OSError are mistakes of a program, not answers of a server."""


def answer_of(error: Exception) -> Answer | None:
    """What came instead of success; None if the error is not of a server or the way to it."""
    chain = tuple(_chain(error))
    if without := next((one for one in chain if isinstance(one, NoCredentials)), None):
        return Answer(code="NoCredentials", said=str(without))
    for one in chain:  # s3fs makes an OSError of what S3 answered, with less in it
        response = getattr(one, "response", None)
        if isinstance(response, Mapping) and "Error" in response:
            return _answer_of_s3(response)
    # Not of what it came from: aiohttp calls it a 400 when an answer's body breaks off.
    status = getattr(error, "status_code", None) or getattr(error, "code", None)
    if isinstance(status, int) and 300 <= status < 600:
        return Answer(status=status, said=str(error))
    for kind, number, word in _ANSWERS:
        if isinstance(error, kind):
            return Answer(number, word, str(error))
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return Answer(status=507, said=str(error))
    foreign = type(error).__module__.partition(".")[0] not in _OURS
    if foreign or isinstance(error, OSError):
        return Answer(said=" ".join(f"{type(one).__name__}: {one}" for one in chain))
    return None


def _answer_of_s3(response: Mapping[str, Any]) -> Answer:
    told, about = response["Error"], response.get("ResponseMetadata", {})
    headers = about.get("HTTPHeaders", {})
    code = str(told.get("Code", ""))
    return Answer(
        status=int(about.get("HTTPStatusCode") or (code if code.isdecimal() else 0)),
        code="" if code.isdecimal() else code,
        said=str(told.get("Message", "")),
        region=str(told.get("Region") or headers.get("x-amz-bucket-region") or ""),
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__
