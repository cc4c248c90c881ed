"""Buckets of their own for tests."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tests.s3.servers import KEY, REGION, SECRET, Proxy, Server


@dataclass(frozen=True)
class Bucket:
    """A bucket that is there and empty.

    server: what clients are to reach it by, a server or a proxy. direct: the server itself, by
    which `client` looks, so that a fault does not befall it.
    """

    name: str
    server: Server
    direct: Server

    @property
    def url(self) -> str:
        """`s3://name`."""
        return f"s3://{self.name}"

    @property
    def endpoint(self) -> str:
        """The endpoint of `server`."""
        return self.server.url

    @property
    def access(self) -> dict[str, str]:
        """How it is reached, for `open_blobs(url, access)` and the like."""
        return self.server.access()

    def environment(self, prefix: str = "store") -> dict[str, str]:
        """The variables of a subprocess whose store is below `prefix` here."""
        return self.access | {
            "CROWN_STORAGE__ROOT": f"{self.url}/{prefix}".rstrip("/"),
            "NO_PROXY": "127.0.0.1",
        }

    def behind(self, proxy: Proxy) -> Bucket:
        """The same bucket, reached through a proxy."""
        return Bucket(self.name, proxy, self.direct)

    @cached_property
    def client(self) -> Any:
        """A boto3 client of the server itself, for what tests look at and damage."""
        return client(self.direct.url)

    def keys(self, prefix: str = "") -> list[str]:
        """All keys that begin so, sorted as S3 does."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, Prefix=prefix
        )
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def read(self, key: str) -> bytes:
        """The bytes of an object."""
        return bytes(self.client.get_object(Bucket=self.name, Key=key)["Body"].read())

    def write(self, key: str, data: bytes) -> None:
        """Make an object, or replace it."""
        self.client.put_object(Bucket=self.name, Key=key, Body=data)

    def remove(self, *keys: str) -> None:
        """Delete objects."""
        for key in keys:
            self.client.delete_object(Bucket=self.name, Key=key)


def client(endpoint: str, key: str = KEY, secret: str = SECRET) -> Any:
    """A boto3 client that gives up soon."""
    import boto3
    from botocore.config import Config

    plain = {"request_checksum_calculation": "when_required"}
    return boto3.client(
        "s3", endpoint_url=endpoint, region_name=REGION,
        aws_access_key_id=key, aws_secret_access_key=secret,
        config=Config(
            s3={"addressing_style": "path"}, connect_timeout=5, read_timeout=60,
            retries={"max_attempts": 3}, response_checksum_validation="when_required",
            proxies={}, **plain,
        ),
    )  # fmt: skip


@contextmanager
def fresh_bucket(server: Server) -> Iterator[Bucket]:
    """A new bucket; at the end it goes, with all that is in it."""
    bucket = Bucket(f"crown-{secrets.token_hex(6)}", server, server)
    bucket.client.create_bucket(Bucket=bucket.name)
    try:
        yield bucket
    finally:
        empty(bucket)
        bucket.client.delete_bucket(Bucket=bucket.name)
        bucket.client.close()


def empty(bucket: Bucket) -> None:
    """Remove all objects and all unfinished uploads."""
    for upload in bucket.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", []):
        bucket.client.abort_multipart_upload(
            Bucket=bucket.name, Key=upload["Key"], UploadId=upload["UploadId"]
        )
    keys = bucket.keys()
    for start in range(0, len(keys), 1000):
        objects = [{"Key": key} for key in keys[start : start + 1000]]
        bucket.client.delete_objects(Bucket=bucket.name, Delete={"Objects": objects})
