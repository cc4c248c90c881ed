"""A job whose store is out of reach ends for good after some tries, as executors would try for ever."""

from pathlib import Path

from tests.running import Project

AWAY = {
    "CROWN_STORAGE__ENDPOINT": "http://127.0.0.1:9",
    "CROWN_STORAGE__REGION": "r",
    "CROWN_STORAGE__ACCESS_KEY_ID": "someone",
    "CROWN_STORAGE__SECRET_ACCESS_KEY": "something",
    "CROWN_STORAGE__DEADLINE": "0.2",
}
RUN = "s3://bucket/runs/r261130-aaaaaa"


def test_a_store_that_is_never_reached(tmp_path: Path) -> None:
    project = Project.write(tmp_path, "def train(run): return 1\n")
    job = AWAY | {"CROWN_JOB": "r261130-aaaaaa"}
    codes = [project.crown("run", RUN, env=job).returncode for _ in range(4)]
    assert codes == [80] * 4
    assert (
        project.crown("task=train").returncode == 0
    )  # the store that is reached by another command
    last = project.crown("run", RUN, env=job)
    assert last.returncode == 1
    assert last.stdout.strip().endswith("that was so 5 times in a row, so the job ends")
    assert len(last.stdout.splitlines()) == 1


def test_one_that_is_reached_in_between_and_one_that_a_person_runs(tmp_path: Path) -> None:
    project = Project.write(tmp_path, "def train(run): return 1\n")
    assert project.crown("task=train").returncode == 0
    (run,) = project.runs
    job = {"CROWN_JOB": run.name}
    for _ in range(2):
        codes = [project.crown("run", RUN, env=AWAY | job).returncode for _ in range(3)]
        assert codes == [80] * 3
        assert project.crown("run", run.name, env=job).returncode == 0
    assert [project.crown("run", RUN, env=AWAY).returncode for _ in range(6)] == [80] * 6
