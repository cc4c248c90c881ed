"""Plain clusters: a machine of a name, with a home that later launches find as it was left.

Where ssh's config has what SkyPilot notes of the way, the stand-in has too: below $HOME.
"""

import shutil
import sys
import uuid
from pathlib import Path
from typing import Any

from .edge import folder, reach, send
from .jobs import asked_for, colour
from .machines import Machine
from .utils.cluster_utils import SSHConfigHelper


class Cluster(Machine):
    """job: its name. attempt: the number of its newest job."""

    def __init__(self, where: Path, name: str, number: int = 0) -> None:
        super().__init__(where, name, number)
        self.node = where / "nodes" / name
        self.home = self.node / "home"

    def launch(self, asked: dict[str, Any]) -> None:
        """Its working directory is synced over what is there; then setup and run."""
        for name in ("code", "setup.failed"):
            (self.node / name).unlink(missing_ok=True)
        self.start(asked, asked["name"])

    def word(self) -> str:
        """Of its newest job."""
        code = self.code()
        if code is None:
            return "RUNNING"
        return "FAILED_SETUP" if self.setup_failed() else "FAILED" if code else "SUCCEEDED"

    def down(self) -> None:
        self.kill()
        shutil.rmtree(self.node)


def launch(
    task: Any,
    cluster_name: str,
    idle_minutes_to_autostop: int | None = None,
    down: bool = False,
    **_: Any,
) -> str:
    request = str(uuid.uuid4())
    asked = asked_for(task, cluster_name, request)
    return send("up", {**asked, "idle_minutes": idle_minutes_to_autostop, "down": down}, request)


def status(names: list[str] | None = None, *_: Any, **__: Any) -> str:
    return send("status", {"names": names})


def job_status(cluster_name: str, job_ids: list[int] | None = None, **_: Any) -> str:
    return send("job_status", {"name": cluster_name, "numbers": job_ids})


def down(cluster_name: str, **_: Any) -> str:
    path = Path(SSHConfigHelper.ssh_cluster_path.format(cluster_name)).expanduser()
    path.unlink(missing_ok=True)
    return send("down", {"name": cluster_name})


def tail_logs(
    cluster_name: str,
    job_id: int | None = None,
    follow: bool = False,
    tail: int | None = None,
    output_stream: Any = None,
    **_: Any,
) -> None:
    """What all its jobs have printed."""
    assert not follow, "the stand-in follows nothing"
    reach()
    path = folder() / "logs" / f"{cluster_name}.log"
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    out = output_stream or sys.stdout
    for line in lines[-tail:] if tail else lines:
        out.write(colour(line, "task", job_id))


def note_way(name: str) -> None:
    """As SkyPilot does: a part of ssh's config, with a key below ~."""
    path = Path(SSHConfigHelper.ssh_cluster_path.format(name)).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"# Added by sky (use `sky stop/down {name}` to remove)\n"
        f"Host {name}\n  HostName 127.0.0.1\n  User sky\n  IdentityFile ~/.sky/ssh-keys/{name}.key\n"
        f"  IdentitiesOnly yes\n  StrictHostKeyChecking no\n  Port 22\n\nHost {name}-worker1\n  Port 23\n"
    )
