from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from crown_exp.config.targets import Target, TargetError, find_target


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., None]:
    """Writes source files: `a__b` is a/b.py, `a____init__` is a/__init__.py."""

    def write(**files: str) -> None:
        for name, text in files.items():
            package, init, _ = name.partition("____init__")
            file = tmp_path / f"{package.replace('__', '/')}{'/__init__' if init else ''}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(dedent(text))

    return write


@pytest.fixture
def find(tmp_path: Path) -> Callable[[str], Target]:
    """Finds a target in what was written."""
    return lambda target: find_target(target, [str(tmp_path)])


@pytest.fixture
def error(find: Callable[[str], Target]) -> Callable[[str], TargetError]:
    """The error of a target that is not in what was written."""

    def error(target: str) -> TargetError:
        with pytest.raises(TargetError) as caught:
            find(target)
        return caught.value

    return error
