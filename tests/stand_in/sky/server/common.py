"""Who answers: what a client of SkyPilot finds in `sky.server.common`."""

import json
import os
from typing import Any

from ..edge import folder, reach, start  # noqa: TID252 - the package has two names

LOCAL = "http://127.0.0.1:46580"


class Response:
    """As that of `requests`."""

    def __init__(self, status_code: int, value: Any) -> None:
        self.status_code, self.value = status_code, value

    def raise_for_status(self) -> None:
        """None of the codes that are given here is an error that is not looked at before."""

    def json(self) -> Any:
        return self.value


def check_server_healthy_or_start_fn() -> None:
    """What every call of the SDK begins with."""
    reach()
    start()


def get_server_url() -> str:
    return os.environ.get("SKYPILOT_API_SERVER_ENDPOINT", LOCAL).rstrip("/")


def is_api_server_local(endpoint: str) -> bool:
    return endpoint == LOCAL


def make_authenticated_request(method: str, path: str) -> Response:
    """`GET /users`: those that every server has, from when its database was made; as seen of 0.14.1."""
    assert (method, path) == ("GET", "/users")
    if (folder() / "secretive").exists():
        return Response(404, {"detail": "Not Found"})
    begun = json.loads((folder() / "begun.json").read_text())
    names = ("fcd1e5cf", "skypilot-system", "skypilot-system-viewer")
    each = {"created_at": begun, "role": "admin", "user_type": "system"}
    return Response(200, [{"id": name, "name": name, **each} for name in names])
