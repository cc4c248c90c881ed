"""What the words do where the record is not as it should be: damaged, foreign, gone, from a wrong clock."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from crown_exp.cli import WORDS
from crown_exp.folder.segment import encode_batch, encode_header, event, point
from tests.started import noted
from tests.unit.cli.record import World, world
from tests.unit.registry.folders import complete_run, make_run

ROOT = Path(__file__).parents[2]
RUN, OTHER = "r261122-aaaaaa", "r261122-abbbbb"
HEADER = encode_header(RUN, 1, 1)
WHOLE = encode_batch([point(step, 1e9 + step, {"loss": 1.0}) for step in (1, 2)])


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[World]:
    monkeypatch.setenv("WANDB_MODE", "offline")
    with world(tmp_path, monkeypatch, capsys) as made:
        for run_id in (RUN, OTHER):
            made.call(complete_run, made.blobs, run_id)
        yield made


def words_for(run: str) -> list[list[str]]:
    """Every word that takes a run, as it is typed."""
    return [
        ["show", run],
        ["compare", run, OTHER],
        ["logs", run],
        ["cost", run],
        ["logs", "-f", run],
        ["cancel", run, "--yes"],
        ["tag", run, "+x"],
        ["note", run, "text"],
        ["delete", run, "--yes"],
        ["push", "--wandb", run],
        ["checkpoints", "list", run],
        ["checkpoints", "verify", run],
        ["checkpoints", "export", run],
        ["checkpoints", "prune", run],
    ]


def test_every_word_that_takes_a_run_is_tried_here() -> None:
    tried = {words[0] for words in words_for(RUN)}
    others = {
        "init", "runs", "plan", "reap", "prune", "doctor", "reindex", "explain", "run", "help", "upload",
        "shell",
    }  # fmt: skip
    carried_out = {
        "resume",
        "move",
        "fork",
        "verify",
        "batch",
        "debug",
    }  # test_resume_words, test_visiting
    assert WORDS.keys() - others - carried_out == tried


# --- segments -----------------------------------------------------------------------------------------


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def segment_of(here: World, run_id: str = RUN, number: int = 1) -> Path:
    return here.runs / run_id / f"log/000001-{number:06}.seg"


TORN = [
    ("cut within a frame", HEADER + WHOLE + WHOLE[:-3]),
    ("cut within the length of one", HEADER + WHOLE + WHOLE[:2]),
    ("zeros after a power cut", HEADER + WHOLE + bytes(4096)),
    ("a damaged byte", HEADER + WHOLE + flipped(WHOLE, 20) + WHOLE),
    ("a length of 4 GB", HEADER + WHOLE + struct.pack("<II", 2**32 - 1, 0) + WHOLE),
]


@pytest.mark.parametrize("data", [data for _, data in TORN], ids=[name for name, _ in TORN])
@pytest.mark.parametrize("how", [[], ["--last", "100"], ["-f"]])
def test_a_torn_segment_is_told_and_what_is_whole_is_shown(
    here: World, data: bytes, how: list[str]
) -> None:
    segment_of(here).write_bytes(data)
    code, out, err = here.type("logs", RUN, *how)
    assert code == 0
    good = len(HEADER + WHOLE)
    assert err == (
        f"runs/{RUN}/log/000001-000001.seg: what comes after {good} bytes is torn or damaged; "
        "it is passed over\n"
    )
    assert [line.split("  ")[-2:] for line in out.splitlines() if "loss" in line] == [
        ["step 1", "loss 1"],
        ["step 2", "loss 1"],
    ]
    assert "attempt 1 completed" in out
    code, out, err = here.type("reindex")
    assert (code, err.count("\n")) == (0, 1) and f"after {good} bytes is torn" in err
    (shown,) = (run for run in here.json("runs")["runs"] if run["id"] == RUN)
    assert shown["status"] == "completed"


BROKEN = [
    (b"not ours at all" * 100, "not a log segment of crown_exp"),
    (b"CRWN\x02\x00" + HEADER[6:], "has format 2, this crown_exp reads 1; upgrade crown_exp"),
    (encode_header("r261122-zzzzzz", 1, 1) + WHOLE, "is a log segment of something else"),
    (encode_header(RUN, 2, 1) + WHOLE, "is a log segment of something else"),
    (HEADER[:10], "what comes after 0 bytes is torn or damaged"),
]


@pytest.mark.parametrize(("data", "said"), BROKEN)
@pytest.mark.parametrize("how", [[], ["--last", "100"]])
def test_a_segment_of_no_use_is_told_and_the_others_are_shown(
    here: World, data: bytes, said: str, how: list[str]
) -> None:
    segment_of(here).write_bytes(data)
    segment_of(here, number=2).write_bytes(encode_header(RUN, 1, 2) + WHOLE)
    for words in (["logs", RUN, *how], ["reindex"]):
        code, out, err = here.type(*words)
        assert (code, err.count("\n")) == (0, 1)
        assert said in err and "it is passed over" in err
    code, out, _ = here.type("logs", RUN, *how)
    assert out.count("loss 1") == 2


ODD: list[Any] = [
    ["m", 1, 1e9, {"loss": "high"}], ["m", True, 1e9, {}], ["m", 1, 1e9], ["m", 1, 1e9, [1]],
    ["e", 1e9], ["e", "now", "x", {}], [], "text", 7, None, {"m": 1}, ["m", 1, 1e9, {"x": 10**400}],
]  # fmt: skip


def test_records_that_are_none_are_told_once(here: World) -> None:
    known = [point(1, 1e9, {"loss": 1.0}), event(1e9, "saved", {"step": 1}), ["z", "of the future"]]
    segment_of(here).write_bytes(HEADER + encode_batch([*ODD, *known]))
    code, out, err = here.type("logs", RUN)
    assert (code, err.count("\n")) == (0, 1)
    assert "holds records that are no points or events" in err
    assert "step 1  loss 1" in out and "saved  step 1" in out


def test_a_frame_whose_content_is_no_list_is_told(here: World) -> None:
    import json
    import zlib

    frames = [json.dumps(tree).encode() for tree in (55, {"a": 1})] + [b"{not json", b"[" * 100_000]
    data = b"".join(struct.pack("<II", len(it), zlib.crc32(it)) + it for it in frames)
    segment_of(here).write_bytes(HEADER + data + WHOLE)
    code, out, err = here.type("logs", RUN)
    assert code == 0 and "damaged by its writer" in err
    assert out.count("loss 1") == 2


def test_records_of_attempts_that_are_damaged(here: World) -> None:
    (here.runs / RUN / "attempts/000001.json").write_text("{")
    code, out, err = here.type("logs", RUN)
    assert (code, err.count("\n")) == (0, 1)
    assert "attempts/000001.json: damaged, not JSON" in err
    assert out.count("loss") == 3


# --- runs that are not there, or not alone ------------------------------------------------------------


@pytest.mark.parametrize("number", range(len(words_for(RUN))))
def test_a_run_whose_folder_was_deleted(here: World, number: int) -> None:
    here.out("reindex")
    shutil.rmtree(here.runs / RUN)
    words = words_for(RUN)[number]
    code, out, err = here.type(*words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith((f"{RUN}: no run ", f"{RUN}: is gone: its folder "))
    assert [run["id"] for run in here.json("runs")["runs"]] == [OTHER]


def test_a_store_that_is_not_mounted_forgets_nothing(here: World) -> None:
    here.out("reindex")
    here.runs.rename(here.root / "elsewhere")
    code, out, err = here.type("runs")
    assert code == 0 and "is it mounted?" in err
    assert RUN in out and OTHER in out
    (here.root / "elsewhere").rename(here.runs)
    assert len(here.json("runs")["runs"]) == 2


@pytest.mark.parametrize("number", range(len(words_for(RUN))))
@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("zzz", "zzz: no run "),
        ("r2611", "several runs fit"),
        ("a", "several runs fit"),
        ("", "run"),
    ],
)
def test_a_run_that_is_none_or_several(here: World, number: int, typed: str, said: str) -> None:
    line = here.refused(*words_for(typed)[number])
    assert said in line


# --- the index ----------------------------------------------------------------------------------------


def crown(here: World, *words: str) -> subprocess.Popen[str]:
    return noted(subprocess.Popen(
        [sys.executable, "-m", "crown_exp", *words], cwd=here.root, text=True,
        env=dict(os.environ) | {"PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ))  # fmt: skip


def test_two_who_reindex_at_once_and_one_who_asks(here: World) -> None:
    for number in range(30):
        here.call(complete_run, here.blobs, f"r261123-{number:06}")
    children = [crown(here, "reindex"), crown(here, "reindex"), crown(here, "runs", "--json")]
    for child in children:
        _, err = child.communicate(timeout=120)
        assert (child.returncode, err) == (0, "")
    assert len(here.json("runs", "--limit", "100")["runs"]) == 32
    names = {path.name for path in here.database.parent.iterdir()}
    assert not [name for name in names if ".new" in name or "damaged" in name]


@pytest.fixture
def disk_mebibytes() -> int:
    """An empty registry takes more than one."""
    return 2


@pytest.mark.parametrize("words", [["tag", RUN, "+x"], ["reindex"], ["runs"]])
def test_a_home_on_a_disk_that_is_full(
    here: World, small_disk: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setenv("CROWN_HOME", str(small_disk))
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2 * 2**20 - 40_000))
    line = here.refused(*words, code=80)
    assert "CROWN_DATABASE__URL" in line
    ballast.unlink()
    assert here.type(*words)[0] == 0


@pytest.mark.parametrize("words", [["tag", RUN, "+x"], ["reindex"], ["runs"]])
@pytest.mark.parametrize("indexed", [False, True])
def test_a_home_that_is_read_only(
    here: World,
    small_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    indexed: bool,
) -> None:
    monkeypatch.setenv("CROWN_HOME", str(small_disk))
    if indexed:
        here.out("reindex")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    line = here.refused(*words, code=80)
    assert "registry" in line and "CROWN_DATABASE__URL" in line
    assert not (here.runs / RUN / "notes").exists()
    assert here.out("logs", RUN)[-1] == f"next: crown-exp show {RUN}"


# --- clocks -------------------------------------------------------------------------------------------


def test_a_clock_that_was_set_back_between_two_attempts(here: World) -> None:
    """The second attempt began, logged and ended before the first, as it seems."""
    soon = datetime.now(UTC) + timedelta(days=400)
    made = here.call(make_run, here.blobs, "r261122-clock0", created=soon)
    here.call(made.attempt, 2)
    here.call(made.attempt, 1)
    here.call(made.log, [[point(1, soon.timestamp(), {"loss": 3.0})]], attempt=1)
    here.call(made.end, 1, 75, 1)
    here.call(made.log, [[point(2, 1e9, {"loss": 2.0})]], attempt=2)
    here.call(made.result, {"loss": 2.0}, 2, 2)
    here.call(made.end, 2, 0, 2)
    lines = here.out("logs", made.id)
    assert [line.split("  ")[-2:] for line in lines if "loss" in line] == [
        ["step 1", "loss 3"],
        ["step 2", "loss 2"],
    ]
    assert lines.index(next(line for line in lines if "attempt 1 preempted" in line)) == 2
    for words in (["runs"], ["show", made.id], ["tag", made.id, "+x"], ["prune", "--older", "1d"]):
        code, out, err = here.type(*words)
        assert code in (0, 2) and "Traceback" not in out + err
    assert here.json("prune", "--older", "1d", "--dry-run")["runs"] != []
    kept = [run["id"] for run in here.json("prune", "--older", "1d", "--dry-run")["runs"]]
    assert made.id not in kept
