"""How s3fs is to reach a server: what it is made with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crown_exp.storage.aws import Way, session_of

CONNECT_S = 10.0
CONNECTIONS = 32


def s3fs_options(way: Way, access: Mapping[str, str], deadline_s: float) -> dict[str, Any]:
    """The arguments of S3FileSystem. Where the way has no credentials, botocore asks the machine for them.

    deadline_s: after so long without a byte the server is given up.
    """
    endpoint = way.endpoint
    client = {"region_name": way.region or None, "verify": access.get("AWS_CA_BUNDLE")}
    options: dict[str, Any] = {
        "endpoint_url": endpoint or None,
        "client_kwargs": {name: value for name, value in client.items() if value},
        "config_kwargs": {
            # The signature holds the hash of the body: a server refuses a torn one.
            "s3": {"payload_signing_enabled": True}
            | ({"addressing_style": "path"} if endpoint else {}),
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
            "connect_timeout": min(CONNECT_S, deadline_s),
            "read_timeout": deadline_s,
            "retries": {"max_attempts": 0},
            "max_pool_connections": CONNECTIONS,
        },
        "max_concurrency": 1,  # reads by ranges are ours: s3fs's may mix two versions of a blob
    }
    if way.credentials is not None:
        options["session"] = session_of(way.credentials)
    return options
