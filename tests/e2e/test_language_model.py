"""tiny_gpt, shortened, trained for real: it learns, keeps samples, and computes the same however it is cut."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import crown_exp
from crown_exp.testing import TaskContract
from experiments.language_model import GPT, Windows, documentation, sample, unigram_entropy
from tests.e2e.test_digits import bits, here
from tests.running import Project

ROOT = Path(crown_exp.__file__).parents[1]
SMALL = (
    "+experiment=tiny_gpt", "device=cpu", "device.threads=1", "model.depth=2", "model.width=64",
    "model.context=32", "task.sample_length=20",
)  # fmt: skip
SHORT = (*SMALL, "task.steps=8", "task.evaluate_every='3 steps'")


class TestContract(TaskContract):
    """Of tasks."""

    overrides = (*SHORT, "task.steps=4", "model.depth=1")

    @pytest.fixture(autouse=True)
    def in_the_checkout(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the preset lies."""
        monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> crown_exp.face.Started:
    """A small one, trained for some seconds."""
    with here(tmp_path_factory.mktemp("home")):
        return crown_exp.start(
            *SMALL, "model.depth=1", "model.width=96", "task.batch_size=32", "task.steps=250",
            "task.evaluate_every='100 steps'",
        )  # fmt: skip


def start(tmp_path: Path, *overrides: str) -> list[Any]:
    """The bits of a few steps."""
    with here(tmp_path):
        return bits(crown_exp.start(*SHORT, *overrides))


def losses(found: list[Any]) -> list[float]:
    """The curve among the bits of a run."""
    return [float.fromhex(values["loss"]) for _, values in found[1:] if "loss" in values]


def test_it_learns_more_than_how_often_each_byte_occurs(learned: crown_exp.face.Started) -> None:
    assert learned.result["loss"] < 0.9 * learned.result["unigram_entropy"]
    assert learned.result["ratio"] == learned.result["loss"] / learned.result["unigram_entropy"]
    points = bits(learned)[1:]
    assert [step for step, values in points if "loss" in values] == list(range(1, 251))
    assert [step for step, values in points if "test_loss" in values] == [101, 201]


def test_samples_are_stored_on_the_way_and_at_the_end(learned: crown_exp.face.Started) -> None:
    samples = {
        int(path.parent.name): path.read_text()
        for path in Path(learned.folder).glob("files/*/sample.txt")
    }
    assert samples.keys() == {101, 201, 250}
    assert all(text.startswith("The ") and len(text) > 4 for text in samples.values())
    assert len(set(samples.values())) == 3


def test_the_same_seed_gives_the_same_bits_on_any_workers(tmp_path: Path) -> None:
    first = start(tmp_path, "model.dropout=0.1")
    assert len(losses(first)) == 8
    assert start(tmp_path, "model.dropout=0.1", "device.workers=2") == first
    assert start(tmp_path, "model.dropout=0.1", "seed=1") != first


def test_evaluation_and_samples_leave_training_alone(tmp_path: Path) -> None:
    often = start(tmp_path, "model.dropout=0.1", "task.evaluate_every='1 steps'")
    never = start(tmp_path, "model.dropout=0.1", "task.evaluate_every='100 steps'")
    assert losses(often) == losses(never)
    assert often[0] == never[0]


def test_parts_add_up_to_the_batch(tmp_path: Path) -> None:
    whole = losses(start(tmp_path))
    for parts in (4, 3):  # of 16 samples
        assert losses(start(tmp_path, f"device.accumulate={parts}")) == pytest.approx(
            whole, rel=1e-5
        )


def test_bf16(tmp_path: Path) -> None:
    half = losses(start(tmp_path, "device.precision=bf16", "task.steps=30"))
    single = losses(start(tmp_path, "task.steps=30"))
    assert half != single
    assert half == pytest.approx(single, rel=0.02)
    assert half[-1] < 0.9 * half[0]


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_whole_preset(seed: int, tmp_path: Path) -> None:
    with here(tmp_path):
        assert crown_exp.start("+experiment=tiny_gpt", f"seed={seed}").result["ratio"] <= 0.56


def test_a_project_of_its_own(tmp_path: Path) -> None:
    project = Project(tmp_path)
    done = project.crown("init", "--from", "tiny_gpt")
    assert done.returncode == 0, done.stdout
    done = project.crown("+experiment=tiny_gpt", "limits.steps=2", "task.sample_length=5")
    assert done.returncode == 0, done.stdout
    assert "completed after 2 steps" in done.stdout


# --- its parts --------------------------------------------------------------------------------------


def test_nothing_that_is_held_out_is_trained_on() -> None:
    from pydoc_data.topics import topics

    train, test = (documentation(split).decode() for split in ("train", "test"))
    held_out = set(test.split("\n\n"))
    assert not held_out & set(train.split("\n\n"))
    assert 0.03 < len(test) / len(train) < 0.5
    every = {part for text in topics.values() for part in re.split(r"\n\n+", text.strip())}
    assert every == held_out | set(train.split("\n\n"))
    # topics share turns of phrase, and no more than that
    stretches = {train[at : at + 50] for at in range(len(train) - 50)}
    shared = sum(test[at : at + 50] in stretches for at in range(len(test) - 50))
    assert shared / len(test) < 0.05


def test_unigram_entropy_by_hand() -> None:
    assert unigram_entropy(bytes(range(256)), b"any") == pytest.approx(math.log(256))
    assert unigram_entropy(b"a" * 256, b"aa") == pytest.approx(math.log(512 / 257))


def test_windows() -> None:
    windows = Windows(b"abcdefgh", 3)
    pairs = [tuple(bytes(part.tolist()) for part in windows[at]) for at in range(len(windows))]
    assert pairs[0] == (b"abc", b"bcd")
    assert pairs[-1] == (b"efg", b"fgh")
    assert len(pairs) == 5
    apart = Windows(b"abcdefgh", 3, stride=3)
    assert [bytes(apart[at][0].tolist()) for at in range(len(apart))] == [b"abc", b"def"]
    assert len(Windows(b"abc", 3)) == 0


@pytest.fixture
def net() -> GPT:
    """A small one that knows nothing."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GPT(context=8, depth=2, width=32, heads=4)


def test_it_sees_what_came_before_and_nothing_after(net: GPT) -> None:
    tokens = torch.arange(8).expand(8, 8).clone()
    tokens[torch.arange(8), torch.arange(8)] = 200  # row i differs at place i
    logits, base = net(tokens), net(torch.arange(8)[None])
    for place in range(8):
        same = [bool(torch.allclose(logits[place, at], base[0, at], atol=1e-6)) for at in range(8)]
        assert same == [at < place for at in range(8)]


def test_a_sample_follows_from_the_seed(net: GPT) -> None:
    state = torch.get_rng_state()
    texts = [sample(net, 30, seed) for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]
    assert torch.equal(torch.get_rng_state(), state)
    assert net.training
