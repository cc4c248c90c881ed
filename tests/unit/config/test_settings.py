from __future__ import annotations

import getpass
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

import pytest
from pydantic import ValidationError

from crown_exp.config.project import Project
from crown_exp.config.settings import (
    Ranks,
    access_in,
    executor_job,
    git_environment,
    known_secrets,
    load_settings,
    rank_environment,
    variables,
    wants_tracebacks,
)
from crown_exp.config.settings_model import variable_names
from crown_exp.errors import SettingsError
from tests.secret_urls import SECRET_URLS

EXAMPLE = Path(__file__).parents[3] / ".env.example"


def mistake(project: Project, environ: Mapping[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(project, environ)
    return str(caught.value)


def test_without_any_variable_all_lies_in_the_project(tmp_path: Path) -> None:
    settings = load_settings(Project(tmp_path), {})
    assert settings.home == tmp_path / ".crown"
    assert settings.storage.root == f"file://{tmp_path}/.crown/store"
    assert settings.user == getpass.getuser()
    assert settings.conf == ()


def test_without_a_project_all_lies_in_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(None, {}).home == tmp_path / ".crown"


def test_the_store_comes_from_the_environment_then_env_file_then_project_then_home(
    tmp_path: Path,
) -> None:
    project = Project(tmp_path, store="s3://project")
    assert load_settings(project, {"CROWN_HOME": "/h"}).storage.root == "s3://project"
    (tmp_path / ".env").write_text("CROWN_STORAGE__ROOT=s3://env-file\n", encoding="utf-8")
    assert load_settings(project, {}).storage.root == "s3://env-file"
    environ = {"CROWN_STORAGE__ROOT": "s3://environment"}
    assert load_settings(project, environ).storage.root == "s3://environment"
    (tmp_path / ".env").unlink()
    assert load_settings(Project(tmp_path), {"CROWN_HOME": "/h"}).storage.root == "file:///h/store"


@pytest.mark.parametrize(
    ("written", "root"),
    [
        ("runs", "file://{base}/runs"),
        ("../runs", "file://{above}/runs"),
        ("/data/runs/", "file:///data/runs"),
        ("file:///data/runs/", "file:///data/runs"),
        ("s3://bucket/a/", "s3://bucket/a"),
        ("s3://bucket", "s3://bucket"),
        ("memory://", "memory://"),
        ("memory://x", "memory://x"),
        ("~/runs", f"file://{Path.home()}/runs"),
    ],
)
def test_a_path_or_a_url_names_the_store(tmp_path: Path, written: str, root: str) -> None:
    environ = {"CROWN_STORAGE__ROOT": written}
    expected = root.format(base=tmp_path, above=tmp_path.parent)
    assert load_settings(Project(tmp_path), environ).storage.root == expected
    assert load_settings(Project(tmp_path, store=written), {}).storage.root == expected


def test_an_odd_path_survives_as_a_url(tmp_path: Path) -> None:
    home = tmp_path / "my runs #1 50% é?"
    root = load_settings(Project(tmp_path), {"CROWN_HOME": str(home)}).storage.root
    assert unquote(root.removeprefix("file://")) == f"{home}/store"
    assert not set("#? ") & set(root)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("s3:/bucket/x", "expected a path or one of"),  # else a directory named s3: would be made
        ("s3://", "expected a bucket"),
        ("file://data", "three slashes"),
        ("file://", "three slashes"),
        *((url, "there are credentials in the URL") for url in SECRET_URLS),
    ],
)
def test_a_store_that_cannot_be_is_refused_without_showing_it(
    tmp_path: Path, written: str, words: str
) -> None:
    text = mistake(Project(tmp_path), {"CROWN_STORAGE__ROOT": written})
    assert text.startswith("CROWN_STORAGE__ROOT: ")
    assert words in text
    assert "wJalr" not in text


def test_a_mistake_names_the_file_that_holds_it(tmp_path: Path) -> None:
    text = mistake(Project(tmp_path, store="s3:/x"), {})
    assert text.startswith(f"store in {tmp_path / 'pyproject.toml'}: ")
    (tmp_path / ".env").write_text("CROWN_CONF=/nowhere\n", encoding="utf-8")
    text = mistake(Project(tmp_path), {})
    assert text.startswith(f"CROWN_CONF in {tmp_path / '.env'}: ")


def test_every_wrong_variable_has_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    environ = {
        "CROWN_HOME": "file",
        "CROWN_CONF": os.pathsep.join(["/nowhere", "/nowhere/else"]),
        "CROWN_USER": "\t ",
        "CROWN_STORAGE__ROT": "runs",
    }
    lines = mistake(Project(tmp_path), environ).splitlines()
    assert sorted(line.partition(":")[0] for line in lines) == sorted(environ)


def test_conf_directories_come_in_order_relative_to_the_project(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    environ = {"CROWN_CONF": f"a{os.pathsep}{tmp_path / 'b'}{os.pathsep}"}
    assert load_settings(Project(tmp_path), environ).conf == (tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("CROWN_STORAGE__ROT", "CROWN_STORAGE__ROOT"),
        ("CROWN_STORAGE_ROOT", "CROWN_STORAGE__ROOT"),
        ("CROWN_STORAGE", "CROWN_STORAGE__ROOT"),
        ("CROWN_STORE", "CROWN_STORAGE__ROOT"),
        ("CROWN_HOM", "CROWN_HOME"),
        ("CROWN_CONFIG", "CROWN_CONF"),
        ("crown_usr", "CROWN_USER"),
    ],
)
def test_a_typo_is_refused_with_the_nearest_name(tmp_path: Path, name: str, meant: str) -> None:
    text = mistake(Project(tmp_path), {name: "x"})
    assert text == f"{name.upper()}: is not a setting; did you mean {meant}?"
    (tmp_path / ".env").write_text(f"{name}=x\n", encoding="utf-8")
    assert f"did you mean {meant}?" in mistake(Project(tmp_path), {})


@pytest.mark.parametrize("name", ["CROWN_SLURM_NODES", "CROWN_SKY_NETCHECK", "CROWN_PG_HOME"])
def test_a_variable_of_another_tool_is_left_alone(tmp_path: Path, name: str) -> None:
    assert load_settings(Project(tmp_path), {name: "x"}) == load_settings(Project(tmp_path), {})


def test_an_empty_variable_counts_as_not_set(tmp_path: Path) -> None:
    empty = dict.fromkeys(variable_names(), "")
    assert load_settings(Project(tmp_path), empty) == load_settings(Project(tmp_path), {})


def test_settings_do_not_change_and_read_nothing_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings(Project(tmp_path), {})
    with pytest.raises(ValidationError):
        settings.user = "other"
    monkeypatch.setenv("CROWN_USER", "somebody")
    assert load_settings(Project(tmp_path), {}) == settings
    assert load_settings(Project(tmp_path)).user == "somebody"


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"A=1\nnot a line = = 'x\n", ":2: expected NAME=value"), (b"A=\xff\n", "is not UTF-8")],
)
def test_an_env_file_that_cannot_be_read_is_told(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / ".env").write_bytes(data)
    text = mistake(Project(tmp_path), {})
    assert text.startswith(str(tmp_path / ".env"))
    assert words in text


def test_the_environment_lies_over_the_env_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text('A="file"\nexport B=file\n# C=1\nD\n', encoding="utf-8")
    assert variables(Project(tmp_path), {"A": "environment"}) == {"A": "environment", "B": "file"}


def test_the_example_tells_every_setting_and_its_default(tmp_path: Path) -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    told = dict(line[2:].split("=", 1) for line in lines if line.startswith("# CROWN_"))
    assert told.keys() == variable_names().keys()
    copied, fresh = (load_settings(Project(tmp_path), given) for given in (told, {}))
    assert copied.model_dump() == fresh.model_dump()
    assert all(line.startswith("#") for line in lines if line), "a copy must change nothing"


@pytest.mark.parametrize("name", ["settings", "project", "secrets"])
def test_what_every_start_imports_pulls_in_nothing_heavy(name: str) -> None:
    code = f"import crown_exp.config.{name}, sys; print(*sys.modules)"
    root = EXAMPLE.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=True)
    loaded = set(done.stdout.decode().split())
    assert f"crown_exp.config.{name}" in loaded
    assert not loaded & {"pydantic", "pydantic_settings", "dotenv", "hydra", "tomllib", "asyncio"}


def test_secrets_are_known_by_the_names_that_hold_them() -> None:
    kept = {
        "WANDB_API_KEY": "f" * 40,
        "AWS_SECRET_ACCESS_KEY": "abc/def+ghi1",
        "AWS_SESSION_TOKEN": "session1",
        "HUGGING_FACE_HUB_TOKEN": "12345678",
        "my_password": "correct horse 1",
        "TOKEN": "0123456789",
    }
    passed = {
        "HF_TOKEN": "short",
        "POSTGRES_PASSWORD": "postgres",  # a word: every file that says postgres would be accused
        "PATH": "/usr/bin:/bin",
        "TOKENIZERS_PARALLELISM": "false-false",
        "AWS_ACCESS_KEY_ID": "an id, not the key",
        "EMPTY_SECRET": "",
    }
    assert known_secrets({**kept, **passed}) == kept
    assert known_secrets({"A_SECRET": " padded-1 \n"}) == {"A_SECRET": "padded-1"}


@pytest.mark.parametrize(
    ("environ", "ranks"),
    [
        ({}, Ranks(0, 0, 1)),
        ({"RANK": "", "WORLD_SIZE": ""}, Ranks(0, 0, 1)),
        ({"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8"}, Ranks(5, 1, 8)),
        ({"RANK": "2", "WORLD_SIZE": "4"}, Ranks(2, 0, 4)),
    ],
)
def test_ranks_are_read(environ: dict[str, str], ranks: Ranks) -> None:
    assert rank_environment(environ) == ranks


@pytest.mark.parametrize(
    "environ",
    [
        {"RANK": "1"},
        {"WORLD_SIZE": "2"},
        {"LOCAL_RANK": "0"},
        {"RANK": "two", "WORLD_SIZE": "4"},
        {"RANK": "-1", "WORLD_SIZE": "4"},
        {"RANK": "4", "WORLD_SIZE": "4"},
        {"RANK": "0", "LOCAL_RANK": "1", "WORLD_SIZE": "4"},
    ],
)
def test_ranks_that_cannot_be_are_refused(environ: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="RANK"):
        rank_environment(environ)


def test_the_job_is_the_executors() -> None:
    assert executor_job({}) is None
    assert executor_job({"SLURM_JOB_ID": ""}) is None
    assert executor_job({"SLURM_JOB_ID": "17"}) == "17"
    assert executor_job({"SLURM_JOB_ID": "17", "SKYPILOT_TASK_ID": "sky-1"}) == "sky-1"


def test_git_is_not_sent_elsewhere_by_a_hook() -> None:
    environ = {"GIT_DIR": "/x", "GIT_INDEX_FILE": "/y", "GIT_CONFIG_COUNT": "0", "PATH": "/bin"}
    seen = git_environment(environ)
    assert not {"GIT_DIR", "GIT_INDEX_FILE"} & seen.keys()
    assert seen["GIT_CONFIG_COUNT"] == "0"
    assert seen["PATH"] == "/bin"


def test_tracebacks_are_asked_for_by_hydras_switch() -> None:
    assert wants_tracebacks({"HYDRA_FULL_ERROR": "1"})
    assert not wants_tracebacks({"HYDRA_FULL_ERROR": "0"})
    assert not wants_tracebacks({})


def test_how_stores_are_reached_is_told_by_ours_before_awss_names() -> None:
    aws = {"AWS_ENDPOINT_URL": "http://a", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    assert access_in(aws | {"HOME": "/x"}) == aws
    ours = {"CROWN_STORAGE__ENDPOINT": "http://b ", "CROWN_STORAGE__REGION": "eu-central-1"}
    found = access_in(aws | ours)
    assert found == aws | {"AWS_ENDPOINT_URL_S3": "http://b", "AWS_REGION": "eu-central-1"}


def test_a_key_of_ours_is_never_joined_with_a_secret_of_awss() -> None:
    aws = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_SESSION_TOKEN": "c"}
    assert access_in(aws | {"CROWN_STORAGE__ACCESS_KEY_ID": "k"}) == {"AWS_ACCESS_KEY_ID": "k"}


def test_an_endpoint_that_is_none_is_refused(tmp_path: Path) -> None:
    for written in ("minio:9000", "ftp://x", "https://", "http://ada:hunter2hunter2@x"):
        text = mistake(Project(tmp_path), {"CROWN_STORAGE__ENDPOINT": written})
        assert text.startswith("CROWN_STORAGE__ENDPOINT: ")
        assert "hunter2" not in text
