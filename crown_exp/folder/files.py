"""The files that a task stores: `files/<step>/<name>` in its run's folder, and what they show."""

from __future__ import annotations

from crown_exp.folder.paths import RunPaths

KINDS = {
    **dict.fromkeys(("png", "jpg", "jpeg", "gif", "webp", "svg"), "image"),
    **dict.fromkeys(("npy", "npz"), "array"),
    **dict.fromkeys(("csv", "tsv", "parquet", "jsonl"), "table"),
    **dict.fromkeys(("txt", "md", "log", "json", "yaml"), "text"),
}
"""What a file shows, by how its name ends."""


def file_path(paths: RunPaths, step: int, name: str) -> str:
    """Where a file lies that was stored in turn `step`, 0 before any. name: may hold slashes."""
    return f"{paths.files}{step:06}/{name}"


def extension(name: str) -> str:
    """How a file's name ends, in small letters and without the dot; "" if it does not."""
    stem, dot, end = name.rpartition("/")[2].rpartition(".")
    return end.lower() if stem and dot else ""


def kind_of(name: str) -> str:
    """image, array, table, text, or file for anything else."""
    return KINDS.get(extension(name), "file")
