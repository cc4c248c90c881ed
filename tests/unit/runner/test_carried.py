"""Which locals a loop carries from turn to turn."""

from __future__ import annotations

import ast
import linecache
import textwrap
from pathlib import Path

import pytest

from crown_exp.config.project import builtin_conf
from crown_exp.runner.carried import Turn, carried

EXPERIMENTS = sorted((builtin_conf().parent / "experiments").glob("*.py"))


def names(body: str) -> list[str]:
    """What a loop with this body hands on, containers that grow aside."""
    (loop,) = ast.parse(
        f"for x in run.steps(9):\n{textwrap.indent(textwrap.dedent(body), '    ')}"
    ).body
    assert isinstance(loop, ast.For)
    turn = Turn(loop)
    return [name for name in turn.live if name in turn.stored]


PLANTED = {
    "a sum": ("total += x", ["total"]),
    "a best value": ("loss = f(x)\nbest = min(best, loss)", ["best"]),
    "a best value in a branch": ("loss = f(x)\nif loss < best:\n    best = loss", ["best"]),
    "the last one": ("change = x - last\nlast = x", ["last"]),
    "an observation": (
        "for _ in range(8):\n    action = policy(obs)\n    obs, reward = envs.step(action)",
        ["obs"],
    ),
    "what is assigned now and then": (
        "if run.every('5 steps'):\n    acc = f()\nrun.log(acc=acc)",
        ["acc"],
    ),
    "a counter for patience": (
        "loss = f(x)\nif loss < 1:\n    bad = 0\nelse:\n    bad += 1\nif bad > 3:\n    break",
        ["bad"],
    ),
    "a mean that moves": ("mean = 0.9 * mean + 0.1 * x if mean else x", ["mean"]),
    "two at once": ("a, b = b, a + b", ["b", "a"]),
    "a flag behind an early end": ("if done:\n    break\ndone = f(x)", ["done"]),
    "one of two handlers": (
        "try:\n    y = f(x)\nexcept ValueError:\n    y = y + 1\nrun.log(y=y)",
        ["y"],
    ),
    "a walrus": ("if (new := f(x)) > old:\n    old = new", ["old"]),
    "one case": ("match x:\n    case 1:\n        mode = 2\n    case _:\n        g(mode)", ["mode"]),
    "in a while": ("k = 0\nwhile k < 3:\n    k += 1\n    h = f(h)", ["h"]),
    "under a with": ("with run.autocast():\n    ema = 0.9 * ema + f(x)", ["ema"]),
    "annotated": ("n: int = n + 1", ["n"]),
}

HARMLESS = {
    "a loss": "loss = f(x)\nrun.backward(loss)\nrun.log(loss=loss)",
    "an object that is called": "schedule.step()\nnet.train()\nbest.accuracy = max(best.accuracy, f())",
    "in both branches": "if x:\n    y = 1\nelse:\n    y = 2\nrun.log(y=y)",
    "of an inner loop": "for part in run.split(x):\n    loss = f(part)\nrun.log(loss=loss)",
    "a sum of one turn": "total = 0\nfor part in run.split(x):\n    total += f(part)\nrun.log(total=total)",
    "under the same words": (
        "if run.every('5 steps'):\n    acc = f()\ng()\nif run.every('5 steps'):\n    run.log(acc=acc)"
    ),
    "in a while that ends by break": "while True:\n    y = f(x)\n    if y:\n        break\nrun.log(y=y)",
    "a comprehension's own": "ys = [y for y in x if y]\ny = ys[0]",
    "the loop's own": "x = x / 255\nrun.log(x=x.mean())",
    "a handler that ends the turn": "try:\n    y = f(x)\nexcept ValueError:\n    continue\nrun.log(y=y)",
    "a handler's error": "try:\n    f()\nexcept ValueError as error:\n    g(error)\n    raise",
    "a function made each turn": "def loss():\n    return f(x)\nopt.step(loss)",
    "an import": "import math\nrun.log(y=math.sqrt(x))",
    "what is read only": "y = f(x, scale)",
    "what is written only": "last = x",
    "every case": "match x:\n    case [a, *b]:\n        y = a\n    case _:\n        y = 0\nrun.log(y=y)",
    "a with": "with open(x) as file:\n    text = file.read()\nrun.log(n=len(text))",
    "a walrus": "if (y := f(x)) > 1:\n    run.log(y=y)",
    "with a finally": "try:\n    y = f(x)\nfinally:\n    g()\nrun.log(y=y)",
    "buffers that are filled": "for t in range(8):\n    rewards[t] = f(t)\nrun.log(r=rewards.mean())",
}


@pytest.mark.parametrize("case", PLANTED)
def test_what_is_carried_is_found(case: str) -> None:
    body, expected = PLANTED[case]
    assert names(body) == expected


@pytest.mark.parametrize("case", HARMLESS)
def test_what_is_made_anew_in_every_turn_is_not(case: str) -> None:
    assert names(HARMLESS[case]) == []


def test_the_loop_that_a_frame_is_in_the_head_of() -> None:
    """In a function with others, over several lines, wrapped; with what grows in place."""
    import sys

    said: list[list[str]] = []

    def turns(count: int):  # type: ignore[no-untyped-def]
        for turn in range(count):
            yield turn
            if turn == 0:
                said.append(carried(sys._getframe(1)))

    seen, counts, table, rest = [], {}, [0] * 3, [1, 2]
    total = other = 0
    for turn in turns(2):
        total += turn
    for number, turn in enumerate(turns(2)):
        other += number
        seen.append(turn)
        counts[turn] = 1
        table = [turn]
        table.append(rest[0])
    list(turns(2))
    assert said == [["total"], ["other", "seen", "counts"], []]
    assert (total, other) == (1, 1)


def test_without_the_source_nothing_is_suspected() -> None:
    import sys

    said: list[list[str]] = []
    text = "def task(turns):\n    n = 0\n    for turn in turns():\n        n += turn\n"
    scope: dict[str, object] = {}
    exec(compile(text, "<made up>", "exec"), scope)

    def turns():  # type: ignore[no-untyped-def]
        yield 1
        said.append(carried(sys._getframe(1)))

    scope["task"](turns)  # type: ignore[operator]
    linecache.cache["<made up>"] = len(text), None, text.splitlines(True), "<made up>"
    scope["task"](turns)  # type: ignore[operator]
    linecache.cache["<made up>"] = 7, None, ["def (:\n"], "<made up>"
    scope["task"](turns)  # type: ignore[operator]
    del linecache.cache["<made up>"]
    assert said == [[], ["n"], []]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_no_false_alarm_in_an_experiment(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    loops = [
        node for node in ast.walk(tree)
        if isinstance(node, ast.For) and "run.steps(" in ast.unparse(node.iter)
    ]  # fmt: skip
    assert loops
    for loop in loops:
        turn = Turn(loop)
        assert [name for name in turn.live if name in turn.stored] == []
