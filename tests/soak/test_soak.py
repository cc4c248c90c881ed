"""SIGKILL at any moment of a run in a bucket: every bit is that of the run that nobody touched, in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.exactness.cases import Cases, Straight, Zygotes
from tests.exactness.zygote import Zygote
from tests.s3.buckets import Bucket
from tests.s3.servers import Proxy
from tests.soak.faults import Weather
from tests.soak.remote import PRELOADED, SMALL, Soak, straight_large, straight_small


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cases]:
    zygotes = Zygotes(pairs=False)
    yield Cases(tmp_path_factory.mktemp("soak"), zygotes)
    zygotes.close()


@pytest.fixture(scope="module")
def small(cases: Cases) -> Straight:
    return straight_small(cases)


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote.preloaded(PRELOADED[SMALL]) as made:
        yield made


def test_a_run_in_a_bucket_is_the_run_in_a_folder(
    small: Straight, zygote: Zygote, bucket: Bucket, tmp_path: Path
) -> None:
    assert len(small.outcome.leaves) > 400 and len(small.outcome.curve) == 120
    soak = Soak(small, bucket, zygote, tmp_path, seed=1)
    tally = soak.kill(3)
    assert tally.first == "" and tally.differing_bits == 0
    assert tally.kills == 3 and tally.from_saved > 0


def test_killed_while_the_server_fails_now_and_then(
    small: Straight, zygote: Zygote, bucket: Bucket, proxy: Proxy, tmp_path: Path
) -> None:
    weather = Weather(proxy, seed=2)
    soak = Soak(small, bucket.behind(proxy), zygote, tmp_path, seed=2, faults=weather.turn)
    tally = soak.kill(3)
    assert tally.first == "" and tally.differing_bits == 0
    assert weather.befallen > 0


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_a_run_with_torch_is_killed_in_a_bucket(
    cases: Cases, bucket: Bucket, proxy: Proxy, tmp_path: Path
) -> None:
    straight, weather = straight_large(cases), Weather(proxy, seed=3)
    with Zygote.preloaded(PRELOADED["everything"]) as made:
        soak = Soak(straight, bucket.behind(proxy), made, tmp_path, seed=3, faults=weather.turn)
        tally = soak.kill(20)
    assert tally.first == "" and tally.differing_bits == 0 and tally.kills == 20
