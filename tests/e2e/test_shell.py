"""`shell`: a machine with the project and its environment on it, priced, agreed to and left to end itself."""

import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.remote_runs import wait_for
from tests.running import Project
from tests.sky_project import STAND_IN, executor_of, sky_project, state_of
from tests.stand_in.sky import edge
from tests.typed import Typed

TASKS = "SAYS = 'as it was sent'\n\ndef train(run): return 1.0\n"
LOOKS = "import crown_exp, os, tasks; print(tasks.SAYS, os.getcwd(), os.environ.get('CROWN_JOB'))"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with sky_project(tmp_path / "project", TASKS) as project:
        project.environment |= {
            "PATH": f"{STAND_IN / 'bin'}{os.pathsep}{project.environment['PATH']}",
            "CROWN_SKY__HOME": str(tmp_path / "home"),
            "CROWN_USER": "Ada.L",
        }  # fmt: skip
        yield project


def clusters(project: Project) -> list[str]:
    path = state_of(project) / "clusters.json"
    return list(json.loads(path.read_text())) if path.exists() else []


def test_a_command_on_a_paid_machine_that_is_used_again_and_ended(project: Project) -> None:
    words = ("shell", "compute=on_demand", "compute.autostop_minutes=7", "--yes")
    done = project.crown(*words, "--", "python", "-c", LOOKS, "it's $HOME")
    assert done.returncode == 0, done.stdout
    assert re.search(r"^ *1 +A100:1 +.*\$\d+\.\d\d/h", done.stdout, re.MULTILINE)
    home = state_of(project) / "nodes/crown-shell-ada-l-on-demand/home"
    assert f"as it was sent {home}/sky_workdir/.crown-shell/" in done.stdout
    assert "/project None" in done.stdout
    assert done.stdout.endswith(
        "crown-shell-ada-l-on-demand ends itself when nobody was on it for 7 minutes; "
        "now: crown-exp shell --end compute=on_demand compute.autostop_minutes=7\n"
    )
    asked = json.loads((state_of(project) / "up/crown-shell-ada-l-on-demand.json").read_text())
    assert (asked["idle_minutes"], asked["down"]) == (7, True)
    (project.root / "tasks.py").write_text(TASKS.replace("was sent", "is now"))
    again = project.crown(*words, "--", "sh", "-c", f'python -c "{LOOKS}"; exit 3')
    assert again.returncode == 3
    assert "as it is now" in again.stdout
    assert clusters(project) == ["crown-shell-ada-l-on-demand"]
    ended = project.crown("shell", "--end", "compute=on_demand")
    assert (ended.returncode, ended.stdout) == (0, "crown-shell-ada-l-on-demand is ended\n")
    assert clusters(project) == []
    assert project.crown("shell", "compute=on_demand", "--end").stdout.startswith("nothing: there")


def test_a_run_there_is_one_of_our_store(project: Project) -> None:
    run = ("python", "-m", "crown_exp", "task=train")
    done = project.crown("shell", "compute=there", "--yes", "--", *run)
    assert done.returncode == 0, done.stdout
    (made,) = project.runs
    assert json.loads((made / "attempts/000001.json").read_text())["job"] is None


def test_nobody_is_there_to_agree(project: Project) -> None:
    done = project.crown("shell", "compute=there")
    assert done.returncode == 2
    assert re.search(
        r"^shell: it is paid by the hour, \$[\d. to$]+, until it is ended, and nobody is there to agree; "
        r"type --yes$", done.stdout, re.MULTILINE,
    )  # fmt: skip
    assert clusters(project) == []


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["compute=therre"], "compute=therre: group compute has no option 'therre'; did you mean there?"),
        (["compute.spott=true"], "compute.spott: no such key; did you mean spot?"),
        (["comptue=there"], "comptue=there: says nothing about a machine; did you mean compute?"),
        (["optimizer.lr=1"], "optimizer.lr=1: says nothing about a machine; expected compute=<target> or"),
        (["compute=there,local"], "compute=there,local: is several runs"),
        (["compute=there", "compute.cpus=0"], "compute.cpus: expected"),
        (["python"], "python: "),
        (["compute=there", "compute.secrets=[HF_TOKEN]"], "compute.secrets: HF_TOKEN is not set here"),
        (["compute=there", "compute.shared=false"], "the store file:"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_in_a_line_and_nothing_is_started(
    project: Project, words: list[str], line: str
) -> None:
    done = project.crown("shell", *words, "--yes")
    assert done.returncode == 2
    (told,) = done.stdout.splitlines()
    assert told.startswith(line)
    assert clusters(project) == []


def test_an_environment_that_cannot_be_made_ends_the_machine(project: Project) -> None:
    (project.root / "conf/compute/bad.yaml").write_text(
        (project.root / "conf/compute/there.yaml").read_text()
        + "setup: [echo no such disk; exit 4]\n"
    )
    done = project.crown("shell", "compute=bad", "--yes")
    assert done.returncode == 1
    assert "the machine could not be set up" in done.stdout
    assert "no such disk" in done.stdout
    assert clusters(project) == []


# --- on a terminal --------------------------------------------------------------------------------------


def test_a_shell_there_asks_first_and_begins_in_the_project(project: Project) -> None:
    typed = Typed(project, "shell", "compute=there")
    typed.wait_for("until it is ended. Go on?")
    typed.type("y\n")
    typed.wait_for("making it ready")
    typed.type('python -c \'import tasks, os; print("be" "gan", tasks.SAYS, os.isatty(0))\'\n')
    typed.wait_for("began as it was sent True")
    typed.type("exit 4\n")
    assert typed.end() == 4
    assert "crown-exp shell --end compute=there" in typed.said


def test_ctrl_c_while_it_is_made_ready_says_how_to_end_it(project: Project) -> None:
    edge.delay(state_of(project), launch=1e6)
    typed = Typed(project, "shell", "compute=there", "--yes")
    typed.wait_for("making it ready")
    wait_for(lambda: list((state_of(project) / "requests").glob("*.json")))  # it is asked for
    typed.type("\x03")
    assert typed.end() == 130
    assert (
        "may come all the same, and ends itself after 10 idle minutes; now: crown-exp" in typed.said
    )


def test_no_is_no(project: Project) -> None:
    typed = Typed(project, "shell", "compute=there")
    typed.wait_for("Go on?")
    typed.type("n\n")
    assert typed.end() == 130
    assert "no machine was started" in typed.said
    assert clusters(project) == []


def test_here_it_is_a_shell_in_the_project_that_ctrl_c_does_not_end(project: Project) -> None:
    typed = Typed(project, "shell", SHELL="/bin/sh")
    typed.type('python -c \'import tasks, time; print("be" "gan", tasks.SAYS); time.sleep(60)\'\n')
    typed.wait_for("began as it was sent")
    typed.type("\x03")
    typed.wait_for("KeyboardInterrupt")
    typed.type("echo go''es on; exit 3\n")
    assert typed.end() == 3
    assert "goes on" in typed.said
    assert "ends itself" not in typed.said


def test_here_a_command_finds_the_project_from_below_it(project: Project) -> None:
    done = project.crown("shell", "--", sys.executable, "-c", LOOKS)
    assert (done.returncode, done.stdout) == (0, f"as it was sent {project.root} None\n")
    ended = project.crown("shell", "--end")
    assert (ended.returncode, ended.stdout.split(":")[0]) == (0, "nothing")


def test_what_is_not_there_is_told(project: Project) -> None:
    done = project.crown("shell", "--", "no-such-program")
    assert done.returncode == 127
    with executor_of(project) as executor:
        assert not executor.release("nobody")


def test_a_killed_word_leaves_a_machine_that_ends_itself(project: Project) -> None:
    words = ("shell", "compute=there", "--yes", "--", "sh", "-c", "echo began; sleep 60")
    with project.popen(*words, start_new_session=True) as child:
        assert child.stdout is not None
        while "began" not in child.stdout.readline():
            assert child.poll() is None
        os.killpg(child.pid, signal.SIGKILL)
    assert clusters(project) == ["crown-shell-ada-l-there"]
    assert project.crown("shell", "--end", "compute=there").returncode == 0
    assert clusters(project) == []
