"""A machine of the stand-in: a folder that is the job's home, and processes of a group of their own."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from .market import placed

# The exit code is in a file, so that it is known to a server that was started later.
RUN = """
cd "$HOME/sky_workdir" || exit 1
bash "$NODE/setup.sh"; code=$?
if [ $code = 0 ]; then bash "$NODE/run.sh"; code=$?; else touch "$NODE/setup.failed"; fi
[ $code = 0 ] || echo "failed with return code list: [$code]"
echo $code > "$NODE/code.new" && mv "$NODE/code.new" "$NODE/code"
"""


class Machine:
    """The one of a job's attempt."""

    def __init__(self, where: Path, job: int | str, attempt: int) -> None:
        self.where, self.job, self.attempt = where, job, attempt
        self.node = where / "nodes" / f"{job}-{attempt}"
        self.home = self.node / "home"

    def start(self, asked: dict[str, Any], name: str) -> None:
        """Sync the working directory, then setup and run."""
        self.home.mkdir(parents=True, exist_ok=True)
        workdir = self.home / "sky_workdir"
        if asked["upload"] is None:
            workdir.mkdir(exist_ok=True)
        else:
            upload = self.where / "uploads" / asked["upload"]
            shutil.copytree(upload, workdir, symlinks=True, dirs_exist_ok=True)
        (self.node / "setup.sh").write_text(asked["setup"] or "")
        (self.node / "run.sh").write_text(asked["run"] or "")
        log = self.where / "logs" / f"{self.job}.log"
        log.parent.mkdir(exist_ok=True)
        with log.open("ab") as output:
            process = subprocess.Popen(
                ["bash", "-c", RUN],
                env=self.environment(asked, name),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        (self.node / "pid").write_text(str(process.pid))

    def environment(self, asked: dict[str, Any], name: str) -> dict[str, str]:
        """A machine knows nothing of the client's variables but what was sent."""
        kept = {key: os.environ[key] for key in ("PATH", "LANG", "LC_ALL") if key in os.environ}
        cloud, region = placed(asked["resources"])
        info = {"cluster_name": f"{name}-{self.job}", "cloud": cloud, "region": region}
        return {
            "LANG": "C.UTF-8",
            **kept,
            "HOME": str(self.home),
            "NODE": str(self.node),
            "PYTHONUNBUFFERED": "1",
            "SKYPILOT_NODE_IPS": "127.0.0.1",
            "SKYPILOT_NODE_RANK": "0",
            "SKYPILOT_NUM_NODES": str(asked["nodes"]),
            "SKYPILOT_TASK_ID": f"sky-managed-2026-11-30-00-00-00-000000_{name}_{self.job}-0",
            "SKYPILOT_MANAGED_JOB_ID": str(self.job),
            "SKYPILOT_CLUSTER_INFO": json.dumps(info),
            **self.age(),
            **asked["env"],
        }

    def age(self) -> dict[str, str]:
        """Since when it is paid, where a test says that it is older than it is."""
        path = self.where / "older.json"
        if not path.exists():
            return {}
        return {"CROWN_MACHINE_SINCE": str(time.time() - float(path.read_text()))}

    def code(self) -> int | None:
        path = self.node / "code"
        return int(path.read_text()) if path.exists() else None

    def setup_failed(self) -> bool:
        return (self.node / "setup.failed").exists()

    def is_gone(self) -> bool:
        """Whether its processes have ended and left no exit code."""
        try:
            os.kill(self.pid(), 0)
        except ProcessLookupError:
            return self.code() is None
        return False

    def pid(self) -> int:
        return int((self.node / "pid").read_text())

    def tell(self) -> None:
        """SIGTERM to all its processes; its home is deleted under them."""
        (self.node / "told").touch()
        self._signal(signal.SIGTERM)
        shutil.rmtree(self.home, ignore_errors=True)

    def is_told(self) -> bool:
        return (self.node / "told").exists()

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self.pid(), number)
        except (ProcessLookupError, PermissionError):
            pass
