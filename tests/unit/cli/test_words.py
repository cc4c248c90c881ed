from __future__ import annotations

import subprocess
import sys

import pytest

from crown_exp import __version__
from crown_exp.cli import WORDS, run_word
from crown_exp.config.project import builtin_conf

ROOT = builtin_conf().parent
HEAVY = (
    "torch",
    "hydra",
    "omegaconf",
    "pydantic",
    "numpy",
    "yaml",
    "rich",
    "asyncio",
    "sqlalchemy",
)


def test_help_names_every_word_and_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_word(["help"]) == 0
    shown = capsys.readouterr().out
    for word, purpose in WORDS.items():
        assert f"  {word} " in shown
        assert purpose in shown
    assert "+experiment=digits_cnn" in shown


def test_no_word_at_all_shows_the_same_help_and_is_a_mistake(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_word(["help"])
    shown = capsys.readouterr().out
    assert run_word([]) == 2
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize("word", WORDS)
def test_a_word_tells_how_it_is_used_in_80_columns(
    word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_word(["help", word]) == 0
    by_help = capsys.readouterr().out
    assert run_word([word, "--help"]) == 0
    assert capsys.readouterr().out == by_help
    assert by_help.startswith(f"Usage: crown-exp {word} ")
    assert max(map(len, by_help.splitlines())) <= 80


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_word(["--version"]) == 0
    assert capsys.readouterr().out == f"crown-exp {__version__}\n"


@pytest.mark.parametrize("prefix", [[], ["help"]])
@pytest.mark.parametrize("word", WORDS)
def test_a_misspelt_word_is_one_line_that_names_the_right_one(
    word: str, prefix: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    typos = (word[1:], word[:-1], word + word[-1], word[1] + word[0] + word[2:])
    for typo in (typo for typo in typos if typo not in WORDS):
        assert run_word([*prefix, typo]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(f"no such word: {typo}; did you mean ")
        assert word in err.partition(";")[2].partition("?")[0]
        assert err.endswith("Try: crown-exp help\n")
        assert err.count("\n") == 1


def test_a_word_like_no_other_lists_them_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_word(["zzzzzzz"]) == 2
    said = capsys.readouterr().err
    assert "known: batch, cancel, checkpoints, compare, cost, debug, delete," in said
    assert "A run is typed" in said


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["explain"], "Missing argument 'KEY'. Try: crown-exp help explain\n"),
        (["explain", "seed", "--jsn"], "No such option '--jsn'. Did you mean '--json'? Try: "),
        (["init", "--form", "x"], "No such option '--form'. Did you mean '--from'? Try: "),
        (["run"], "Missing argument 'RUN'. Try: crown-exp help run\n"),
        (["init", "a", "b"], "Got unexpected extra argument (b). Try: crown-exp help init\n"),
    ],
)
def test_a_word_used_wrongly_is_one_line(
    typed: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_word(typed) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(said)


def test_no_help_page_imports_what_only_work_needs() -> None:
    script = (
        "import sys\n"
        "from crown_exp.__main__ import guarded\n"
        f"for word in {list(WORDS)!r}: assert guarded([word, '--help']) == 0\n"
        "assert guarded(['--version']) == guarded(['help']) == 0\n"
        "assert guarded(['nosuchword']) == guarded([]) == 2\n"
        f"print('loaded:', *(name for name in {HEAVY!r} if name in sys.modules))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ran.stdout.splitlines()[-1] == "loaded:"
