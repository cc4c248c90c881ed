"""Uploads in parts that were begun and never ended: S3 keeps their parts, and no listing shows them.

This program writes no parts, other writers may (s3fs beyond a gigabyte). obstore cannot ask for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from crown_exp.errors import SettingsError
from crown_exp.storage.aws import way_to_s3
from crown_exp.storage.calls import Calls
from crown_exp.storage.parallel import in_thread
from crown_exp.storage.trouble import Place, Verb
from crown_exp.storage.vendor_errors import answer_of

CONNECT_S, READ_S = 10, 30


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An upload that was begun at a time by the server's clock. path: within the store."""

    path: str
    upload: str
    begun: datetime


async def unfinished_uploads(
    url: str, access: Mapping[str, str], prefix: str, before: datetime
) -> list[Unfinished]:
    """The uploads to paths of the store at `url` that begin with `prefix`, begun before `before`.

    None for a store that is not in S3. Raises StoreError, SettingsError.
    """
    return await in_thread(_listed, url, access, prefix, before) if _is_s3(url) else []


async def abort_uploads(
    url: str, access: Mapping[str, str], prefix: str, before: datetime
) -> list[Unfinished]:
    """Abort what `unfinished_uploads` tells, and say what it was: its parts are freed."""
    found = await unfinished_uploads(url, access, prefix, before)
    if found:
        await in_thread(_abort, url, access, found)
    return found


def _is_s3(url: str) -> bool:
    return url.startswith("s3://")


def _parts_of(url: str) -> tuple[str, str]:
    bucket, _, root = url.removeprefix("s3://").rstrip("/").partition("/")
    return bucket, f"{root}/" if root else ""


def _listed(url: str, access: Mapping[str, str], prefix: str, before: datetime) -> list[Unfinished]:
    bucket, root = _parts_of(url)
    with _explained(url, access, Verb.LIST):
        pages = _client(access).get_paginator("list_multipart_uploads")
        found = [
            Unfinished(
                item["Key"][len(root) :], item["UploadId"], item["Initiated"].astimezone(UTC)
            )
            for page in pages.paginate(Bucket=bucket, Prefix=root + prefix)
            for item in page.get("Uploads", ())
        ]
    return [upload for upload in found if upload.begun < before]


def _abort(url: str, access: Mapping[str, str], uploads: Iterable[Unfinished]) -> None:
    bucket, root = _parts_of(url)
    client = _client(access)
    with _explained(url, access, Verb.DELETE):
        for upload in uploads:
            try:
                client.abort_multipart_upload(
                    Bucket=bucket, Key=root + upload.path, UploadId=upload.upload
                )
            except client.exceptions.NoSuchUpload:
                pass  # it was ended, or aborted, meanwhile


def _client(access: Mapping[str, str]) -> Any:
    try:
        from botocore.config import Config
        from botocore.session import Session
    except ImportError:
        raise SettingsError(
            "uploads that were left behind are found by botocore, which is not installed: "
            "pip install 'crown-exp[s3]'"
        ) from None
    way = way_to_s3(access)
    keys = way.credentials() if way.credentials is not None else {}
    config = Config(
        connect_timeout=CONNECT_S,
        read_timeout=READ_S,
        retries={"mode": "standard"},
        s3={"addressing_style": "path" if way.endpoint else "auto"},
    )
    return Session().create_client(
        "s3",
        region_name=way.region or "us-east-1",
        endpoint_url=way.endpoint or None,
        verify=access.get("AWS_CA_BUNDLE"),
        aws_access_key_id=keys.get("access_key_id"),
        aws_secret_access_key=keys.get("secret_access_key"),
        aws_session_token=keys.get("token"),
        config=config,
    )


@contextmanager
def _explained(url: str, access: Mapping[str, str], verb: Verb) -> Iterator[None]:
    """What botocore raises as an error made for the user."""
    try:
        yield
    except Exception as error:
        way = way_to_s3(access)
        calls = Calls(Place(url, way.endpoint, way.region), answer_of)
        found = calls.failed(error, verb, "")
        if found is None:
            raise
        raise found from error
