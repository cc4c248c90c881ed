from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from crown_exp.errors import StoreError
from crown_exp.launch.doctor import probe, project, record
from crown_exp.launch.doctor.base import Finding, Named, Place
from crown_exp.launch.doctor.examine import all_checks, examine, look_around
from crown_exp.launch.doctor.machine import unmet
from crown_exp.launch.doctor.probe import answer, shortened
from tests.s3.buckets import Bucket
from tests.sky_project import STAND_IN, stand_in
from tests.unit.cli.record import World, foreign, newer, world
from tests.unit.registry.folders import complete_run

KEY = "0123456789abcdef0123456789abcdef01234567"
PATIENCE_SECONDS = 120.0


@pytest.fixture(autouse=True)
def nobody_hurries(monkeypatch: pytest.MonkeyPatch) -> None:
    """What works is found to work, however busy the machine is; limits are tried where they are told."""
    examining: Any = sys.modules["crown_exp.launch.doctor.examine"]
    monkeypatch.setattr(examining, "SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(examining, "SLOWER", {})
    monkeypatch.setattr(probe, "answer", lambda command, seconds: answer(command, PATIENCE_SECONDS))
    monkeypatch.setattr(project, "GIT_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(record, "CHECK_SECONDS", PATIENCE_SECONDS)


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[World]:
    with world(tmp_path, monkeypatch, capsys) as made:
        monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
        yield made


def looked(name: str) -> list[Finding]:
    """What one check finds here."""
    (check,) = (check for check in all_checks() if check.name == name)
    return list(examine(look_around(), [check]))


def found(name: str) -> Finding:
    (finding,) = looked(name)
    return finding


def git(here: World, *words: str) -> None:
    author = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    subprocess.run(["git", *author, *words], cwd=here.root, check=True, capture_output=True)


# --- the word -----------------------------------------------------------------------------------------


def test_a_machine_that_works_passes(here: World) -> None:
    here.call(complete_run, here.blobs)
    here.out("reindex")
    (here.root / "conf").mkdir()
    git(here, "init")
    (here.root / ".gitignore").write_text("home/\nstore/\n")
    git(here, "add", ".")
    git(here, "commit", "-m", "first")
    code, out, _ = here.type("doctor")
    lines = out.splitlines()
    assert code == 0
    statuses = {
        line.split()[1]: line.split()[0] for line in lines if line[:4].strip() in ("ok", "warn")
    }
    assert {"python", "packages", "device", "project", "settings", "home", "git"} <= statuses.keys()
    assert {"secrets", "store", "clock", "registry", "wandb", "sky", "aws"} <= statuses.keys()
    slurm = statuses.pop("slurm", "ok")  # its programs may be there without a cluster
    assert set(statuses.values()) == {"ok"}
    assert lines[-2].endswith(f" ok, {int(slurm != 'ok')} to look at, 0 failed")
    assert slurm != "ok" or lines[-1].startswith("next: python -m crown_exp ")
    assert not list((here.root / "store").glob("health*"))  # it left nothing


def test_what_fails_is_told_with_its_fix_and_the_code_is_1(here: World) -> None:
    here.database.parent.mkdir()
    here.database.write_bytes(b"no database" * 1000)
    code, out, _ = here.type("doctor")
    assert code == 1
    lines = [line.split() for line in out.splitlines()]
    at = next(n for n, line in enumerate(lines) if line[:2] == ["fail", "registry"])
    fix = next(line for line in lines[at:] if line[0] == "fix:")
    assert fix == ["fix:", "crown-exp", "reindex"]
    assert lines[-1] == ["next:", "crown-exp", "reindex"]
    code, out, _ = here.type("doctor", "--json")
    assert code == 1
    import json

    told = {item["check"]: item for item in json.loads(out)}
    assert told["registry"]["status"] == "fail"
    assert told["registry"]["fix"] == "crown-exp reindex"
    assert told["device"]["status"] == "ok"


def test_it_works_where_nothing_is_right(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (here.root / "pyproject.toml").write_text("[tool.crown_exp\n")
    code, out, _ = here.type("doctor")
    assert code == 1
    assert "pyproject.toml:1: is not TOML" in " ".join(out.split())
    (here.root / "pyproject.toml").unlink()
    monkeypatch.setenv("CROWN_STORAGE__ROT", "x")
    monkeypatch.setenv("CROWN_CONF", "nowhere")
    fails = [finding for finding in looked("settings") if finding.status == "fail"]
    assert len(fails) == 2
    assert "did you mean CROWN_STORAGE__ROOT?" in fails[0].found + fails[1].found


def test_it_makes_nothing(here: World) -> None:
    before = sorted(here.root.rglob("*"))
    here.type("doctor")
    assert sorted(here.root.rglob("*")) == before
    assert found("store").found.startswith("none yet")
    assert found("registry").found.startswith("none yet")


def test_no_secret_is_told(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("CROWN_DATABASE__URL", "postgresql://me:hunter2hunter2@host/db")
    (here.root / ".env").write_text("MY_API_KEY=correct-horse-battery\n")
    for words in (["doctor"], ["doctor", "--json"]):
        _, out, err = here.type(*words)
        for secret in (KEY, "hunter2hunter2", "correct-horse"):
            assert secret not in out + err


# --- how checks are carried out -----------------------------------------------------------------------


def test_a_check_that_hangs_is_given_up_and_the_others_are_told() -> None:
    never = threading.Event()

    def hang(place: Place) -> list[Finding]:
        never.wait()
        return []

    def quick(place: Place) -> list[Finding]:
        return [Finding("quick", "ok", "fine")]

    checks = [Named("slow", hang, 0.05), Named("quick", quick, PATIENCE_SECONDS)]
    try:
        slow, fine = examine(Place(None, None), checks)
    finally:
        never.set()
    assert (slow.status, slow.found) == (
        "fail",
        "did not answer in 0.05 s; the rest was checked without it",
    )
    assert fine.found == "fine"


def test_a_check_that_breaks_is_a_finding() -> None:
    def broken(place: Place) -> list[Finding]:
        raise RuntimeError("no luck")

    def refused(place: Place) -> list[Finding]:
        raise StoreError("cannot read")

    checks = [Named("a", broken, PATIENCE_SECONDS), Named("b", refused, PATIENCE_SECONDS)]
    first, second = examine(Place(None, None), checks)
    assert (first.status, first.found) == ("warn", "could not be checked: RuntimeError: no luck")
    assert (second.status, second.found) == ("fail", "cannot read")


def test_what_is_found_is_told_without_secrets() -> None:
    place = Place(None, None, {"MY_API_KEY": "correct-horse-battery"})
    check = Named(
        "x", lambda at: [Finding("x", "ok", "correct-horse-battery", "correct-horse-battery")],
        PATIENCE_SECONDS,
    )  # fmt: skip
    (finding,) = examine(place, [check])
    assert (finding.found, finding.fix) == ("***", "***")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import time; time.sleep(60)", "no answer in 0.3 s"),
        ("raise SystemExit(3)", "exit code 3"),
        ("raise OSError('broken library')", "OSError: broken library"),
        ("print('no json')", "exit code 0"),
        ("", "exit code 0"),
    ],
)
def test_a_process_that_does_not_answer_is_an_error(script: str, said: str) -> None:
    seconds = 0.3 if "sleep" in script else PATIENCE_SECONDS
    assert answer([sys.executable, "-S", "-c", script], seconds) == {"error": said}


# --- single checks ------------------------------------------------------------------------------------


def test_packages_that_do_not_fit_are_named() -> None:
    needed = ["torch>=1", "click<1", "nosuchpackage>=2", "absent; extra == 'dev'"]
    wrong = dict(unmet(needed))
    assert wrong.keys() == {"click<1", "nosuchpackage>=2"}
    assert wrong["nosuchpackage>=2"] == "none is installed"
    assert wrong["click<1"].endswith(" is installed")


def test_outside_of_a_project(here: World) -> None:
    (here.root / "pyproject.toml").unlink()
    assert (found("project").status, found("project").fix) == ("warn", "crown-exp init")


def test_a_project_without_conf(here: World) -> None:
    assert "has no conf directory" in found("project").found
    (here.root / "conf/experiment").mkdir(parents=True)
    (here.root / "conf/experiment/mine.yaml").write_text("")
    assert found("project").found == f"{here.root}, conf in conf, presets: 1"


def test_a_home_that_cannot_be_written(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found("home").status == "ok"
    monkeypatch.setenv("CROWN_HOME", "/proc/nowhere")
    assert found("home").status == "fail"
    assert "CROWN_HOME" in found("home").fix


def test_git_and_what_it_should_ignore(here: World) -> None:
    assert found("git").fix == "git init"
    git(here, "init")
    (here.root / "home").mkdir()
    (here.root / ".env").write_text("A=1\n")
    state, ignore = looked("git")
    assert state.found.startswith("no commit yet")
    assert ignore.found == "git does not ignore .env and home"
    subprocess.run(ignore.fix, shell=True, cwd=here.root, check=True)
    (state,) = looked("git")
    git(here, "add", ".")
    git(here, "commit", "-m", "first")
    assert found("git").found.endswith(", clean")


def test_a_file_of_secrets_that_others_may_read(here: World) -> None:
    assert found("secrets").status == "ok"
    env = here.root / ".env"
    env.write_text("A=1\n")
    env.chmod(0o644)
    finding = found("secrets")
    assert (finding.status, finding.fix) == ("warn", "chmod 600 .env")
    subprocess.run(finding.fix, shell=True, cwd=here.root, check=True)
    assert found("secrets").status == "ok"
    git(here, "init")
    git(here, "add", ".env")
    assert (found("secrets").status, found("secrets").found) == (
        "fail",
        ".env is in git, with the secrets it holds",
    )


def test_stores_that_are_none(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    here.call(complete_run, here.blobs)
    assert [finding.check for finding in looked("store")] == ["store", "clock"]
    monkeypatch.setenv("CROWN_STORAGE__ROOT", "memory://")
    assert found("store").status == "warn"
    (here.root / "file").write_text("")
    monkeypatch.setenv("CROWN_STORAGE__ROOT", str(here.root / "file/store"))
    assert found("store").status == "fail"
    monkeypatch.setenv("CROWN_STORAGE__ROOT", str(here.root / "file"))
    assert "a file stands where a folder is needed" in found("store").found


@pytest.mark.parametrize(
    ("ahead", "status", "said"),
    [
        (0.3, "ok", "agree"),
        (-4.0, "ok", "agree"),
        (90.2, "warn", "90 s ahead of this machine's"),
        (-7200.0, "warn", "7,200 s behind this machine's"),
    ],
)
def test_clocks_that_do_not_agree(ahead: float, status: str, said: str) -> None:
    finding = record.clock(ahead)
    assert finding.status == status
    assert said in finding.found
    assert bool(finding.fix) == (status == "warn")


def test_the_registry_is_looked_at_and_not_changed(here: World) -> None:
    here.call(complete_run, here.blobs)
    here.out("reindex")
    before = here.database.read_bytes()
    finding = found("registry")
    assert finding.status == "ok"
    assert ", runs: 1, tables " in finding.found and finding.found.endswith("journal wal, sound")
    assert here.database.read_bytes() == before


def damaged(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(path.read_bytes())
    data[8192:] = os.urandom(len(data) - 8192)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "said", "fix"),
    [
        (newer, "is of a newer crown_exp (tables 9999", "crown-exp reindex"),
        (foreign, "is a database, but no registry", "set CROWN_DATABASE__URL"),
        (damaged, "", "crown-exp reindex"),
    ],
)
def test_a_registry_of_no_use(here: World, spoil: Any, said: str, fix: str) -> None:
    here.call(complete_run, here.blobs)
    here.out("reindex")
    spoil(here.database)
    finding = found("registry")
    assert finding.status == "fail"
    assert said in finding.found and fix in finding.fix


def test_wandb_with_and_without_a_key(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    finding = found("wandb")
    assert finding.status == "ok"
    if "not installed" in finding.found:
        assert finding.fix.startswith("pip install wandb")
        return
    assert "no key" in finding.found
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert found("wandb").found.endswith("a key is there")


# --- a store on S3 ---------------------------------------------------------------------------------------


@pytest.fixture
def on_s3(here: World, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    for name, value in bucket.environment().items():
        monkeypatch.setenv(name, value)
    return bucket


def test_a_store_on_s3_is_told_with_its_keys_and_a_round_trip(on_s3: Bucket) -> None:
    store, keys, clock_ = looked("store")
    assert (store.status, keys.status, clock_.status) == ("ok", "ok", "ok")
    assert f"{on_s3.url}/store can be written and read, keeps create-only writes" in store.found
    assert store.found.endswith(" ms")
    assert f"server {on_s3.endpoint}, region {on_s3.access['AWS_REGION']}" in keys.found
    assert on_s3.access["AWS_SECRET_ACCESS_KEY"] not in keys.found
    assert all("/.crown-" in key for key in on_s3.keys(""))  # it left nothing but the store's own


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("CROWN_STORAGE__ROOT", "s3://crown-no-such-bucket/x", "bucket"),
        ("CROWN_STORAGE__ENDPOINT", "http://127.0.0.1:9", "127.0.0.1:9"),
    ],
)
def test_a_store_on_s3_that_is_none(
    on_s3: Bucket, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    finding = found("store")
    assert finding.status == "fail" and said in finding.found
    assert "\n" not in finding.found and "<" not in finding.found


def test_a_prefix_that_is_another_s_is_refused(on_s3: Bucket) -> None:
    on_s3.write("store/theirs.txt", b"x")
    finding = found("store")
    assert finding.status == "fail" and "holds other things (first: theirs.txt)" in finding.found
    assert on_s3.keys() == ["store/theirs.txt"]


def test_keys_are_named_by_their_ends_only() -> None:
    assert shortened("AKIAIOSFODNN7EXAMPLE") == "AKIA…MPLE"
    assert shortened("minio") == "mi…"


# --- what carries out runs elsewhere ------------------------------------------------------------------


@pytest.fixture
def sky(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A stand-in for SkyPilot; the folder of its server."""
    monkeypatch.syspath_prepend(str(STAND_IN))
    with stand_in(tmp_path / "stand-in", monkeypatch) as state:
        yield state


def test_the_clouds_of_skypilot_are_told(here: World, sky: Path) -> None:
    finding = found("sky")
    assert finding.status == "ok"
    assert "enabled: " in finding.found


@pytest.mark.parametrize(
    ("root", "endpoint", "status", "told"),
    [
        ("", "", "ok", "machines in a cloud do not see file://"),
        ("s3://bucket/runs", "http://127.0.0.1:9000", "warn", "is each machine itself"),
        ("s3://bucket/runs", "https://s3.example.org", "ok", "find the store at s3://bucket/runs"),
    ],
)
def test_whether_a_job_would_reach_the_store(
    here: World, sky: Path, monkeypatch: pytest.MonkeyPatch,
    root: str, endpoint: str, status: str, told: str,
) -> None:  # fmt: skip
    if root:
        monkeypatch.setenv("CROWN_STORAGE__ROOT", root)
        monkeypatch.setenv("CROWN_STORAGE__ENDPOINT", endpoint)
    finding = found("reach")
    assert (finding.status, told in finding.found) == (status, True)


def test_a_python_that_lacks_skypilot(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROWN_SKY__PYTHON", "/nowhere/python")
    finding = found("sky")
    assert finding.status == "fail"
    assert "set it to a Python that has SkyPilot" in finding.found


def test_without_a_slurm_there_is_nothing_to_tell(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert looked("slurm") == []
