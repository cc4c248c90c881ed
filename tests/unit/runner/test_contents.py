"""Every kind of value that `run.artifact` takes, as bytes; and those it does not."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from crown_exp.errors import TaskError
from crown_exp.runner.contents import contents


def made(name: str, value: Any) -> bytes:
    return contents(name, value, lambda line: pytest.fail(f"said: {line}"))


def image(data: bytes) -> np.ndarray[Any, Any]:
    opened = pytest.importorskip("PIL.Image").open(BytesIO(data))
    return np.asarray(opened)


# --- as they are ------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "plain", "überläufe 学習 🦊\n", "a" * 10_000_000])
def test_text_is_utf_8(text: str) -> None:
    assert made("a.txt", text).decode() == text


def test_text_that_is_no_unicode_is_kept_as_far_as_it_is() -> None:
    assert made("a.txt", "half \ud800 pair") == b"half \\ud800 pair"


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_are_kept(kind: Any) -> None:
    assert made("a.bin", kind(b"\0\xff")) == b"\0\xff"


def test_a_path_stands_for_its_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"any bytes")
    assert made("b.npy", tmp_path / "a.png") == b"any bytes"


# --- arrays -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6, dtype=np.int16).reshape(2, 3),
        np.float64(0.5),
        torch.ones(2, 3, requires_grad=True),
        torch.ones(2, dtype=torch.complex64).conj(),
        torch.zeros(0, 4, dtype=torch.bool),
    ],
)
def test_an_array_is_read_back(value: Any) -> None:
    plain = value.detach().resolve_conj().numpy() if isinstance(value, torch.Tensor) else value
    found = np.load(BytesIO(made("a.npy", value)), allow_pickle=False)
    assert found.dtype == plain.dtype
    assert np.array_equal(found, plain)


def test_bfloat16_which_numpy_lacks_becomes_float32() -> None:
    found = np.load(BytesIO(made("a.npy", torch.tensor([1.5, -2.0], dtype=torch.bfloat16))))
    assert (found.dtype, found.tolist()) == (np.float32, [1.5, -2.0])


def test_several_arrays_in_one_file() -> None:
    found = np.load(BytesIO(made("a.npz", {"x": torch.ones(2), "y": np.zeros(3)})))
    assert {key: found[key].tolist() for key in found} == {"x": [1, 1], "y": [0, 0, 0]}


# --- pictures ---------------------------------------------------------------------------------------

GREY = np.array([[0, 128], [255, 1]], dtype=np.uint8)
COLOURED = np.arange(5 * 2 * 3, dtype=np.uint8).reshape(5, 2, 3)
CLEAR = np.arange(5 * 2 * 4, dtype=np.uint8).reshape(5, 2, 4)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (GREY, GREY),
        (GREY[:, :, None], GREY),
        (GREY[None], GREY),
        (GREY.astype(np.int64), GREY),
        (GREY.astype(np.float32) / 255, GREY),
        (GREY > 1, np.array([[0, 255], [255, 0]])),
        (COLOURED, COLOURED),
        (CLEAR, CLEAR),
        (torch.from_numpy(COLOURED).permute(2, 0, 1), COLOURED),
        (torch.from_numpy(COLOURED).permute(2, 0, 1).half() / 255, COLOURED),
        (torch.from_numpy(COLOURED), COLOURED),
    ],
)
def test_an_array_as_a_picture(value: Any, expected: Any) -> None:
    assert np.array_equal(image(made("a.png", value)), expected)


def test_what_could_be_either_is_read_as_its_library_has_it() -> None:
    either = np.zeros((3, 5, 4), dtype=np.uint8)
    assert image(made("a.png", either)).shape == (3, 5, 4)
    assert image(made("a.png", torch.from_numpy(either))).shape == (5, 4, 3)


def test_other_formats_go_by_the_name() -> None:
    pytest.importorskip("PIL")
    assert made("a.JPG", COLOURED)[:3] == b"\xff\xd8\xff"
    assert made("a.webp", COLOURED)[:4] == b"RIFF"


def test_floats_beyond_0_and_1_are_cut_and_that_is_said() -> None:
    said: list[str] = []
    data = contents("a.png", np.array([[-1.0, 0.5], [float("nan"), 7.0]]), said.append)
    assert image(data).tolist() == [[0, 128], [0, 255]]
    assert said == ["run.artifact: a.png: values in nan..nan are cut to 0..1"]


def test_an_image_of_pillow_s() -> None:
    module = pytest.importorskip("PIL.Image")
    assert np.array_equal(image(made("a.png", module.fromarray(COLOURED))), COLOURED)


def test_without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(
        TaskError, match=r"^run\.artifact: a\.png: needs Pillow: pip install pillow$"
    ):
        made("a.png", GREY)


# --- figures, tables, trees -------------------------------------------------------------------------


class Drawing:
    """What draws in one format alone."""

    def savefig(self, file: Any, format: str) -> None:
        if format != "png":
            raise ValueError(f"Format {format!r} is not supported\n(supported formats: png)")
        file.write(b"a figure")


def test_anything_with_savefig_is_drawn() -> None:
    assert made("a.png", Drawing()) == b"a figure"


def test_a_figure_of_matplotlib() -> None:
    pytest.importorskip("matplotlib").use("agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1, 1), dpi=20)
    figure.subplots().plot([1, 2])
    assert image(made("a.png", figure)).shape == (20, 20, 4)
    assert made("a.svg", figure).startswith(b"<?xml")


def test_a_table_of_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"a": [1, 2], "b": ["x", "ü"]})
    assert made("a.csv", table).decode() == ",a,b\n0,1,x\n1,2,ü\n"
    assert made("a.tsv", table).decode().splitlines()[1] == "0\t1\tx"
    assert [json.loads(row) for row in made("a.jsonl", table).splitlines()] == [
        {"a": 1, "b": "x"},
        {"a": 2, "b": "ü"},
    ]


def test_a_table_that_needs_what_is_not_installed() -> None:
    class Table:
        def to_csv(self) -> str:
            return ""

        def to_parquet(self) -> bytes:
            raise ImportError("no engine\nneither of two")

    with pytest.raises(TaskError, match=r"a\.parquet: needs pyarrow: pip install pyarrow$"):
        made("a.parquet", Table())


def test_trees_as_json() -> None:
    tree = {"a": [1, None], "t": torch.ones(2), "n": np.float32(0.5), "p": Path("x/y"), "ü": "🦊"}
    read = json.loads(made("a.json", tree))
    assert read == {"a": [1, None], "t": [1, 1], "n": 0.5, "p": "x/y", "ü": "🦊"}
    assert made("a.jsonl", [{"a": 1}, [2]]) == b'{"a": 1}\n[2]\n'


# --- what is none -----------------------------------------------------------------------------------

LOOP: list[Any] = []
LOOP.append(LOOP)
WRONG = [
    ("a.bin", object(), "a object cannot be kept so; expected text, bytes, "),
    ("a", None, "a NoneType cannot be kept so"),
    ("a.txt", {"a": 1}, "a dict cannot be kept so"),
    ("a.svg", GREY, "a ndarray of shape (2, 2) cannot be kept so"),
    ("a.png", "out/a.png", "got text, which is no .png; for a file: pathlib.Path('out/a.png')"),
    ("a.png", Path("/not/there"), "there is no file /not/there"),
    ("a", Path("/"), "/ is a directory; store its files one by one, or shutil.make_archive first"),
    ("a", Drawing(), "as what? give the name an end: a.png, a.pdf"),
    ("a.xyz", Drawing(), "Format 'xyz' is not supported (supported formats: png)"),
    ("a.npy", np.array([object()]), "is no array of numbers or text"),
    ("a.npz", {"x": 1}, "x is no array of numbers or text"),
    ("a.json", {"a": object()}, "not as JSON: a object is in it"),
    ("a.json", LOOP, "not as JSON: Circular reference detected"),
    ("a.jsonl", {"a": 1}, "not as JSON: expected a list of rows, got a dict"),
    ("a.png", torch.zeros(2, 3, 8, 8), "this has shape (2, 3, 8, 8)"),
    ("a.png", np.zeros((0, 4)), "this has shape (0, 4)"),
    ("a.png", np.zeros(4), "this has shape (4,)"),
    ("a.png", np.zeros((4, 4), complex), "a picture holds numbers, this complex128"),
    ("a.png", np.array([[300]]), "whole numbers of a picture are in 0..255, these in 300..300"),
    ("a.jpg", CLEAR, "not as .jpg: cannot write mode RGBA as JPEG"),
]


@pytest.mark.parametrize(("name", "value", "what"), WRONG)
def test_a_mistake_is_one_line(name: str, value: Any, what: str) -> None:
    with pytest.raises(TaskError) as caught:
        made(name, value)
    said = str(caught.value)
    assert said.startswith(f"run.artifact: {name}: ")
    assert what in said
    assert "\n" not in said
