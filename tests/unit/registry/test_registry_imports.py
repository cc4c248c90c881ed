"""The face of the registry costs nothing until it is used."""

import subprocess
import sys
from pathlib import Path

import pytest

import crown_exp.registry

ROOT = Path(__file__).parents[3]


def test_importing_the_registry_imports_no_database() -> None:
    code = (
        "import sys; import crown_exp.registry, crown_exp.registry.base, crown_exp.storage.database;"
        "from pathlib import Path; crown_exp.registry.default_url(Path('/x'));"
        "crown_exp.registry.parse_filter('tag:a lr<1');"
        "heavy = {'sqlalchemy', 'alembic', 'aiosqlite', 'sqlite3', 'yaml', 'anyio', 'asyncio'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", crown_exp.registry.__all__)
def test_every_name_of_the_face_is_there(name: str) -> None:
    assert getattr(crown_exp.registry, name).__module__.startswith("crown_exp.registry.")


def test_another_name_is_not() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = crown_exp.registry.nothing
