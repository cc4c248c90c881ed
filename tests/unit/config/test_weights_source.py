"""What `checkpoint.init_from` may name, and its final form."""

from __future__ import annotations

import pytest

from crown_exp.config.weights_source import FileSource, RunSource, parse_source
from crown_exp.errors import ConfigError
from tests.secret_urls import SECRET_URLS


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("k7f", RunSource(None, "k7f")),
        (" r261122-k7f3q2@500 ", RunSource(None, "r261122-k7f3q2", 500)),
        ("k7f@latest", RunSource(None, "k7f")),
        ("latest", RunSource(None, "latest")),
        ("k7f@best", RunSource(None, "k7f", best=True)),
        ("s3://b/p/runs/r1-k7f@20", RunSource("s3://b/p", "r1-k7f", 20)),
        ("s3://b/a@c/runs/r1-k7f", RunSource("s3://b/a@c", "r1-k7f")),
        ("s3://b/a:c/runs/r1-k7f@20", RunSource("s3://b/a:c", "r1-k7f", 20)),
        ("/data/store/runs/r1-k7f/@best", RunSource("/data/store", "r1-k7f", best=True)),
        ("net.safetensors", FileSource("net.safetensors")),
        ("./a@b/net.pt", FileSource("./a@b/net.pt")),
        ("s3://b/runs/net.pt", FileSource("s3://b/runs/net.pt")),
        ("/data/net.pt@0123456789abcdef", FileSource("/data/net.pt", "0123456789abcdef")),
        ("/data/weights", FileSource("/data/weights")),
    ],
)
def test_it_is_read_and_written(text: str, found: RunSource | FileSource) -> None:
    assert parse_source(text) == found
    assert parse_source(str(found)) == found


@pytest.mark.parametrize("text", ["", "@5", "a b", "k7f@x", "k7f@-1", "k7f@1.5", "k7f@" + "9" * 13])
def test_what_is_neither_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match="expected") as error:
        parse_source(text, "checkpoint.init_from")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("end", ["", "/net.pt", "/net.pt@0123456789abcdef", "/runs/r1-k7f@20"])
@pytest.mark.parametrize("url", SECRET_URLS)
def test_a_secret_is_refused_and_not_shown(url: str, end: str) -> None:
    with pytest.raises(ConfigError, match="there are credentials in the URL") as error:
        parse_source(url + end)
    assert "wJalr" not in str(error.value)


def test_only_urls_of_stores_are_fetched() -> None:
    assert FileSource("s3://b/net.pt").is_remote
    assert not FileSource("file:///net.pt").is_remote
    assert not FileSource("FILE://localhost/net.pt").is_remote
    assert not FileSource("net.pt").is_remote
