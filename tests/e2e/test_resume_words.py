"""`resume`, `resume=` and `fork`: what they go on with, what they refuse, in one line and without a trace."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import crown_exp
from crown_exp.folder import RunPaths
from tests.e2e.conftest import CommandLine, Said

GOING = '''
"""A task that is interrupted where a file says so."""
import os
import signal
from pathlib import Path

from crown_exp import Config


def train(run, env: Config | None = None, *, lr: float = 0.1, turns: int = 12, log_every: int = 1):
    total = run.state(value=0.0)
    for turn in run.steps(turns):
        stop = Path(".crown/stop")
        if stop.exists() and int(stop.read_text()) == turn + 1:
            stop.unlink()
            os.kill(os.getpid(), signal.SIGINT)
        total.value += lr
        run.log(total=total.value)
    if Path(".crown/fail").exists():
        raise ValueError("no good")
    return {"total": total.value}
'''
MINE = (
    "# @package _global_\ndefaults:\n  - /env: small\n  - override /task: going\n"
    "identity:\n  ignore: [task.log_every]\ntask:\n  log_every: 1\ncheckpoint:\n  every: 4 steps\n"
)
RUN = "+experiment=mine"


class Place:
    """A project with one experiment, and its command line."""

    def __init__(self, crown: CommandLine) -> None:
        self.crown, self.root = crown, crown.root

    def __call__(self, *arguments: str) -> Said:
        return self.crown(*arguments)

    def stopped(self, *overrides: str, at: int = 6) -> str:
        """A run that was interrupted in a turn; the end of its id."""
        self.crown.write(".crown/stop", str(at))
        said = self(RUN, *overrides)
        assert said.code == 130, said.err
        return self.newest()

    def newest(self) -> str:
        return str(self.crown.runs()[-1]["id"]).partition("-")[2]

    def folder(self, tail: str) -> Path:
        (found,) = self.root.glob(f".crown/store/runs/*-{tail}")
        return found

    def record(self, tail: str) -> dict[str, Any]:
        return json.loads((self.folder(tail) / "run.json").read_text())  # type: ignore[no-any-return]

    def attempt(self, tail: str, number: int) -> dict[str, Any]:
        file = self.folder(tail) / f"attempts/{number:06}.json"
        return json.loads(file.read_text())  # type: ignore[no-any-return]

    def result(self, tail: str) -> float:
        told = json.loads((self.folder(tail) / "result.json").read_text())["result"]["total"]
        return round(float(told), 6)

    def trees(self) -> dict[str, bytes]:
        """Every file below the project, but Python's caches and what SQLite keeps beside its database."""
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in self.root.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts and "registry" not in path.name
        }

    def refused(self, code: int, *arguments: str) -> str:
        """The one line of a command that ends so and leaves nothing behind."""
        before = self.trees()
        said = self(*arguments)
        assert said.code == code, said.err
        assert self.trees() == before
        assert "Traceback" not in said.err
        assert said.out == ""
        (line,) = said.lines
        return line


@pytest.fixture
def place(crown: CommandLine) -> Iterator[Place]:
    crown.write("going.py", GOING)
    crown.write("conf/task/going.yaml", "_target_: going.train\nlr: 0.1\n")
    crown.write("conf/experiment/mine.yaml", MINE)
    yield Place(crown)
    sys.modules.pop("going", None)


# --- going on -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["word", "alone", "id", "latest", "python", "the word's latest"])
def test_a_run_goes_on_to_the_result_of_one_never_touched(place: Place, how: str) -> None:
    tail = place.stopped()
    match how:
        case "word":
            said = place("resume", tail)
        case "alone":
            said = place(f"resume={tail}")
        case "id":
            said = place(RUN, f"resume={tail}")
        case "latest":
            said = place(RUN, "resume=latest")
        case "the word's latest":
            said = place("resume", "latest")
        case _:
            assert crown_exp.start(RUN, "resume=latest").result["total"] == pytest.approx(1.2)
            assert crown_exp.start(f"resume={tail}").result["total"] == pytest.approx(1.2)
            said = Said(0, "", "goes on after step 6")
    assert said.code == 0, said.err
    assert "goes on after step 6" in said.err or how == "python"
    assert place.result(tail) == 1.2
    assert len(place.crown.runs()) == 1


def test_what_a_stop_says_to_type_goes_on(place: Place) -> None:
    place.crown.write(".crown/stop", "6")
    said = place(RUN)
    (line,) = [line for line in said.lines if line.startswith("next")]
    word, *arguments = shlex.split(line.removeprefix("next"))
    assert (word, arguments) == ("crown-exp", ["resume", place.newest()])
    assert place(*arguments).code == 0


def test_what_cannot_change_the_result_may_differ_and_is_recorded(place: Place) -> None:
    tail = place.stopped()
    place.crown.write(".crown/stop", "9")
    said = place(
        "resume", tail, "device.workers=1", "tracker=none", "limits.attempt='3 hours'", "task.log_every=5",
        "checkpoint.every='2 steps'",
    )  # fmt: skip
    assert said.code == 130, said.err
    changes = {
        "device.workers": 1, "tracker.progress": "none", "limits.attempt": "3 hours", "task.log_every": 5,
        "checkpoint.every": "2 steps",
    }  # fmt: skip
    assert place.attempt(tail, 1)["changes"] is None
    assert place.attempt(tail, 2)["changes"] == changes
    assert place("resume", tail, "device.workers=0").code == 0
    assert place.attempt(tail, 3)["changes"] == changes | {"device.workers": 0}
    assert place.result(tail) == 1.2


def test_the_composed_config_says_what_is_not_the_result_s(place: Place) -> None:
    tail = place.stopped("device.workers=1", "name=mine", "seed=null")
    assert place(RUN, f"resume={tail}", "seed=null", "task.log_every=3").code == 0
    assert place.attempt(tail, 2)["changes"] == {"device.workers": 0, "task.log_every": 3}


def test_latest_is_the_newest_with_that_signature_without_a_database(place: Place) -> None:
    first, second = place.stopped(), place.stopped()
    place.stopped("task.lr=0.5")
    for file in place.root.glob(".crown/registry*"):
        file.unlink()
    assert place(RUN, "resume=latest").code == 0
    assert place.result(second) == 1.2
    assert not (place.folder(first) / "result.json").exists()


def test_a_run_that_is_over_is_told_and_not_run(place: Place) -> None:
    assert place(RUN).code == 0
    tail = place.newest()
    for arguments in (["resume", tail], [f"resume={tail}"], [RUN, "resume=latest"]):
        before = place.trees()
        said = place(*arguments)
        assert (said.code, place.trees()) == (0, before)
        assert said.lines == [
            f"{place.record(tail)['id']} is completed already; nothing was run",
            "  total            1.2",
        ]
    place.crown.write(".crown/fail", "")
    assert place(RUN, "task.lr=0.3").code == 1
    line = place.refused(1, "resume", place.newest())
    assert line.endswith("failed (ValueError: no good) already; nothing was run")


# --- what makes another result --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("resume", "{tail}", "task.lr=0.2"),
        ("resume={tail}", "task.lr=0.2"),
        (RUN, "task.lr=0.2", "resume={tail}"),
        (RUN, "task.lr=0.2", "resume=latest"),
    ],
)
def test_the_fork_that_is_offered_makes_that_run(place: Place, arguments: tuple[str, ...]) -> None:
    tail = place.stopped()
    line = place.refused(2, *(text.format(tail=tail) for text in arguments))
    told, _, offered = line.partition("; a new run from its state: ")
    assert told.endswith("keeps what decides its result; this differs: task.lr (0.1 -> 0.2)")
    assert offered == f"crown-exp fork {tail}@6 task.lr=0.2"
    said = place(*shlex.split(offered)[1:])
    assert said.code == 0, said.err
    assert place.result(place.newest()) == pytest.approx(0.6 + 6 * 0.2)


def test_every_key_that_differs_is_named_and_offered(place: Place) -> None:
    tail = place.stopped()
    line = place.refused(
        2, RUN, "resume=latest", "seed=3", "env.size=7", "env=large", "task.turns=14"
    )
    for told in ("seed (0 -> 3)", "env.size (1 -> 7)", "task.turns (the default -> 14)"):
        assert told in line
    offered = shlex.split(line.rpartition(": crown-exp ")[2])
    assert offered[:2] == ["fork", f"{tail}@6"]
    assert set(offered[2:]) == {"seed=3", "env.size=7", "task.turns=14"}
    assert place(*offered).code == 0


def test_without_a_checkpoint_a_new_run_is_offered(place: Place) -> None:
    tail = place.stopped()
    shutil.rmtree(place.folder(tail) / "checkpoints")
    shutil.rmtree(place.folder(tail) / "packs", ignore_errors=True)
    line = place.refused(2, "resume", tail, "task.lr=0.2")
    nothing, _, how = line.partition("; nothing of it is saved to fork from: ")
    assert nothing and how.startswith(f"crown-exp resume {tail} goes on with it as it is; ")
    assert how.endswith("with another value, make a new run")
    line = place.refused(2, RUN, "task.lr=0.2", "resume=latest")
    assert line.endswith("nothing of it is saved to fork from: leave resume out to make a new run")


# --- fork -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["", "@latest", "@6"])
def test_a_fork_is_a_run_of_its_own(place: Place, at: str) -> None:
    tail = place.stopped()
    before = place.trees()
    said = place("fork", f"{tail}{at}", "task.lr=1.0", "name=steeper", "tags=[a]", "seed=5")
    assert said.code == 0, said.err
    fork, origin = place.record(place.newest()), place.record(tail)
    assert before.items() <= place.trees().items()
    assert fork["lineage"] == {"fork": {"run": origin["id"], "step": 6, "attempt": 1}}
    assert (fork["name"], fork["tags"], fork["seed"]) == ("steeper", ["a"], 5)
    assert fork["id"] != origin["id"]
    assert place.result(place.newest()) == pytest.approx(0.6 + 6)
    assert said.lines[0] == f"{fork['id']} recorded, forked from {origin['id']}@6"
    assert said.lines[-1] == f"next    crown-exp compare {tail} {place.newest()}"


def test_a_fork_s_result_is_not_that_of_a_plain_run(place: Place) -> None:
    tail = place.stopped()
    assert place("fork", tail, "task.turns=8").code == 0
    assert place(RUN, "task.turns=8").code == 0
    signatures = [run["signature"] for run in place.crown.runs()]
    assert len(set(signatures)) == 3
    place("fork", tail, "task.turns=8")
    assert place.crown.runs()[-1]["signature"] == signatures[1]


def test_a_fork_is_forked_and_resumed(place: Place) -> None:
    tail = place.stopped()
    place.crown.write(".crown/stop", "8")
    assert place("fork", tail, "task.lr=0.2").code == 130
    fork = place.newest()
    assert (
        place("fork", f"{fork}@8", "env=large", "~task.log_every", "identity.ignore=[]").code == 0
    )
    assert place.record(place.newest())["lineage"]["fork"]["run"].endswith(fork)
    assert place.result(place.newest()) == pytest.approx(0.6 + 6 * 0.2)
    assert place("resume", fork).code == 0
    assert place.result(fork) == pytest.approx(0.6 + 6 * 0.2)
    assert place(RUN, "resume=latest").code == 0  # the plain run, no fork
    assert place.result(tail) == 1.2


# --- changed code ---------------------------------------------------------------------------------------


def test_changed_code_is_said_or_refused(place: Place) -> None:
    subprocess.run(["git", "init", "-q"], check=True)
    place.crown.write(".gitignore", ".crown\n__pycache__\n")
    subprocess.run(["git", "add", "."], check=True)
    subprocess.run(
        ["git", "-c", "user.name=me", "-c", "user.email=me@x", "commit", "-qm", "x"], check=True
    )
    tail = place.stopped()
    run = place.record(tail)["id"]
    place.crown.write(".crown/stop", "8")
    assert "changed" not in place("resume", tail).err
    place.crown.write("going.py", GOING.replace("no good", "bad") + "\n# more\n")
    place.crown.write("other.py", "a = 1\n")
    told = f"the code changed since {run} was made: going.py +3 -1"  # other.py: nobody imported it
    assert place.refused(2, "resume", tail, "identity.code=refuse") == (
        f"identity.code=refuse: {told}; nothing was run: put it back, or type identity.code=warn"
    )
    said = place("resume", tail)
    assert said.code == 0, said.err
    assert [line for line in said.lines if "changed" in line] == [f"warning: {told}"]


def test_code_that_cannot_be_compared_counts_as_changed(place: Place) -> None:
    tail = place.stopped("identity.code=refuse")
    assert place.refused(2, "resume", tail, "identity.code=warn", "name=x").startswith("name: ")
    place.crown.write("going.py", GOING + "\n# more\n")
    shutil.rmtree(place.folder(tail) / "code")
    assert "which is not in its folder" in place.refused(2, "resume", tail)
    assert place("resume", tail, "identity.code=warn").code == 0


# --- bad input ------------------------------------------------------------------------------------------


BAD = (
    ("resume zzz", "zzz: no run in file://"),
    ("resume=zzz", "zzz: no run in file://"),
    (f"{RUN} resume=zzz", "zzz: no run in file://"),
    ("resume r", "r: several runs fit: "),
    ("fork zzz@3", "zzz: no run in file://"),
    ("resume ''", "run: expected an id, its beginning, or latest"),
    ("resume ../x", "../x: expected an id, or the folder of a run: <store>/runs/<id>"),
    ("resume memory://x/runs/r1", "memory://x/runs/r1: what is in memory is gone with"),
    ("resume gopher://x/runs/r1", "…/runs/r1: no store speaks gopher://"),
    ("fork file://x/runs/r1@4", "…/runs/r1: a file:// URL has three slashes"),
    ("resume", "Missing argument 'RUN'. Try: crown-exp help resume"),
    ("fork", "Missing argument 'RUN[@STEP]'. Try: crown-exp help fork"),
    ("resume -m {tail}", "-m: resume goes on with one run"),
    ("fork -m {tail}", "-m: fork makes one run: leave it out"),
    ("-m resume={tail}", "resume: goes on with one run; leave out -m"),
    (f"-m {RUN} resume={{tail}}", "resume: goes on with one run; leave out -m"),
    (f"-m {RUN} resume=latest seed=1,2", "resume: goes on with one run; leave out -m"),
    (f"{RUN} resume={{tail}} seed=1,2", "seed=1,2: is a sweep of 2 runs; nothing was started"),
    ("resume={tail} seed=1,2", "seed=1,2: is several runs; one at a time"),
    ("resume {tail} device.workers=1,2", "device.workers=1,2: is several runs"),
    ("fork {tail} task.lr=1,2", "task.lr=1,2: is several runs; one at a time: type one value"),
    ("resume {tail} device.workesr=2", "device.workesr: no such key; did you mean workers?"),
    ("resume {tail} device.workers=-2", "device.workers: expected an int >= 0, got -2"),
    ("resume {tail} tracker=wnadb", "tracker=wnadb: group tracker has no option 'wnadb'; did"),
    ("resume {tail} limits.run=soon", "limits.run: expected a time such as '5 minutes' or"),
    ("resume {tail} checkpoint.every=3", "checkpoint.every: expected '10 steps', '5 minutes'"),
    ("resume {tail} ~env", "~env: a resumed run keeps its keys"),
    ("resume {tail} workers", "workers: expected key=value"),
    ("resume {tail} debug=true", "debug: a debug run keeps nothing"),
    ("resume {tail} name=x", "name: is what the run was made with"),
    ("resume {tail} tags=[x]", "tags: are changed without running anything: crown-exp tag"),
    ("resume {tail} identity.ignore=[task.lr]", "identity.ignore: says what the run's sig"),
    ("resume {tail} resume={tail}", "resume: the run is named already"),
    ("resume {tail} experiment=mine", "experiment=mine: a recorded run keeps its preset"),
    ("resume {tail} hydra.verbose=true", "hydra.verbose=true: says how a run is composed"),
    ("resume {tail} device.kind=cuda", "device: cuda is not available on this machine"),
    (f"{RUN} resume=latest debug=true", "debug=true: a debug run keeps nothing"),
    (f"{RUN} resume=latest seed=null", "resume=latest: seed=null draws another seed"),
    (f"{RUN} resume=latest hydra/launcher=basic", "resume: needs hydra/launcher=crown"),
    ("+experiment=quick resume=latest", "resume=latest: no run of this experiment is in"),
    ("fork {tail}@5", "{tail}@5: no checkpoint at step 5; there are 4, 6"),
    ("fork {tail}@six", "{tail}@six: expected RUN@STEP or RUN@latest, got 'six' for a step"),
    ("fork {tail}@", "{tail}@: expected RUN@STEP or RUN@latest, got '' for a step"),
    ("fork {tail}@-1", "{tail}@-1: expected RUN@STEP or RUN@latest"),
    ("fork @4", "run: expected an id, its beginning, or latest"),
    ("fork {tail} task.rl=1", "task.rl: no such key; did you mean lr?"),
    ("fork {tail} debug=true", "debug: a debug run begins anew"),
    ("fork {tail} resume=latest", "resume: a fork is a new run"),
    ("resume {tail} --takeover", "No such option '--takeover'. Did you mean '--take-over'?"),
)  # fmt: skip


def test_bad_input_costs_a_line(place: Place) -> None:
    place.stopped()
    tail = place.stopped()
    for arguments, words in BAD:
        line = place.refused(2, *shlex.split(arguments.format(tail=tail)))
        assert line.startswith(words.format(tail=tail)), line


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("run.json", None, "its folder has no run.json, so it is no whole run; nothing was run"),
        ("run.json", b"{", "run.json: damaged, not JSON"),
        ("run.json", b'{"format": 1, "id": "x"}', "run.json: damaged, name is missing"),
        ("config.yaml", None, "config.yaml: is missing, so the run is not whole; nothing was run"),
        ("config.yaml", b"a: [", "config.yaml: damaged, not the config that was recorded"),
        ("config.yaml", b"\xff\xfe", "config.yaml: damaged, not the config that was recorded"),
        ("config.yaml", b"a: 1", "config.yaml: damaged, not the config that was recorded"),
        ("attempts/000001.json", b"", "attempts/000001.json: damaged, not JSON"),
    ],
)
@pytest.mark.parametrize("word", ["resume", "fork"])
def test_a_run_whose_folder_is_half_there(
    place: Place, word: str, file: str, content: bytes | None, words: str
) -> None:
    tail = place.stopped()
    path = place.folder(tail) / file
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    assert words in place.refused(80, word, path.parents["/" in file].name)


def test_a_run_of_a_newer_version_is_refused(place: Place) -> None:
    tail = place.stopped()
    file = place.folder(tail) / "run.json"
    file.write_text(file.read_text().replace('"format": 1', '"format": 99'))
    assert "upgrade crown_exp" in place.refused(2, "resume", tail)


def test_a_run_of_another_project_or_store(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    tail = place.stopped()
    run = place.record(tail)["id"]
    (place.root / "going.py").unlink()
    sys.modules.pop("going")
    for word in ("resume", "fork"):
        line = place.refused(2, word, tail)
        assert line.startswith("task._target_: ")
        assert f"was {run} made in this project?" in line
    monkeypatch.setenv("CROWN_STORAGE__ROOT", str(place.root / "other"))
    there = f"file://{place.root}/.crown/store"
    line = place.refused(2, "resume", tail)
    assert line.startswith(f"{tail}: is in another store, {there}; this one is file://")


def test_outside_of_a_project_nothing_is_left(
    crown: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    for arguments in (["resume", "k7f"], ["resume=k7f"], ["fork", "k7f@3"], ["resume", "latest"]):
        said = crown(*arguments)
        assert (said.code, len(said.lines)) == (2, 1), said.err
    assert list(empty.iterdir()) == []


def test_a_living_attempt_is_named_and_taken_over(place: Place) -> None:
    tail = place.stopped()
    (place.folder(tail) / "attempts/000001.end.json").unlink()
    file = place.folder(tail) / "attempts/000001.json"
    held = place.attempt(tail, 1) | {"host": "elsewhere", "boot_id": "other", "pid": 77}
    file.write_text(json.dumps(held))
    os.utime(file)
    line = place.refused(76, "resume", tail)
    assert f"run {held['run']} is held by attempt 1 on elsewhere (pid 77) since " in line
    assert line.endswith("or add --take-over")
    assert place("resume", tail, "--take-over").code == 0
    assert RunPaths(held["run"]).attempt(2)
