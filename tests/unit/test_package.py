"""What `import crown_exp` shows."""

import crown_exp


def test_dir_shows_the_face_and_nothing_else() -> None:
    assert dir(crown_exp) == ["Config", "Run", "__version__", "compose", "start"]
    assert all(getattr(crown_exp, name) for name in dir(crown_exp))
