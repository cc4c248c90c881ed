"""tokenize_corpus: what it stores decodes to the texts, is the same at every time, and is made once only."""

from __future__ import annotations

import hashlib
import json
import random
import sysconfig
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import crown_exp
from crown_exp.testing import TaskContract
from experiments.data_pipeline import Codec, learn
from tests.running import Project, ends

ROOT = Path(crown_exp.__file__).parents[1]
STANDARD = Path(sysconfig.get_path("stdlib"))
SHORT = (
    "+experiment=tokenize_corpus", "task.pattern='c[a-o]*.py'", "task.shards=4", "task.vocabulary=400",
)  # fmt: skip
FILES = sorted(STANDARD.glob("c[a-o]*.py"))


class TestContract(TaskContract):
    """Of tasks."""

    overrides = SHORT

    @pytest.fixture(autouse=True)
    def in_the_checkout(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the preset lies."""
        monkeypatch.chdir(ROOT)


STOPPING = """
import os, signal
from experiments import data_pipeline

def tokenize(run, *, after: str = "", by: str = "SIGTERM", **settings):
    return data_pipeline.tokenize(Stopping(run, after, by), **settings)

class Stopping:
    def __init__(self, run, after, by):
        self.run, self.after, self.by = run, after, by

    def __getattr__(self, name):
        return getattr(self.run, name)

    def artifact(self, name, value):
        self.run.artifact(name, value)
        with open(f"made-{self.run.attempt}.txt", "a") as file:
            print(name, file=file)
        if name == self.after and self.run.attempt == 1:
            os.kill(os.getpid(), signal.Signals[self.by])
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project that `init` wrote, with a task that stops itself when it has stored a certain file."""
    project = Project(tmp_path)
    done = project.crown("init", "--from", "tokenize_corpus")
    assert done.returncode == 0, done.stdout
    (tmp_path / "stopping.py").write_text(STOPPING)
    (tmp_path / "conf/task/stopping.yaml").write_text("_target_: stopping.tokenize\n")
    texts = tmp_path / "texts"
    texts.mkdir()
    for path in FILES[:6]:
        (texts / path.name).write_bytes(path.read_bytes())
    return project


OWN = ("+experiment=tokenize_corpus", "task.folder=texts", "task.shards=3", "task.vocabulary=300")


def files(run: Path) -> dict[str, bytes]:
    """What a run stored, by name."""
    found = (path for path in (run / "files").rglob("*") if path.is_file())
    return {
        path.relative_to(run / "files").as_posix().partition("/")[2]: path.read_bytes()
        for path in found
    }


def result(run: Path) -> dict[str, Any]:
    """What a run returned."""
    returned: dict[str, Any] = json.loads((run / "result.json").read_text())["result"]
    return returned


def made(project: Project, attempt: int) -> list[str]:
    """What an attempt stored, in order."""
    return (project.root / f"made-{attempt}.txt").read_text().split()


def test_its_files_decode_to_the_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("CROWN_HOME", str(tmp_path))
    first, second = crown_exp.start(*SHORT), crown_exp.start(*SHORT, "seed=1")
    assert first.result == second.result
    assert files(Path(first.folder)) == files(Path(second.folder))
    stored = files(Path(first.folder))
    pieces = json.loads(stored["vocabulary.json"])["pieces"]
    index = json.loads(stored["index.json"])
    whole = hashlib.sha256(stored["vocabulary.json"])
    texts: dict[str, bytes] = {}
    for shard, entry in index.items():
        data = stored[f"tokens/{shard}.npy"]
        ids = np.load(BytesIO(data))
        *found, rest = "".join(pieces[number] for number in ids).split(pieces[256])
        texts |= {
            name: text.encode("latin-1") for name, text in zip(entry["texts"], found, strict=True)
        }
        assert (rest, entry["tokens"]) == ("", len(ids))
        assert entry["sha256"] == hashlib.sha256(data).hexdigest()
        whole.update(data)
    assert texts == {path.name: path.read_bytes() for path in FILES}
    size = sum(map(len, texts.values()))
    tokens = sum(entry["tokens"] for entry in index.values())
    assert first.result == {
        "shards": 4, "vocabulary": 400, "tokens": tokens, "bytes_per_token": size / tokens,
        "digest": whole.hexdigest(),
    }  # fmt: skip
    assert size / tokens > 1.7  # it has learned something


@pytest.mark.parametrize(
    ("after", "by", "code", "before", "then"),
    [
        ("counts/001.json", "SIGTERM", 75, ["counts/000.json", "counts/001.json"], 6),
        ("tokens/001.npy", "SIGTERM", 75, ["vocabulary.json", "tokens/000.npy", "tokens/001.npy"], 2),
        ("tokens/000.npy", "SIGKILL", -9, ["vocabulary.json", "tokens/000.npy"], 4),
    ],
)  # fmt: skip
def test_a_second_attempt_makes_what_is_missing(
    project: Project, after: str, by: str, code: int, before: list[str], then: int
) -> None:
    whole = project.crown(*OWN)
    assert whole.returncode == 0, whole.stdout
    stopped = project.crown(*OWN, "task=stopping", f"+task.after={after}", f"+task.by={by}")
    assert stopped.returncode == code, stopped.stdout
    one, other = project.runs
    again = project.crown("run", str(other))
    assert again.returncode == 0, again.stdout
    assert ends(other) == [code if code > 0 else -1, 0]
    assert made(project, 1)[-len(before) :] == before
    assert len(made(project, 2)) == then
    unsaved = {after} if by == "SIGKILL" else set()  # of a turn that no checkpoint knows
    assert set(made(project, 1)) & set(made(project, 2)) == unsaved
    assert files(other) == files(one)
    assert result(other) == result(one)


def test_a_text_that_changed_meanwhile_is_noticed(project: Project) -> None:
    stopped = project.crown(*OWN, "task=stopping", "+task.after=tokens/000.npy")
    assert stopped.returncode == 75, stopped.stdout
    (project.root / "texts" / FILES[0].name).write_text("pass\n")
    again = project.crown("run", str(project.runs[0]))
    assert again.returncode == 1, again.stdout
    assert "does not decode to its texts; was one changed since it was made?" in again.stdout
    assert "Traceback" not in again.stdout


def test_torch_has_no_part_in_it(project: Project) -> None:
    done = project.crown(*OWN, env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert done.returncode == 0, done.stdout
    imported = {
        line.rpartition("|")[2].strip().partition(".")[0]
        for line in done.stdout.splitlines()
        if line.startswith("import time:")
    }
    assert "numpy" in imported
    assert "torch" not in imported


def test_what_cannot_be_is_one_line(project: Project) -> None:
    done = project.crown(*OWN, "task.pattern='*.nothing'")
    assert done.returncode == 1
    assert "task.folder=texts has no file that task.pattern=*.nothing fits" in done.stdout
    assert "Traceback" not in done.stdout
    done = project.crown(*OWN, "task.vocabulary=256")
    assert (done.returncode, done.stdout.count("\n")) == (2, 1)
    assert "task.vocabulary: expected an int" in done.stdout


def words(text: bytes) -> Counter[str]:
    """Of a text as bytes."""
    return Counter(text.decode("latin-1").split(" "))


MERGES = learn(words(FILES[0].read_bytes()), 60)


def test_merges_do_not_depend_on_the_order_of_the_words() -> None:
    counts = list(words(FILES[0].read_bytes()).items())
    random.Random(0).shuffle(counts)
    assert learn(dict(counts), 60) == MERGES
    assert learn(dict(reversed(counts)), 60) == MERGES


def test_merges_by_hand() -> None:
    assert learn({"abab": 2, "abc": 1, "x": 9}, 9) == [("a", "b"), ("ab", "ab")]
    assert learn({"aaa": 1, "aa": 1}, 1) == [("a", "a")]
    assert learn({}, 3) == learn({"a": 5}, 3) == []
    assert Codec([("a", "a")]).encode(["aaa"]) == [257, 97, 256]


@given(st.lists(st.binary(max_size=60)))
def test_any_texts_come_back(texts: list[bytes]) -> None:
    codec = Codec(MERGES)
    decoded = [text.decode("latin-1") for text in texts]
    ids = codec.encode(decoded)
    assert codec.decode(ids) == decoded
    assert ids == [number for text in decoded for number in codec.encode([text])]
    assert all(0 <= number < len(codec.pieces) for number in ids)


@pytest.mark.full
def test_the_whole_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("CROWN_HOME", str(tmp_path))
    done = crown_exp.start("+experiment=tokenize_corpus").result
    assert (done["shards"], done["vocabulary"]) == (16, 1024)
    assert done["bytes_per_token"] > 2.5
