"""What a URL gives away, and which file it names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crown_exp.folder.urls import file_path, holds_credentials
from tests.secret_urls import PLAIN_URLS, SECRET_URLS

TEXT = st.text(min_size=1, max_size=20)


@pytest.mark.parametrize("url", SECRET_URLS)
def test_a_secret_is_seen(url: str) -> None:
    assert holds_credentials(url)
    assert holds_credentials(f"{url}/runs/r1-k7f@20")


@pytest.mark.parametrize("url", PLAIN_URLS)
def test_what_holds_none_is_let_through(url: str) -> None:
    assert not holds_credentials(url)
    assert not holds_credentials(f"{url}/runs/r1-k7f@20")


@given(st.sampled_from(["s3", "gs", "az", "sftp", "https"]), TEXT, TEXT, TEXT)
def test_no_key_with_its_secret_passes(scheme: str, key: str, secret: str, bucket: str) -> None:
    assert holds_credentials(f"{scheme}://{key}:{secret}@{bucket}/p")


def test_files() -> None:
    assert file_path("file:///a%20b/w.pt") == file_path("file://localhost/a b/w.pt") == "/a b/w.pt"
    for url in ("file://", "file://host/a", "file:a"):
        with pytest.raises(ValueError, match="three slashes"):
            file_path(url)
