"""The way to a person's cluster, as SkyPilot notes it for ssh, held against ssh itself."""

import contextlib
import getpass
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from crown_exp.compute.base import Job, Target
from crown_exp.compute.executors.skypilot import terminal
from crown_exp.testing.executors import ODD_WORDS
from tests.slurm import free_ports

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
    return terminal.ssh("crown-shell", NOTED, "/of/sky", "exec true", tty=tty)


@pytest.mark.skipif(shutil.which("ssh") is None, reason="no ssh here")
def test_ssh_takes_it_for_the_first_machine_with_the_key_in_the_home_of_skypilot() -> None:
    done = subprocess.run(
        ["ssh", "-G", *argv()[1:]], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
    )  # fmt: skip
    told = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    key = "/of/sky/.sky/clients/1/ssh/sky-key"
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


SSHD = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
ForceCommand cd {folder} && exec bash -c "$SSH_ORIGINAL_COMMAND"
"""
"""Whoever comes is in a folder of the test, as in a home; they run what they asked for."""

LOOKS = """
import json, os, sys
print(json.dumps([os.getcwd(), os.environ["TOKEN"], sys.stdout.isatty(), *sys.argv[1:]]))
sys.exit(5)
"""


@pytest.fixture
def noted(tmp_path: Path) -> Iterator[str]:
    """What SkyPilot would note of a machine with an sshd of its own."""
    for name in ("host", "key"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True
        )
    port = free_ports(1)
    (tmp_path / "sshd.conf").write_text(SSHD.format(port=port, folder=tmp_path))
    with subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", tmp_path / "sshd.conf"]) as sshd:
        while sshd.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.02)
        yield (
            f"Host machine\n  HostName 127.0.0.1\n  User {getpass.getuser()}\n  IdentityFile ~/key\n"
            f"  IdentitiesOnly yes\n  StrictHostKeyChecking no\n  UserKnownHostsFile=/dev/null\n"
            f"  GlobalKnownHostsFile=/dev/null\n  Port {port}\n"
        )
        sshd.terminate()


@pytest.mark.skipif(
    os.getuid() != 0 or not Path("/usr/sbin/sshd").exists() or not Path("/run/sshd").is_dir(),
    reason="needs root, and an sshd that is set up",
)
@pytest.mark.parametrize("tty", [False, True])
def test_by_a_real_ssh_all_arrives_as_it_is(tmp_path: Path, noted: str, tty: bool) -> None:
    job = Job(
        "machine", (sys.executable, "-c", LOOKS, *ODD_WORDS), Target(), secrets={"TOKEN": "hush $x"}
    )
    (tmp_path / "sky_workdir").mkdir()
    subprocess.run(
        terminal.keeping(job), cwd=tmp_path / "sky_workdir", check=True,
        env={"PATH": os.environ["PATH"], "TOKEN": "hush $x"},
    )  # fmt: skip
    command = terminal.ssh("machine", noted, str(tmp_path), terminal.arrival(job), tty=tty)
    if tty:  # script gives it a terminal
        command = ["script", "-qec", shlex.join(command), "/dev/null"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 5, done.stderr
    said = done.stdout[done.stdout.index("[") :]  # script shows that its input has ended
    assert json.loads(said) == [
        str(tmp_path / "sky_workdir"), "hush $x", tty, *ODD_WORDS,
    ]  # fmt: skip
