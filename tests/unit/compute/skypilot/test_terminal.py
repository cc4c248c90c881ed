"""The way to a person's cluster, as SkyPilot notes it for ssh, held against ssh itself."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from crown_exp.compute.base import Job, Target
from crown_exp.compute.executors.skypilot import terminal

NOTED = """\
# Added by sky (use `sky stop/down crown-shell` to remove)
Host crown-shell
  HostName 10.1.2.3
  User ubuntu
  IdentityFile ~/.sky/clients/1/ssh/sky-key
  IdentitiesOnly yes
  StrictHostKeyChecking no
  UserKnownHostsFile=/dev/null
  GlobalKnownHostsFile=/dev/null
  Port 2222
  SetEnv SKYPILOT_CLUSTER_NAME=crown-shell-1
  ProxyCommand ssh -i ~/.sky/clients/1/ssh/sky-key -W '[%h]:%p' jump@10.0.0.1

# Added by sky (use `sky stop/down crown-shell` to remove)
Host crown-shell-worker1
  HostName 10.1.2.4
  Port 2223
"""


def argv(*, tty: bool = True) -> list[str]:
    return terminal.ssh("crown-shell", NOTED, "/home/of/sky", "exec true", tty=tty)


@pytest.mark.skipif(shutil.which("ssh") is None, reason="no ssh here")
def test_ssh_takes_it_for_the_first_machine_with_the_key_in_the_home_of_skypilot() -> None:
    done = subprocess.run(
        ["ssh", "-G", *argv()[1:]], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
    )  # fmt: skip
    told = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    key = "/home/of/sky/.sky/clients/1/ssh/sky-key"
    assert {name: told[name] for name in ("hostname", "user", "port", "identityfile")} == {
        "hostname": "10.1.2.3", "user": "ubuntu", "port": "2222", "identityfile": key,
    }  # fmt: skip
    assert told["proxycommand"] == f"ssh -i {key} -W '[%h]:%p' jump@10.0.0.1"
    assert told["userknownhostsfile"] == "/dev/null"
    assert told["stricthostkeychecking"] in ("false", "no")
    assert told["requesttty"] == "true"


def test_without_a_terminal_none_is_asked_for() -> None:
    assert "-T" in argv(tty=False)
    assert "-t" not in argv(tty=False)


def test_the_way_there_holds_no_value_of_a_variable_and_what_is_kept_is_for_its_user_alone(
    tmp_path: Path,
) -> None:
    words = ("it's", "$HOME", "a b", "")
    job = Job("shell", words, Target(env={"A": "is hush"}), secrets={"TOKEN": "hush"})
    assert "hush" not in " ".join([*terminal.keeping(job), terminal.arrival(job)])
    inner = shlex.split(shlex.split(terminal.arrival(job))[-1])
    assert tuple(inner[-4:]) == words
    subprocess.run(
        [sys.executable, *terminal.keeping(job)[1:]], cwd=tmp_path, check=True,
        env={"PATH": "/bin", "TOKEN": "hush", "OTHER": "x"},
    )  # fmt: skip
    (kept,) = tmp_path.iterdir()
    assert json.loads(kept.read_text()) == {"PATH": "/bin", "TOKEN": "hush"}
    assert kept.stat().st_mode & 0o777 == 0o600
