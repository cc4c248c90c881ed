"""Where things lie, and the way back from a path."""

import pytest

from crown_exp.folder import RunPaths

P = RunPaths("r261122-k7f3q2")
ROOT = "runs/r261122-k7f3q2"


def test_the_folder_is_as_designed() -> None:
    assert [P.root, P.record, P.config, P.result] == [
        ROOT,
        f"{ROOT}/run.json",
        f"{ROOT}/config.yaml",
        f"{ROOT}/result.json",
    ]
    assert [P.code_commit, P.code_diff, P.code_untracked, P.code_lock] == [
        f"{ROOT}/code/commit",
        f"{ROOT}/code/diff",
        f"{ROOT}/code/untracked.tar.gz",
        f"{ROOT}/code/lock",
    ]
    assert P.job(7) == f"{ROOT}/jobs/0007.json"
    assert P.attempt(12) == f"{ROOT}/attempts/000012.json"
    assert P.end(12) == f"{ROOT}/attempts/000012.end.json"
    assert P.segment(12, 3) == f"{ROOT}/log/000012-000003.seg"
    assert P.text_log(12, 0) == f"{ROOT}/text/000012-rank0.log"
    assert P.checkpoint(12, 5000) == f"{ROOT}/checkpoints/000012-000000005000.json"
    assert P.pack("ab" * 32) == f"{ROOT}/packs/{'ab' * 32}"
    assert P.files == f"{ROOT}/files/"


@pytest.mark.parametrize("number", [1, 42, 9_999, 10_000, 999_999, 1_000_000])
def test_numbers_are_read_back(number: int) -> None:
    assert P.job_number(P.job(number)) == number
    assert P.attempt_number(P.attempt(number)) == number
    assert P.end_number(P.end(number)) == number
    assert P.segment_number(P.segment(number, 8)) == (number, 8)
    for step in (0, 7, 10**12):
        assert P.checkpoint_number(P.checkpoint(number, step)) == (number, step)
        assert P.damaged_number(P.damaged(number, step)) == (number, step)


def test_prefixes_hold_what_they_say() -> None:
    assert P.attempt(1).startswith(P.attempts)
    assert P.segment(1, 2).startswith(P.log_of(1))
    assert not P.segment(11, 2).startswith(P.log_of(1))


def test_what_is_something_else_has_no_number() -> None:
    other = RunPaths("r261122-k7f3q")
    for path in (
        P.end(1),
        P.record,
        other.attempt(1),
        "",
        f"{P.attempts}1.json",
        f"{P.attempt(1)}~",
    ):
        assert P.attempt_number(path) is None
    for path in (P.attempt(1), other.end(1), P.root):
        assert P.end_number(path) is None
    assert P.segment_number(f"{P.log}latest.seg") is None
    for path in (P.damaged(1, 2), other.checkpoint(1, 2), f"{P.checkpoint(1, 2)}~", P.pack("ab")):
        assert P.checkpoint_number(path) is None
    assert P.damaged_number(P.checkpoint(1, 2)) is None


@pytest.mark.parametrize("run_id", ["", ".", "..", "a/b", "../x", "a b", "-x", "r1\n", "ä"])
def test_an_id_that_is_no_name_is_refused(run_id: str) -> None:
    with pytest.raises(ValueError, match="not a run's id"):
        RunPaths(run_id)
