"""Uploads in parts that were begun and never ended: S3 keeps their parts, and no listing shows them.

This program writes parts only above a gigabyte, and its checkpoints have no blob of that size; other
writers do. obstore cannot ask for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from crown_exp.errors import SettingsError
from crown_exp.storage.aws import Way, way_to_s3
from crown_exp.storage.calls import Calls, deadline_of
from crown_exp.storage.objects import bucket_parts
from crown_exp.storage.parallel import left_behind
from crown_exp.storage.trouble import Place, Verb
from crown_exp.storage.vendor_errors import answer_of

CONNECT_S, READ_S = 10.0, 30.0


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

    None for a store that is not in S3. Raises StoreError, also past the deadline of `access`; SettingsError.
    """
    return await _listed(await _Uploads.of(url, access), prefix, before) if _is_s3(url) else []


async def abort_uploads(
    url: str, access: Mapping[str, str], prefix: str, before: datetime
) -> list[Unfinished]:
    """Abort what `unfinished_uploads` tells, and say what it was: its parts are freed."""
    if not _is_s3(url):
        return []
    uploads = await _Uploads.of(url, access)
    found = await _listed(uploads, prefix, before)
    for upload in found:
        await uploads.calls.again(
            partial(left_behind, uploads.abort, upload), Verb.DELETE, upload.path
        )
    return found


def _is_s3(url: str) -> bool:
    return url.startswith("s3://")


async def _listed(uploads: _Uploads, prefix: str, before: datetime) -> list[Unfinished]:
    found = await uploads.calls.again(partial(left_behind, uploads.listed, prefix), Verb.LIST, "")
    return [upload for upload in found if upload.begun < before]


@dataclass(frozen=True, slots=True)
class _Uploads:
    """What botocore is asked, one call at a time, in threads: they block."""

    calls: Calls
    way: Way
    access: Mapping[str, str]

    @classmethod
    async def of(cls, url: str, access: Mapping[str, str]) -> _Uploads:
        calls = Calls(Place(url), answer_of, deadline_of(access))
        way = await calls.again(partial(left_behind, way_to_s3, access), Verb.LIST, "")
        return cls(replace(calls, place=Place(url, way.endpoint, way.region)), way, access)

    def listed(self, prefix: str) -> list[Unfinished]:
        bucket, root = bucket_parts(self.calls.place.url)
        pages = self._client().get_paginator("list_multipart_uploads")
        return [
            Unfinished(
                item["Key"][len(root) :], item["UploadId"], item["Initiated"].astimezone(UTC)
            )
            for page in pages.paginate(Bucket=bucket, Prefix=root + prefix)
            for item in page.get("Uploads", ())
        ]

    def abort(self, upload: Unfinished) -> None:
        bucket, root = bucket_parts(self.calls.place.url)
        client = self._client()
        try:
            client.abort_multipart_upload(
                Bucket=bucket, Key=root + upload.path, UploadId=upload.upload
            )
        except client.exceptions.NoSuchUpload:
            pass  # it was ended, or aborted, meanwhile

    def _client(self) -> Any:
        try:
            from botocore.config import Config
            from botocore.session import Session
        except ImportError:
            raise SettingsError(
                "uploads that were left behind are found by botocore, which is not installed: "
                "pip install 'crown-exp[s3]'"
            ) from None
        keys = self.way.credentials() if self.way.credentials is not None else {}
        config = Config(
            connect_timeout=min(CONNECT_S, self.calls.deadline_s),
            read_timeout=min(READ_S, self.calls.deadline_s),
            retries={"total_max_attempts": 1},  # what may be tried again is decided by `Calls`
            s3={"addressing_style": "path" if self.way.endpoint else "auto"},
        )
        return Session().create_client(
            "s3",
            region_name=self.way.region or "us-east-1",
            endpoint_url=self.way.endpoint or None,
            verify=self.access.get("AWS_CA_BUNDLE"),
            aws_access_key_id=keys.get("access_key_id"),
            aws_secret_access_key=keys.get("secret_access_key"),
            aws_session_token=keys.get("token"),
            config=config,
        )
