"""What can be typed: flags, layers of conf/, questions that Hydra answers, the shell's completion."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl

QUICK = "+experiment=quick"


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """--info makes Hydra log to this test's stdout."""
    handlers, level = list(logging.root.handlers), logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


# --- layers ---------------------------------------------------------------------------------------------


def test_the_projects_conf_lies_over_ours(crown: Any) -> None:
    assert crown(QUICK).code == 0
    crown.write("conf/device/cpu.yaml", "kind: cpu\nthreads: 2\n")
    config = yaml.safe_load(crown("--cfg", "job", QUICK, "device=cpu").out)
    assert config["device"]["threads"] == 2


def test_it_does_so_from_any_directory_below(crown: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (crown.root / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(crown.root / "deep" / "er")
    assert crown(QUICK).code == 0
    assert len(crown.runs()) == 1
    assert not list((crown.root / "deep").rglob("*.json"))


def test_a_directory_of_the_command_line_lies_over_all(crown: Any) -> None:
    crown.write("elsewhere/env/small.yaml", "_target_: their_tasks.Env\nsize: 77\n")
    crown.write(
        "elsewhere/experiment/other.yaml", "# @package _global_\ndefaults: [quick]\nseed: 5\n"
    )
    assert crown("+experiment=other", "--config-dir", "elsewhere").code == 0
    assert [(run["experiment"], run["seed"]) for run in crown.runs()] == [("other", 5)]
    assert [result["size"] for result in crown.results().values()] == [77]
    said = crown(QUICK, "--config-dir", "nowhere")
    assert (said.code, said.lines) == (2, [f"--config-dir: no directory {crown.root / 'nowhere'}"])


def test_the_environment_adds_layers_between(crown: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    crown.write("team/env/small.yaml", "_target_: their_tasks.Env\nsize: 5\n")
    crown.write("team/env/team.yaml", "_target_: their_tasks.Env\nsize: 6\n")
    monkeypatch.setenv("CROWN_CONF", "team")
    assert crown(QUICK, "env=team").code == 0
    assert crown(QUICK).code == 0
    assert sorted(result["size"] for result in crown.results().values()) == [5]
    monkeypatch.setenv("CROWN_CONF", "nowhere")
    said = crown(QUICK)
    assert said.code == 2
    assert len(said.lines) == 1 and said.lines[0].startswith("CROWN_CONF: expected directories")


def test_hydras_search_path_keeps_working(crown: Any) -> None:
    crown.write("more/env/huge.yaml", "_target_: their_tasks.Env\nsize: 1000\n")
    assert crown(QUICK, f"hydra.searchpath=[file://{crown.root}/more]", "env=huge").code == 0
    assert [result["size"] for result in crown.results().values()] == [1000]
    crown.write(
        "conf/mine.yaml",
        f"defaults: [config, _self_]\nhydra:\n  searchpath: ['file://{crown.root}/more']\n",
    )
    assert crown("--config-name", "mine", QUICK, "env=huge").code == 0
    assert crown("-m", "--config-name", "mine", QUICK, "env=huge,small").code == 0
    said = crown("--config-name", "mine", QUICK, "env=hgue")
    assert said.lines == [
        "env=hgue: group env has no option 'hgue'; did you mean huge? (more/env/)"
    ]


def test_a_primary_config_of_ones_own(crown: Any) -> None:
    crown.write(
        "conf/mine.yaml",
        "defaults:\n  - task: quick\n  - env: large\n  - _self_\ntask:\n  gain: 9\n",
    )
    assert crown("--config-name=mine", "seed=4").code == 0
    assert [(result["gain"], result["size"]) for result in crown.results().values()] == [(9, 100)]
    said = crown("-m", "--config-name=mine", "task.gain=1,2")
    assert said.code == 0
    assert (
        said.lines[-1]
        == "next    python -m crown_exp -m --config-name mine task.gain=1,2 seed=1,2,3"
    )
    assert crown("--config-name=mne").lines == [
        "--config-name mne: no such config; did you mean mine?"
    ]


def test_a_group_of_ones_own_needs_no_registration(crown: Any) -> None:
    crown.write("conf/teacher/big.yaml", "_target_: their_more.Teacher\nsize: 3\n")
    crown.write("conf/task/distil.yaml", "_target_: their_more.distil\n")
    crown.write(
        "their_more.py",
        "class Teacher:\n    def __init__(self, size): self.size = size\n\n"
        "def distil(run, teacher): return run.build(teacher).size\n",
    )
    assert crown("task=distil", "+teacher=big", "teacher.size=8").code == 0
    assert list(crown.results().values()) == [8]
    said = crown("task=distil", "+teacher=big", "teacher.szie=8")
    assert said.lines == ["teacher.szie: no such key; did you mean size? (their_more.py:1)"]
    assert crown("task=distil").lines == [
        "teacher: their_more.distil needs it: choose +teacher=<name> (their_more.py:4)"
    ]


def test_no_file_is_left_outside_the_home(crown: Any) -> None:
    before = {path for path in crown.root.rglob("*") if "__pycache__" not in path.parts}
    assert crown(QUICK).code == 0
    assert crown("-m", QUICK, "seed=1,2").code == 0
    assert crown("-m", QUICK, "seed=1,2", "hydra/sweeper=basic", "hydra/launcher=basic").code == 0
    after = {path for path in crown.root.rglob("*") if "__pycache__" not in path.parts}
    assert {path.relative_to(crown.root).parts[0] for path in after - before} == {".crown"}


def test_the_home_may_be_elsewhere(
    crown: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CROWN_HOME", str(tmp_path / "home"))
    assert crown("-m", QUICK, "seed=1,2", "hydra/sweeper=basic", "hydra/launcher=basic").code == 0
    assert not (crown.root / ".crown").exists()
    assert {path.name for path in (tmp_path / "home").iterdir()} >= {"store", "hydra"}


@pytest.mark.parametrize(("arguments", "times"), [([QUICK], 1), (["-m", QUICK, "seed=1,2"], 3)])
def test_nothing_is_composed_more_often_than_it_must(
    crown: Any, monkeypatch: pytest.MonkeyPatch, arguments: list[str], times: int
) -> None:
    composed = []
    original = ConfigLoaderImpl.load_configuration

    def counting(self: ConfigLoaderImpl, *args: Any, **options: Any) -> Any:
        composed.append(args)
        return original(self, *args, **options)

    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", counting)
    assert crown(*arguments).code == 0
    assert len(composed) == times


# --- questions ------------------------------------------------------------------------------------------


def test_help_shows_the_groups_and_the_whole_config(crown: Any) -> None:
    said = crown("--help")
    assert said.code == 0
    assert "env: large, small" in said.out
    assert "  confirm_above_usd: 10.0" in said.out
    assert "crown-exp help" in said.out
    assert crown("--hydra-help").code == 0


def test_the_config_is_shown_as_it_would_run(crown: Any) -> None:
    said = crown("--cfg", "job", QUICK, "optimizer.amsgrad=true", "seed=7")
    config = yaml.safe_load(said.out)
    assert (said.code, config["seed"], config["optimizer"]["amsgrad"]) == (0, 7, True)
    assert crown("--cfg", "job", QUICK, "--package", "env").out == (
        "# @package env\n_target_: their_tasks.Env\nsize: 1\n"
    )
    said = crown("--cfg", "job", QUICK, "task.gain=${env.size}", "--resolve")
    assert yaml.safe_load(said.out)["task"]["gain"] == 1
    assert yaml.safe_load(crown("--cfg", "hydra", QUICK).out)["hydra"]["launcher"][
        "_target_"
    ].startswith("hydra_plugins.crown_launcher")
    assert crown("--cfg", "job").code == 0  # that nothing would run is no mistake yet


@pytest.mark.parametrize(
    "question", [["--cfg", "job"], ["--cfg", "all"], ["--info", "config"], ["--info"]]
)
def test_mistakes_are_told_instead_of_a_config_that_would_not_run(
    crown: Any, question: list[str]
) -> None:
    said = crown(QUICK, "task.gian=3", *question)
    assert (said.code, said.out) == (2, "")
    assert said.lines == ["task.gian: no such key; did you mean gain? (their_tasks.py:12)"]
    assert crown(QUICK, "optimzer=sgd", *question).code == 2
    assert crown(QUICK, "seed=1,2", *question).code == 2


@pytest.mark.parametrize(
    "what", ["all", "config", "defaults", "defaults-tree", "plugins", "searchpath"]
)
def test_hydra_tells_about_itself(crown: Any, what: str) -> None:
    said = crown("--info", what, QUICK)
    assert (said.code, said.err) == (0, "")
    expected = {
        "all": "CrownLauncher", "config": "their_tasks.quick", "defaults": "experiment/quick",
        "defaults-tree": "experiment: quick", "plugins": "CrownSweeper", "searchpath": "crown-user",
    }  # fmt: skip
    assert expected[what] in said.out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--cgf", "job"], "the command line: no flag --cgf; did you mean --cfg"),
        (["--seed=3"], "the command line: no flag --seed=3; overrides have no dashes: seed=3"),
        (["--cfg", "jbo"], "the command line: argument --cfg/-c: invalid choice: 'jbo'"),
        (["--cfg"], "the command line: argument --cfg/-c: expected one argument"),
        (["--cfg", "job", "-m"], "the command line: give only one of --run, --multirun"),
        (["-m", "--info"], "the command line: give only one of"),
        (["--resolve", QUICK], "--resolve: goes with --cfg or --help"),
        (["--cfg", "job", "--package", "modle"], "--package: no modle in this config"),
        (["--config-path", "conf", QUICK], "--config-path: crown_exp's own conf stays below yours"),
        (
            ["--experimental-rerun", "x.pickle"],
            "--experimental-rerun: a run is repeated from its folder",
        ),
        ([QUICK, "explain"], "explain: expected key=value; a word by itself comes first"),
    ],
)
def test_flags_that_do_not_go_are_one_line(crown: Any, arguments: list[str], expected: str) -> None:
    said = crown(*arguments)
    assert said.code == 2
    assert len(said.lines) == 1
    assert said.lines[0].startswith(expected)


def test_flags_and_overrides_come_in_any_order(crown: Any) -> None:
    assert crown(QUICK, "-m", "seed=1,2", "--config-name", "config", "task.gain=2").code == 0
    assert [run["seed"] for run in crown.runs()] == [1, 2]


# --- the shell ------------------------------------------------------------------------------------------


def console_script() -> Path:
    """`crown-exp` as pip installed it."""
    return Path(sys.executable).with_name("crown-exp")


def shell(crown: Any, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(console_script()), *arguments], cwd=crown.root, text=True, capture_output=True,
        env={**os.environ, **variables}, timeout=60, check=False,
    )  # fmt: skip


needs_script = pytest.mark.skipif(not console_script().exists(), reason="not installed")


@needs_script
def test_the_console_script_installs_its_completion(crown: Any) -> None:
    said = shell(crown, "-sc", "install=bash")
    assert (said.returncode, said.stderr) == (0, "")
    assert "complete -o nospace -o default -F hydra_bash_completion crown-exp" in said.stdout


@needs_script
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("crown-exp env=", {"env=large", "env=small"}),
        ("crown-exp optim", {"optimizer=", "optimizer."}),
    ],
)
def test_the_shell_is_told_what_may_follow(crown: Any, line: str, expected: set[str]) -> None:
    said = shell(
        crown, "-sc", "query=bash", COMP_LINE=line, COMP_POINT=str(len(line)), COMP_CWORD="1"
    )
    assert set(said.stdout.split()) == expected


@needs_script
def test_the_console_script_runs(crown: Any) -> None:
    said = shell(crown, QUICK, "task.gain=3")
    assert said.returncode == 0, said.stderr
    assert [result["gain"] for result in crown.results().values()] == [3]


@needs_script
def test_in_the_middle_of_a_line_nothing_is_said_of_what_is_wrong_with_it(crown: Any) -> None:
    for line in (
        "crown-exp explain optimizer.",
        "crown-exp --cgf jo",
        "crown-exp +env=nowhere env.",
    ):
        said = shell(crown, "-sc", "query=bash", COMP_LINE=line)
        assert (said.returncode, said.stdout.strip(), said.stderr) == (0, "", ""), line


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ([], "--shell-completion: give one of install=bash, uninstall=bash, query=bash"),
        (["install=foo"], "--shell-completion install=foo: no such shell; known: bash, fish, zsh"),
        (["query=bash"], "--shell-completion query: COMP_LINE is not set"),
    ],
)
def test_a_wrong_question_of_a_shell_is_one_line(
    crown: Any, monkeypatch: pytest.MonkeyPatch, asked: list[str], expected: str
) -> None:
    monkeypatch.delenv("COMP_LINE", raising=False)
    said = crown("-sc", *asked)
    assert (said.code, said.out, len(said.lines)) == (2, "", 1)
    assert said.lines[0].startswith(expected)


# --- standard output ------------------------------------------------------------------------------------


def typed(crown: Any, line: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A line of bash, in which `crown` is `python -m crown_exp`."""
    script = f'set -o pipefail; crown() {{ "{sys.executable}" -m crown_exp "$@"; }}; {line}'
    return subprocess.run(
        ["bash", "-c", script], cwd=crown.root, text=True, capture_output=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **variables},
        timeout=60, check=False,
    )  # fmt: skip


def test_python_m_installs_no_completion_of_python(crown: Any) -> None:
    said = typed(crown, "crown -sc install=bash")
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr.endswith("type crown-exp -sc install=bash\n")


def test_a_run_needs_no_standard_output(crown: Any) -> None:
    said = typed(crown, f"crown {QUICK} >&-")
    assert said.returncode == 0
    assert "completed after 0 steps" in said.stderr and "Traceback" not in said.stderr
    assert typed(crown, f"crown {QUICK} 2>&-").returncode == 0


@pytest.mark.parametrize("question", ["--help", "--info", "--cfg all", "explain task"])
def test_nobody_has_to_read_to_the_end(crown: Any, question: str) -> None:
    said = typed(crown, f"crown {question} | true")
    assert said.returncode in (0, 1)
    assert said.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("question", ["--help", "--info"])
def test_a_full_disk_is_one_line(crown: Any, question: str) -> None:
    said = typed(crown, f"crown {question} >/dev/full")
    assert said.returncode == 80
    assert said.stderr == "standard output cannot be written: No space left on device\n"


def test_a_terminal_without_our_letters_gets_others(crown: Any) -> None:
    said = typed(crown, "crown --help", PYTHONIOENCODING="ascii")
    assert (said.returncode, said.stderr) == (0, "")
    assert "crown-exp help" in said.stdout


# --- stores and keys ------------------------------------------------------------------------------------


def test_a_store_in_memory_takes_one_run_and_no_sweep(
    crown: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROWN_STORAGE__ROOT", "memory://of-this-test")
    said = crown("-m", QUICK, "seed=1,2")
    assert (said.code, len(said.lines)) == (2, 1)
    assert said.lines[0].startswith("the store memory://of-this-test: only this process sees it")
    said = crown(QUICK)
    assert said.code == 0
    assert said.lines[0].endswith(" recorded in memory: gone when this process ends")


def test_the_id_of_a_run_is_told_before_its_task_is_imported(crown: Any) -> None:
    source = (crown.root / "their_tasks.py").read_text()
    crown.write("their_tasks.py", "import sys\nprint('imported', file=sys.stderr)\n" + source)
    said = crown(QUICK)
    (run,) = crown.runs()
    assert said.lines[:2] == [f"{run['id']} recorded", "imported"]


def test_an_override_without_a_key_is_one_line(crown: Any) -> None:
    said = crown(QUICK, "=3")
    assert (said.code, said.lines) == (2, ["=3: there is no key before the ="])


def test_an_equal_run_is_named_when_it_is_run_again(crown: Any) -> None:
    first = crown("+experiment=quick", "task.gain=2.0")
    other = crown("+experiment=quick", "task.gain=3.0")
    again = crown("+experiment=quick", "task.gain=2.0")
    assert (first.code, other.code, again.code) == (0, 0, 0)
    assert "same signature" not in first.err + other.err
    (line,) = [line for line in again.lines if "same signature" in line]
    equal, _, newest = (run["id"] for run in crown.runs())
    assert line.startswith(f"{equal} (completed, gain 2")
    assert f"crown-exp show {equal.partition('-')[2]}" in line
    assert newest in again.err


def test_a_registry_of_a_kind_that_is_not_known_stops_a_run_before_it_is_made(
    crown: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROWN_DATABASE__URL", "mysql://ada:hunter22@host/runs")
    said = crown("+experiment=quick")
    assert (said.code, crown.runs()) == (2, [])
    assert said.err.startswith("CROWN_DATABASE__URL: ")
    assert "hunter22" not in said.err
