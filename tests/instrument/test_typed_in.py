"""What is in no file: a notebook's cells, and the inputs of an interactive interpreter."""

from __future__ import annotations
import __future__

import ast
import code
import functools
import inspect
import linecache
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from greenthreads.testing import Call, NotLinearizable, check_linearizable, explore
from greenthreads.testing._coverage import Coverage, LeftOut
from greenthreads.testing.instrument import instrumented

IMPORTS = "import threading, dataclasses\n"
COUNT = """
count = [0]
def increment():
    value = count[0]
    count[0] = value + 1
"""
TEST = """
def test():
    count[0] = 0
    threads = [threading.Thread(target=increment) for _ in range(2)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert count[0] == 2
"""


class Notebook:
    """A `__main__` without a file, whose cells are compiled as IPython does: statement by statement."""

    def __init__(self, main: ModuleType) -> None:
        self.main = main
        self.cells = 0
        self.name = f"of {id(self)}>"

    def run(self, source: str, known: bool = True, flags: int = 0) -> None:
        self.cells += 1
        name = f"<cell {self.cells} {self.name}"
        if known:
            linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        for statement in ast.parse(source, name).body:
            module = ast.Module([statement], [])
            awaited = eval(compile(module, name, "exec", flags, dont_inherit=True), self.main.__dict__)
            if inspect.iscoroutine(awaited):
                with pytest.raises(StopIteration):
                    awaited.send(None)

    def test(self) -> None:
        self.main.__dict__["test"]()


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Notebook]:
    main = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.chdir(tmp_path)
    mine = Notebook(main)
    yield mine
    for name in [name for name in linecache.cache if mine.name in name]:
        del linecache.cache[name]


def test_a_race_in_a_notebook_is_found_and_quoted(notebook: Notebook) -> None:
    for cell in (IMPORTS, COUNT, TEST):
        notebook.run(cell)
    failure = explore(functools.partial(notebook.main.__dict__["test"]), strategy="dpor").failure
    assert failure is not None
    assert failure.pattern is not None
    assert failure.pattern.name == "lost update"
    report = failure.report()
    assert "value = count[0]" in report
    assert "write count[0] = 1" in report


def test_each_cell_is_seen_and_what_has_no_source_is_counted(notebook: Notebook) -> None:
    notebook.run(IMPORTS + COUNT)
    notebook.run(TEST, flags=__future__.annotations.compiler_flag)  # As after an import of it in an earlier cell.
    notebook.run("@dataclasses.dataclass\nclass Point:\n    x: int = 1\n")
    notebook.run("def gone(): pass\n", known=False)
    notebook.run("async def later(): pass\nawait later()\n", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    notebook.run("def broken(): pass\n")
    linecache.cache[f"<cell {notebook.cells} {notebook.name}"] = (1, None, ["def\n"], "")
    functions = [notebook.main.__dict__[name] for name in ("increment", "test")]
    plain = [each.__code__ for each in functions]
    with instrumented(["__main__"]) as instrumentation:
        assert all(each.__code__ is not was for each, was in zip(functions, plain, strict=True))
        modules, left_out = instrumentation.coverage
    assert [each.__code__ for each in functions] == plain
    assert modules == ("__main__",)
    assert LeftOut("1 async function of __main__", "left alone") in left_out
    (made,) = (each.what for each in left_out if each.why == "made by exec: no source")
    # `gone`, `broken`, and what the dataclass has.
    assert int(made.split()[0]) >= 4


def test_what_nobody_has_kept_is_named(notebook: Notebook) -> None:
    for cell in (IMPORTS, COUNT, TEST):
        notebook.run(cell, known=False)
    with instrumented(["__main__"]) as instrumentation:
        notebook.test()
    assert instrumentation.coverage == Coverage((), (LeftOut("__main__", "no source"),))
    assert "not seen in __main__ (no source)" in explore(notebook.main.__dict__["test"]).coverage


def test_modules_of_the_folder_are_the_notebook_s_project(
    notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "counting.py").write_text(COUNT, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    notebook.run(IMPORTS + "from counting import count, increment\n" + TEST)
    try:
        found = explore(notebook.main.__dict__["test"], strategy="dpor")
    finally:
        del sys.modules["counting"]
    assert found.failure is not None
    assert "counting.py" in found.failure.report()


def test_a_main_module_that_is_not_the_test_s_is_left_alone(notebook: Notebook, tmp_path: Path) -> None:
    notebook.run(COUNT)
    with instrumented(root=tmp_path) as instrumentation:
        assert instrumentation.coverage == Coverage((), ())
    assert "__main__" not in explore(lambda: None, strategy="dpor", root=str(tmp_path)).coverage


def test_an_object_of_a_notebook_is_checked(notebook: Notebook) -> None:
    notebook.run("""
class Counter:
    def __init__(self):
        self.value = 0
    def next(self):
        self.value += 1
        return self.value
""")
    with pytest.raises(NotLinearizable, match=r"self\.value"):
        check_linearizable(notebook.main.__dict__["Counter"], [Call("next")], max_seconds=None)


def test_an_interactive_interpreter_has_a_main_module_of_its_own(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The interpreter of Python 3.13 is a program in a file, and what one types in goes to that module."""
    notebook.main.__dict__["__file__"] = str(tmp_path.parent / "elsewhere.py")
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    interpreter = code.InteractiveInterpreter(notebook.main.__dict__)
    for number, source in enumerate((IMPORTS, COUNT, TEST)):
        name = f"<input {number} {notebook.name}"
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        interpreter.runsource(source, name, "exec")
    assert explore(notebook.main.__dict__["test"], strategy="dpor").failure is not None


def test_a_test_whose_source_nobody_has_is_named(tmp_path: Path) -> None:
    """As that of a doctest, which runs in a copy of a module's namespace."""
    for name in ("__main__", "somewhere"):
        namespace = {"__name__": name}
        exec(compile(IMPORTS + COUNT + TEST, "<doctest>", "exec"), namespace)
        test: Any = namespace["test"]
        assert "not seen in test (no source)" in explore(test, strategy="dpor", root=str(tmp_path)).coverage
    assert "not seen" not in explore(print, strategy="dpor", root=str(tmp_path)).coverage


def test_what_belongs_to_no_module_is_explored(tmp_path: Path) -> None:
    look = functools.partial(dict.get, {}, 1)
    assert not hasattr(look.func, "__module__")
    assert explore(look, strategy="dpor", root=str(tmp_path)).exhausted


SHOW = "from greenthreads.testing import explore\nprint(explore(test, strategy='dpor', max_seconds=None))\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        # Feature: Python keeps the source of `-c` since 3.13.
        (lambda source: ["-c", source], "<Failure" if sys.version_info >= (3, 13) else "__main__ (no source)"),
        (lambda _: ["-"], "__main__ (no source)"),
    ],
    ids=["-c", "-"],
)
def test_a_program_in_no_file(arguments: Callable[[str], list[str]], expected: str, tmp_path: Path) -> None:
    source = IMPORTS + textwrap.dedent(COUNT) + TEST + SHOW
    command = [sys.executable, *arguments(source)]
    done = subprocess.run(command, input=source, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert expected in done.stdout, done.stderr
