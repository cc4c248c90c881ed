"""Which run was typed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crown_exp.errors import ConfigError
from crown_exp.launch.address import Address, address
from tests.secret_urls import SECRET_URLS

STORES = (
    "s3://b",
    "s3://b/a b",
    "/data/store",
    "file:///data/my store",
    ".crown/store",
    "../s",
    "file:///d/runs",
    "/a@b",
)
NAME = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True)


@given(st.sampled_from(STORES), NAME, st.sampled_from([None, "", "7", "latest"]), st.booleans())
def test_a_folder_is_a_store_and_an_id(store: str, run: str, step: str | None, slash: bool) -> None:
    typed = f"{store}/runs/{run}{'/' * slash}"
    assert address(typed) == Address(store, run)
    if step is not None and not slash:
        assert address(f"{typed}@{step}", steps=True) == Address(store, run, step)
    assert address(typed, steps=True) == Address(store, run)


@given(NAME, st.sampled_from(["", "7", "latest", "@"]))
def test_anything_else_is_asked_of_the_project_s_store(run: str, step: str) -> None:
    assert address(run) == Address(None, run)
    assert address(f"{run}@{step}", steps=True) in (
        Address(None, run, step), Address(None, f"{run}@", ""),
    )  # fmt: skip


@pytest.mark.parametrize("end", ["", "/runs/x", "/runs/x@7", "/x"])
@pytest.mark.parametrize("url", SECRET_URLS)
@pytest.mark.parametrize("steps", [True, False])
def test_a_secret_is_refused_and_not_shown(url: str, end: str, steps: bool) -> None:
    with pytest.raises(ConfigError, match="there are credentials in the URL") as caught:
        address(url + end, steps=steps)
    assert "wJalr" not in str(caught.value)


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("a/b", "expected an id, or the folder of a run"),
        ("/", "expected an id"),
        ("/runs/x", "expected an id"),
        ("/data/runs/", "expected an id"),
        ("/data/runs/../x", "expected an id"),
        ("/data/runs/x/log", "expected an id"),
        ("/data/runs/x@7", "expected an id"),
        ("/data/runs/-x", "expected an id"),
        ("memory://a/runs/x", "gone with the process"),
        ("Memory:///runs/x", "gone with the process"),
        ("gopher://h/runs/x", "no store speaks gopher"),
        ("file://host/runs/x", "three slashes"),
    ],
)
def test_what_is_no_run_is_one_line(typed: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        address(typed)
    said = str(caught.value)
    assert "hunter2" not in said and "\n" not in said and not said.startswith("CROWN_")
