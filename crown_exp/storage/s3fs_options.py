"""How s3fs is to reach a server: what it is made with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crown_exp.storage.aws import endpoint_of, region_of

CONNECT_S = 10.0
CONNECTIONS = 32


def s3fs_options(access: Mapping[str, str], deadline_s: float) -> dict[str, Any]:
    """The arguments of S3FileSystem. Without keys or a profile in `access`, AWS's usual chain finds some.

    deadline_s: after so long without a byte the server is given up.
    """
    endpoint = endpoint_of(access)
    client = {"region_name": region_of(access) or None, "verify": access.get("AWS_CA_BUNDLE")}
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
    if "AWS_ACCESS_KEY_ID" in access:
        options |= {
            "key": access["AWS_ACCESS_KEY_ID"],
            "secret": access.get("AWS_SECRET_ACCESS_KEY"),
            "token": access.get("AWS_SESSION_TOKEN"),
        }
    elif "AWS_PROFILE" in access:
        options["profile"] = access["AWS_PROFILE"]
    return options
