"""The table at the end of a sweep."""

from __future__ import annotations

import io

from crown_exp.launch.invocation import Ended, Invocation
from crown_exp.launch.summary import show_summary
from crown_exp.outcome import ExitCode

TYPED = ["+experiment=x", "optimizer.lr=0.1,0.2"]


def ended(
    number: int, code: int = 0, result: object = None, error: str = "", name: str = ""
) -> Ended:
    typed = ("+experiment=x", f"optimizer.lr=0.{number}")
    return Ended(f"r261122-abcde{number}", name or f"x lr=0.{number}", code, result, error, typed)


def shown(*runs: Ended, typed: list[str] = TYPED, asked: ExitCode | None = None) -> list[str]:
    stream = io.StringIO()
    invocation = Invocation(multirun=True, project=None, planned=3, asked=asked, ended=list(runs))
    show_summary(invocation, typed, stream)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_each_run_has_its_number_id_name_state_and_results() -> None:
    lines = shown(
        ended(1, result={"accuracy": 0.912345678, "note": "text", "epochs": 3}),
        ended(2, 1, error="ValueError: no good"),
        ended(3, 130, error="interrupted by the user"),
    )
    cells = [line.split() for line in lines]
    assert ["#", "run", "name", "state", "accuracy", "epochs"] in cells
    assert ["1", "r261122-abcde1", "x", "lr=0.1", "completed", "0.912346", "3"] in cells
    assert ["2", "r261122-abcde2", "x", "lr=0.2", "failed"] in cells
    assert ["3", "r261122-abcde3", "x", "lr=0.3", "stopped"] in cells
    assert "run 2: ValueError: no good" in lines
    assert "run 3: interrupted by the user" in lines


def test_results_that_are_no_mapping_or_differ_between_runs() -> None:
    lines = shown(ended(1, result=0.5), ended(2, result={"loss": 2}), ended(3, result=None))
    header = next(line.split() for line in lines if " run " in line)
    assert header[-2:] == ["result", "loss"]


def test_every_kind_of_run_shows_its_first_result() -> None:
    one = {"accuracy": 0.5, "best_accuracy": 0.6, "another_accuracy": 0.7}
    lines = shown(
        ended(1, result=one), ended(2, result={"loss": 2}), ended(3, result={"tokens": 3})
    )
    header = next(line.split() for line in lines if " run " in line)
    assert header[4:7] == ["accuracy", "loss", "tokens"]


def test_it_fits_into_eighty_columns() -> None:
    result = {f"a_rather_long_metric_{number}": 1234.5678 for number in range(9)}
    lines = shown(
        ended(1, result=result, name="digits " + " ".join(f"key{n}=value{n}" for n in range(20)))
    )
    table = [line for line in lines if not line.startswith("next")]
    assert max(map(len, table)) <= 80
    assert any("a_rather_long_metric_0" in line for line in table)
    assert "".join(line[18:40].strip() for line in table).endswith("key19=value19")


def test_names_are_text_and_no_markup() -> None:
    assert any("x [red]=[1,2]" in line for line in shown(ended(1, name="x [red]=[1,2]")))


def test_the_last_line_says_what_to_type_next() -> None:
    assert shown(ended(1), ended(2))[-1] == (
        "next    python -m crown_exp -m +experiment=x optimizer.lr=0.1,0.2 seed=1,2,3"
    )
    assert shown(ended(1), ended(2, 1, error="E: x"))[-1].startswith(
        "next    python -m crown_exp +experiment=x optimizer.lr=0.2   # the first that failed"
    )
    assert shown(ended(1), typed=["+experiment=x", "seed=1,2"])[-1].startswith(
        "next    python -m crown_exp +experiment=x optimizer.lr=0.1"
    )
    assert shown(ended(1), asked=ExitCode.INTERRUPTED)[-1] == (
        "next    stopped with 1 of 3 runs completed; again: python -m crown_exp -m +experiment=x "
        "optimizer.lr=0.1,0.2"
    )


def test_what_is_typed_next_is_quoted_for_the_shell() -> None:
    line = shown(ended(1), typed=["task.text=a b,c d", "env={a: 1}"])[-1]
    assert "'task.text=a b,c d' 'env={a: 1}'" in line


def test_a_run_that_was_not_seen_here_has_no_id() -> None:
    run = Ended("", "x lr=1", 0, {"loss": 1.0}, "", ())
    assert any(line.split()[:2] == ["1", "-"] for line in shown(run) if line)


def test_words_between_colons_are_no_pictures() -> None:
    run = ended(1, 1, error="KeyError: dataset:train: and [bold]", name="x data=a:dog:b")
    text = "\n".join(shown(run))
    assert "run 1: KeyError: dataset:train: and [bold]" in text
    assert "a:dog:b" in text
