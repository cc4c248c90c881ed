"""Storage is on the path of every start: importing it costs next to nothing."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_importing_storage_imports_nothing_heavy() -> None:
    code = (
        "import sys; import crown_exp.storage, crown_exp.storage.runs, crown_exp.storage.machine;"
        "from crown_exp.storage import open_blobs; open_blobs('x');"
        "heavy = {'anyio', 'asyncio', 'numpy', 'pydantic', 'fsspec', 'torch'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
