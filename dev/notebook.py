"""docs/notebook.ipynb executed anew, in a directory of its own: python -m dev.notebook."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs/notebook.ipynb"
PROJECT = ("conf", "experiments", "pyproject.toml")


def executed(folder: Path) -> Any:
    """The notebook with the outputs it has in a copy of the project in `folder`."""
    import nbclient
    import nbformat

    for name in PROJECT:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, folder / name)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=240, startup_timeout=120, iopub_timeout=120, kernel_name="python3",
        record_timing=False, coalesce_streams=True, resources={"metadata": {"path": str(folder)}},
    )  # fmt: skip
    ours = {name: text for name, text in os.environ.items() if not name.startswith("CROWN_")}
    client.execute(env=ours | {"PYTHONPATH": str(ROOT)})
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"]}
    return notebook


def main() -> int:
    """Write it back with its new outputs."""
    import nbformat

    with tempfile.TemporaryDirectory() as folder:
        nbformat.write(executed(Path(folder)), NOTEBOOK)
    return 0


if __name__ == "__main__":
    sys.exit(main())
