"""What travels to a job: settings and secrets by name, and nothing else of the environment."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from crown_exp.compute.base import Target
from crown_exp.config.project import find_project
from crown_exp.errors import SettingsError
from crown_exp.folder import Facts, JobRecord
from crown_exp.launch.remote.base import Earlier, Fate, Planned
from crown_exp.launch.remote.planning.environment import (
    AWS_KEYS,
    is_loopback,
    keyless_wandb,
    lent_keys,
    missing_secrets,
    travelling_env,
    travelling_secrets,
    uses_wandb,
)
from crown_exp.launch.remote.submitting.jobs import job_for
from crown_exp.launch.session import Session, open_session
from tests.unit.launch.remote.plans import planned
from tests.unit.launch.test_submit import order
from tests.unit.registry.folders import RUN

SPOT = Target(name="spot", executor="skypilot", spot=True, secrets=("HF_TOKEN", "OTHER_TOKEN"))
CLUSTER = Target(name="cluster", executor="slurm", shared=True)
CREDENTIALS = """[default]
aws_access_key_id = of-a-file
aws_secret_access_key = secret-of-a-file
[work]
aws_access_key_id = of-work
aws_secret_access_key = secret-of-work
aws_session_token = token-of-work
"""
CONFIG = """[default]
region = eu-central-1
endpoint_url = https://s3.example.org
[profile work]
region = eu-west-3
"""


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in an environment that says nothing, with an empty home."""
    import os

    for name in os.environ:
        if name.startswith(("AWS_", "CROWN_", "WANDB_", "HF_")):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / ".aws/credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(home / ".aws/config"))
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text("[tool.crown_exp]\n")
    monkeypatch.chdir(project)
    return home


@contextmanager
def session(store: str = "s3://bucket/here") -> Iterator[Session]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CROWN_STORAGE__ROOT", store)
        with open_session(find_project(Path.cwd())) as opened:
            yield opened


def test_settings_of_this_machine_stay_and_those_of_the_store_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {
        "CROWN_STORAGE__ENDPOINT": "https://minio.example.org",
        "CROWN_STORAGE__DEADLINE": "30",
        "CROWN_HOME": ".mine",
        "CROWN_NOTICES__CLOUD": "none",
        "CROWN_SKY__HOME": "/somewhere",
        "CROWN_USER": "me",
        "WANDB_ENTITY": "team",
        "AWS_REGION": "eu-north-1",
        "MY_VARIABLE": "x",
    }.items():
        monkeypatch.setenv(name, value)
    with session() as opened:
        assert travelling_env(opened, SPOT) == {
            "CROWN_STORAGE__ROOT": "s3://bucket/here",
            "CROWN_STORAGE__ENDPOINT": "https://minio.example.org",
            "CROWN_STORAGE__REGION": "eu-north-1",
            "CROWN_STORAGE__DEADLINE": "30",
            "WANDB_ENTITY": "team",
            "AWS_REGION": "eu-north-1",
        }


def test_what_the_target_sets_itself_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", "key-of-mine-123")
    target = Target(executor="skypilot", env={"WANDB_MODE": "online", "WANDB_API_KEY": ""})
    with session() as opened:
        assert "WANDB_MODE" not in travelling_env(opened, target)
        assert travelling_secrets(opened, target, wandb=True) == {}


def test_secrets_are_those_that_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf-123456")
    monkeypatch.setenv("SOME_API_KEY", "not named")
    monkeypatch.setenv("CROWN_STORAGE__ACCESS_KEY_ID", "ours")
    monkeypatch.setenv("CROWN_STORAGE__SECRET_ACCESS_KEY", "our secret")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "theirs")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "their secret")
    Path(".env").write_text("OTHER_TOKEN=of the file\nWANDB_API_KEY=w\n")
    with session() as opened:
        assert travelling_secrets(opened, SPOT, wandb=True) == {
            "HF_TOKEN": "hf-123456",
            "OTHER_TOKEN": "of the file",
            "WANDB_API_KEY": "w",
            "CROWN_STORAGE__ACCESS_KEY_ID": "ours",
            "CROWN_STORAGE__SECRET_ACCESS_KEY": "our secret",
        }
        assert missing_secrets(opened, SPOT) == []
        assert not set(travelling_env(opened, SPOT)) & set(
            travelling_secrets(opened, SPOT, wandb=True)
        )


def test_a_secret_that_is_not_set_or_empty_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", " ")
    with session() as opened:
        assert missing_secrets(opened, SPOT) == ["HF_TOKEN", "OTHER_TOKEN"]


@pytest.mark.parametrize(
    ("profile", "keys", "places"),
    [
        (None, {"AWS_ACCESS_KEY_ID": "of-a-file", "AWS_SECRET_ACCESS_KEY": "secret-of-a-file"},
         {"CROWN_STORAGE__ENDPOINT": "https://s3.example.org", "CROWN_STORAGE__REGION": "eu-central-1"}),
        ("work", {"AWS_ACCESS_KEY_ID": "of-work", "AWS_SECRET_ACCESS_KEY": "secret-of-work",
                  "AWS_SESSION_TOKEN": "token-of-work"},
         {"CROWN_STORAGE__REGION": "eu-west-3"}),
    ],
)  # fmt: skip
def test_keys_of_a_profile_are_looked_up(
    profile: str | None, keys: dict[str, str], places: dict[str, str],
    bare: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    pytest.importorskip("botocore")
    (bare / ".aws").mkdir()
    (bare / ".aws/credentials").write_text(CREDENTIALS)
    (bare / ".aws/config").write_text(CONFIG)
    if profile:
        monkeypatch.setenv("AWS_PROFILE", profile)
    with session() as opened:
        assert travelling_secrets(opened, Target(executor="skypilot"), wandb=False) == keys
        root = {"CROWN_STORAGE__ROOT": "s3://bucket/here"}
        assert travelling_env(opened, Target(executor="skypilot")) == root | places
        shared = travelling_env(opened, CLUSTER)
        assert travelling_secrets(opened, CLUSTER, wandb=False) == {}
        assert shared["AWS_SHARED_CREDENTIALS_FILE"] == str(bare / ".aws/credentials")
        assert shared.get("AWS_PROFILE") == profile
    written = [path.read_bytes() for path in Path.cwd().rglob("*") if path.is_file()]
    assert not any(value.encode() in data for value in keys.values() for data in written)


def test_a_profile_that_gives_no_keys_is_one_line(bare: Path) -> None:
    pytest.importorskip("botocore")
    (bare / ".aws").mkdir()
    (bare / ".aws/config").write_text("[default]\ncredential_process = /none/such --at all\n")
    with session() as opened, pytest.raises(SettingsError) as caught:
        travelling_secrets(opened, Target(executor="skypilot"), wandb=False)
    assert str(caught.value).startswith("the store's keys for jobs elsewhere: profile default: its")
    assert "\n" not in str(caught.value)


def test_a_store_of_files_needs_no_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bare: Path
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "theirs")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "their secret")
    (bare / ".netrc").write_text("machine api.wandb.ai login user password of-wandb-login\n")
    with session(str(tmp_path / "store")) as opened:
        key = {"WANDB_API_KEY": "of-wandb-login"}
        assert travelling_secrets(opened, CLUSTER, wandb=True) == key
        assert travelling_secrets(opened, CLUSTER, wandb=False) == {}
        assert travelling_env(opened, CLUSTER)["CROWN_STORAGE__ROOT"] == opened.blobs.url


@pytest.mark.parametrize(
    ("target", "does"),
    [
        (None, False), ("", False), ("crown_exp.tracking.wandb.WandB", True),
        ("mine.trackers.WandBWithTables", True), ("mine.trackers.JsonLines", False),
    ],
)  # fmt: skip
def test_wandb_is_spoken_to_where_the_tracker_says_so(target: str | None, does: bool) -> None:
    tracker = {"progress": "auto"} | ({} if target is None else {"_target_": target})
    assert uses_wandb({"tracker": tracker}) is does


def test_a_jobs_key_for_wandb_and_its_variables_are_those_of_its_own_config(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "key-of-mine-123")
    monkeypatch.setenv("WANDB_MODE", "offline")
    bundle: Any = SimpleNamespace(folder=tmp_path, environment="image")
    env = {"MINE": "x", "WANDB_MODE": "online", "CROWN_JOB": "no"}
    target = Target(executor="skypilot", env={"MINE": "of the target", "ITS": "own"})
    with session(str(tmp_path / "store")) as opened:
        plain = replace(planned(1, target), target=target)
        tracked = replace(plain, order=order(tracker={"_target_": "a.WandB"}))
        varied = replace(plain, order=replace(plain.order, env=env))
        before = JobRecord("r1", 1, "skypilot", datetime.now(UTC), "r1", True, env=env)
        again = replace(plain, earlier=Earlier(Facts(RUN, [before]), Fate.RESUMED))
        jobs = [job_for(opened, RUN, it, "r1", bundle) for it in (plain, tracked, varied, again)]
    assert [it.secrets.get("WANDB_API_KEY") for it in jobs] == [None, "key-of-mine-123", None, None]
    assert [it.variables["MINE"] for it in jobs] == ["of the target", "of the target", "x", "x"]
    for found in (job.variables for job in jobs[2:]):
        assert (found["WANDB_MODE"], found["ITS"], found["CROWN_JOB"]) == ("online", "own", "r1")


def test_who_is_to_send_to_wandb_without_a_key_is_told(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(target: Target = SPOT, **tracker: str) -> str:
        its = order(tracker={"_target_": "crown_exp.tracking.wandb.WandB"} | tracker)
        with session(str(tmp_path / "store")) as opened:
            run = planned(target=target)
            return keyless_wandb(opened, [run, replace(run, order=its)] if tracker else [run])

    def env(**values: str) -> Target:
        return replace(SPOT, env=values)

    assert told() == ""  # another tracker
    assert told(mode="auto").startswith("no W&B key is here to travel, so the job writes for W&B")
    assert told(mode="online") and told(CLUSTER, mode="auto")
    assert told(env(WANDB_API_KEY=""), mode="auto") and told(env(WANDB_MODE="run"), mode="auto")
    assert told(mode="offline") == told(mode="disabled") == ""
    assert told(env(WANDB_MODE="offline"), mode="auto") == ""
    monkeypatch.setenv("WANDB_MODE", "dryrun")
    assert told(mode="auto") == "" and told(mode="online")
    monkeypatch.delenv("WANDB_MODE")
    (bare / ".netrc").write_text("machine api.wandb.ai login user password of-wandb-login\n")
    assert told(mode="auto") == "" and told(env(WANDB_API_KEY=""), mode="auto")


def lent(*runs: Planned) -> str:
    with session() as opened:
        return lent_keys(opened, runs or [planned(target=SPOT)])


def test_keys_that_last_are_nothing_to_be_warned_of(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("botocore")
    assert lent() == ""  # a role
    (bare / ".aws").mkdir()
    (bare / ".aws/credentials").write_text(CREDENTIALS)
    assert lent() == ""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "x")
    monkeypatch.setenv("CROWN_STORAGE__ACCESS_KEY_ID", "ours")
    monkeypatch.setenv("CROWN_STORAGE__SECRET_ACCESS_KEY", "our secret")
    assert lent() == ""
    with session(str(tmp_path / "store")) as opened:
        assert lent_keys(opened, [planned(target=SPOT)]) == ""


def test_keys_of_the_environment_that_end(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "x")
    assert "lent ones and end at a time that nobody tells: a job that lives longer" in lent()
    assert "set CROWN_STORAGE__ACCESS_KEY_ID" in lent(planned(target=CLUSTER))
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", "2031-11-30T18:05:00+01:00")
    assert "end 2031-11-30 17:05 UTC" in lent()
    soon = datetime.now(UTC) + timedelta(hours=3)
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", soon.isoformat())
    assert lent(planned(target=SPOT, hours=2.0)) == ""  # and 45 minutes to wait for its machine
    assert "lent" in lent(planned(target=SPOT, hours=2.0), planned(2, SPOT, hours=2.5))
    own = replace(SPOT, env=dict.fromkeys(AWS_KEYS, ""))
    assert lent(planned(target=own)) == ""


def test_keys_of_a_profile_that_end(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("botocore")
    (bare / ".aws").mkdir()
    (bare / ".aws/credentials").write_text(CREDENTIALS)
    said = json.dumps(
        {
            "Version": 1, "AccessKeyId": "a", "SecretAccessKey": "b", "SessionToken": "c",
            "Expiration": "2031-11-30T17:05:00Z",
        }
    )  # fmt: skip
    (bare / "said").write_text(said)
    (bare / ".aws/config").write_text(
        f"[profile process]\ncredential_process = /bin/cat {bare / 'said'}\n"
        "[profile broken]\ncredential_process = /none/such\n"
    )
    monkeypatch.setenv("AWS_PROFILE", "work")
    assert "end at a time that nobody tells" in lent()
    assert lent(planned(target=CLUSTER)) == ""  # it reads the files itself
    monkeypatch.setenv("AWS_PROFILE", "process")
    assert "end 2031-11-30 17:05 UTC" in lent()
    monkeypatch.setenv("AWS_PROFILE", "broken")  # which is told where they are needed
    assert "end at a time that nobody tells" in lent()


@pytest.mark.parametrize(
    ("host", "is_one"),
    [
        ("localhost", True), ("LOCALHOST", True), ("localhost.", True), ("s3.localhost", True),
        ("127.0.0.1", True), ("127.8.9.1", True), ("[::1]", True), ("0.0.0.0", True),
        ("[::ffff:127.0.0.1]", True), ("[::]", True),
        ("10.0.0.1", False), ("192.168.1.2", False), ("[fd00::1]", False), ("s3.example.org", False),
        ("localhost.example.org", False), ("[::ffff:10.0.0.1]", False),
    ],
)  # fmt: skip
def test_addresses_that_are_each_machine_itself(host: str, is_one: bool) -> None:
    assert is_loopback(f"http://{host}:9000") is is_one
    assert is_loopback(f"https://{host}") is is_one
