from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from crown_exp.config.targets import NOT_LITERAL, Parameter, Target

Write = Callable[..., None]
Find = Callable[[str], Target]


def test_a_function_is_its_signature(write: Write, find: Find, tmp_path: Path) -> None:
    write(
        tasks='''
        from typing import Annotated, Literal

        def train(run, model, /, lr: float = 1e-3, *rest, steps: Annotated[int, Gt(0)] = 10,
                  mode: Literal["a", "b"], device=None, **more) -> None:
            """Trains. And more.

            Args:
                lr (float, optional): the learning rate (default: 1e-3). Small.
                steps: how many steps
                    to take, e.g. ten. Really.
            """
        '''
    )
    found = find("tasks.train")
    assert (found.kind, found.open, found.doc) == ("function", True, "Trains")
    assert (found.file, found.line) == (str(tmp_path / "tasks.py"), 4)
    assert list(found.parameters) == ["lr", "steps", "mode", "device"]  # not the positional-only
    lr, steps, mode, device = found.parameters.values()
    assert (str(lr.kind), lr.default_text, lr.default, lr.required) == (
        "float",
        "1e-3",
        0.001,
        False,
    )
    assert (lr.positional, steps.positional) == (True, False)
    assert lr.doc == "the learning rate"
    assert steps.doc == "how many steps to take, e.g. ten"
    assert (str(steps.kind), steps.annotation_text) == ("int > 0", "Annotated[int, Gt(0)]")
    assert (mode.required, mode.default, mode.default_text) == (True, NOT_LITERAL, None)
    assert (str(device.kind), device.default, device.line) == ("any", None, 5)


def test_a_function_without_kwargs_is_closed(write: Write, find: Find) -> None:
    write(tasks="def f(a, *args): ...\nasync def g(b=print): ...")
    assert not find("tasks.f").open
    assert find("tasks.g").parameters["b"].default is NOT_LITERAL
    assert find("tasks.g").parameters["b"].default_text == "print"


def test_a_default_is_always_accepted(write: Write, find: Find) -> None:
    write(tasks="def f(a: int = None, b: int = (3, 3), c: float = 0, d: str = 1): ...")
    kinds = [str(one.kind) for one in find("tasks.f").parameters.values()]
    assert kinds == ["int or null", "any", "float", "any"]


def test_annotations_mean_what_their_module_says(write: Write, find: Find) -> None:
    write(
        tasks="""
        from __future__ import annotations
        import typing as t
        from typing import Optional as Opt
        from crown_exp import Config, Run
        import crown_exp as ce
        from elsewhere import Config as Other

        Rate = t.Annotated[float, Gt(0)]
        class Path: ...

        def train(run: Run, model: Config[nn.Module], env: "Config[Env] | None", teacher: ce.Config[X],
                  student: Opt[Config[X]], lr: Rate, other: Other[int], path: Path, n: "Opt[int]"): ...
        """
    )
    parameters = find("tasks.train").parameters
    configs = [name for name, one in parameters.items() if one.is_config]
    assert configs == ["model", "env", "teacher", "student"]
    assert str(parameters["lr"].kind) == "float > 0"
    assert str(parameters["path"].kind) == "any"
    assert str(parameters["n"].kind) == "int or null"
    assert parameters["env"].annotation_text == "Config[Env] | None"
    assert parameters["run"].annotation_text == "Run"


def test_decorated_functions_keep_their_parameters(write: Write, find: Find) -> None:
    write(
        tasks="""
        import functools
        from typing import overload
        from inspect import Parameter

        def logged(f):
            @functools.wraps(f)
            def wrapper(*args, **kwargs): return f(*args, **kwargs)
            return wrapper

        def seeded(f):
            def wrapper(*args, seed=0, **kwargs): return f(*args, **kwargs)
            return wrapper

        def signed(f):
            f.__signature__ = ...
            return f

        @overload
        def f(a: int): ...
        @overload
        def f(a: str): ...
        @logged
        @functools.cache
        def f(a, b=1): ...

        @seeded
        def g(a): ...
        @signed
        def h(a): ...
        """
    )
    assert list(find("tasks.f").parameters) == ["a", "b"]
    assert not find("tasks.f").open
    for name in ("g", "h"):  # the decorator may have added something
        assert find(f"tasks.{name}").open
        assert not find(f"tasks.{name}").parameters["a"].required


def test_three_styles_of_docstrings(write: Write, find: Find) -> None:
    write(
        docs='''
        def google(a, b, c, d):
            """Does it.

            Arguments:
                a (int, optional): The first. Not the second.
                b, c: Two at once (default: (0.9, 0.999)).
                    They go on.

                    And on.
            Returns:
                d: nothing
            """

        def numpy(a, b, c):
            """Does it.

            Parameters
            ----------
            a : int, default=10
                The number. Between 0 and 10.

            b : {"x", "y"}
                Uses ``x`` or :math:`y`
                as it likes.

            Returns
            -------
            c : int
                The result.
            """

        def sphinx(a, b, c):
            """Does it.

            :param a: the first one
                of all. Really.
            :param int b: the second one
            :return: c
            """
        '''
    )
    said = {
        name: {key: one.doc for key, one in find(f"docs.{name}").parameters.items()}
        for name in ("google", "numpy", "sphinx")
    }
    assert said["google"] == {"a": "The first", "b": "Two at once", "c": "Two at once", "d": ""}
    assert said["numpy"] == {"a": "The number", "b": "Uses x or y as it likes", "c": ""}
    assert said["sphinx"] == {"a": "the first one of all", "b": "the second one", "c": ""}


def test_docs_of_a_class_may_be_assigned_and_concatenated(write: Write, find: Find) -> None:
    write(
        optim='''
        _lr = "lr (float): rate"

        class Adam:
            def __init__(self, params, lr, eps):
                """Makes one.

                Args:
                    lr: overridden
                    params: what to train
                """

        Adam.__doc__ = (
            r"""Implements Adam. It does."""
            + rf"""

            Args:
                {_lr}
                lr (float): the rate
                eps (float): a small number %s
            """ % "x"
        )
        '''
    )
    found = find("optim.Adam")
    assert found.doc == "Implements Adam"
    docs = {name: one.doc for name, one in found.parameters.items()}
    assert docs == {"params": "what to train", "lr": "the rate", "eps": "a small number %s"}


def test_views_of_a_target() -> None:
    target = Target("f", "function", {"a": Parameter("a", required=True)}, open=False)
    assert target.opened().open
    assert not target.opened().parameters["a"].required
    assert list(target.with_parameters({}).parameters) == []
