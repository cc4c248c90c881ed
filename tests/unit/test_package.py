"""What `import crown_exp` shows."""

import builtins

import crown_exp


def test_dir_shows_the_face_and_nothing_else() -> None:
    face = ["Config", "Run", "__version__", "compose", "open", "runs", "start"]
    assert dir(crown_exp) == face
    assert all(getattr(crown_exp, name) for name in dir(crown_exp))


def test_a_star_import_leaves_python_s_open_alone() -> None:
    names: dict[str, object] = {}
    exec("from crown_exp import *", names)
    assert names["runs"] is crown_exp.runs
    assert names.get("open", builtins.open) is builtins.open
