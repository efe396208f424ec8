"""Which modules are instrumented, when, and what is said of the rest."""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from greenthreads.testing._coverage import Coverage, LeftOut
from greenthreads.testing._functions import settle
from greenthreads.testing.instrument import instrumented, strip_frames
from scheduler import control

Load = Callable[..., ModuleType]

COUNTER = """
    class Box: pass
    box = Box()
    def run():
        box.x = 1
        return box.x
"""


def test_of_many_modules_the_packages_are_named_and_the_rest_counted() -> None:
    few = Coverage(("a", "b", "c", "d", "e"), ())
    assert str(few) == "memory accesses seen in a, b, c, d, e"
    package = tuple(f"package.part{n}" for n in range(7))
    left_out = (LeftOut("fast", "written in C"), LeftOut("gone", "no source"))
    some = Coverage((*package, "test_it"), left_out)
    assert str(some) == (
        "memory accesses seen in 7 modules of package, test_it; not seen in fast (written in C), gone (no source)"
    )
    many = Coverage((*package, *(f"test_{n}" for n in range(30))), ())
    assert str(many) == "memory accesses seen in 7 modules of package, 30 other modules"
    assert many.sentence("test_3") == "memory accesses seen in test_3, 7 modules of package, 29 other modules"
    assert many.sentence("not_there") == str(many)
    alone = Coverage(tuple(f"test_{n}" for n in range(30)), ())
    assert str(alone) == "memory accesses seen in 30 modules"


def test_outside_of_a_run_the_plain_code_runs(load: Load) -> None:
    module = load(COUNTER)
    code = module.run.__code__
    with instrumented([module.__name__]):
        assert module.run.__code__ is not code
        assert module.run() == 1
    assert module.run.__code__ is code
    assert "read_attribute" not in str(module.run.__code__.co_consts)


@pytest.mark.parametrize("between", ["nothing", "collect 1", "collect 2", "freeze", "other"])
def test_each_time_all_functions_are_found(load: Load, between: str) -> None:
    module = load("""
        box = []
        made = []
        def make():
            made.append(lambda: box.append(1))
        def run(): box.append(2)
    """)
    other = load(COUNTER)

    def instrumented_ones() -> list[bool]:
        functions = [module.run, module.make, *module.made]
        codes = [each.__code__ for each in functions]
        with instrumented([module.__name__]):
            module.make()
            return [each.__code__ is not code for each, code in zip(functions, codes, strict=True)]

    plain = module.run.__code__
    module.make()
    first = instrumented_ones()
    settle()
    module.make()
    match between:
        case "collect 1":
            gc.collect(1)
        case "collect 2":
            gc.collect(2)
        case "freeze":
            gc.freeze()
        case "other":
            with instrumented([other.__name__]):
                module.make()
    try:
        second = instrumented_ones()
    finally:
        gc.unfreeze()
    assert first == [True] * 3
    # That of the first time, which was made inside, and those that were made since.
    assert second == [True] * (6 if between == "other" else 5)
    assert module.run.__code__ is plain
    assert len({each.__code__ for each in module.made}) == 1


def test_modules_below_the_root_are_instrumented(load: Load, tmp_path: Path) -> None:
    module = load(COUNTER, "below")
    with instrumented(root=tmp_path) as instrumentation:
        changed = module.run.__code__
    assert changed is not module.run.__code__
    assert instrumentation.coverage == Coverage(("below",), ())
    assert str(instrumentation.coverage) == "memory accesses seen in below"


def test_installed_packages_below_the_root_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "venv" / "lib" / "site-packages"
    folder.mkdir(parents=True)
    (folder / "installed_thing.py").write_text("def run(): return []\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    module = importlib.import_module("installed_thing")
    try:
        code = module.run.__code__
        with instrumented(root=tmp_path) as instrumentation:
            assert module.run.__code__ is code
            assert instrumentation.coverage.modules == ()
        with instrumented(["installed_thing"], root=tmp_path) as instrumentation:
            assert module.run.__code__ is not code
            assert instrumentation.coverage.modules == ("installed_thing",)
    finally:
        del sys.modules["installed_thing"]


def test_a_package_is_included_with_what_is_in_it() -> None:
    import json

    with instrumented(["json"]) as instrumentation:
        assert instrumentation.coverage.modules == ("json", "json.decoder", "json.encoder", "json.scanner")
        assert json.loads(json.dumps({"a": [1, {"b": None}]})) == {"a": [1, {"b": None}]}


def test_what_cannot_be_instrumented_is_named(load: Load) -> None:
    import collections  # noqa: F401

    load(
        """
        import asyncio, dataclasses
        @dataclasses.dataclass
        class Point:
            x: int = 1
        exec("def made(): pass")
        async def later(): pass
        """,
        "mixed",
    )
    with instrumented(["mixed", "math", "greenlet._greenlet", "scheduler", "nowhere_at_all"]) as instrumentation:
        left_out = instrumentation.coverage.left_out
    assert LeftOut("1 async function of mixed", "left alone") in left_out
    assert LeftOut("nowhere_at_all", "not imported") in left_out
    assert LeftOut("scheduler", "it runs the exploration") in left_out
    assert LeftOut("greenlet._greenlet", "it runs the exploration") in left_out
    assert any(each.what == "math" and each.why in ("built in", "written in C") for each in left_out)
    made = [each for each in left_out if each.why == "made by exec: no source"]
    assert [each.what.partition(" ")[2] for each in made] == ["functions of mixed"]
    assert "math (" in str(instrumentation.coverage)


def test_a_module_without_source_is_named(load: Load, tmp_path: Path) -> None:
    module = load(COUNTER, "gone")
    (tmp_path / "gone.py").unlink()
    with instrumented(["gone"]) as instrumentation:
        assert module.run() == 1
    assert instrumentation.coverage == Coverage((), (LeftOut("gone", "no source"),))


def test_a_function_whose_source_has_changed_is_named(load: Load, tmp_path: Path) -> None:
    module = load(COUNTER, "edited")
    (tmp_path / "edited.py").write_text("def run():\n    return 5\n", encoding="utf-8")
    with instrumented(["edited"]) as instrumentation:
        assert module.run() == 1
    assert instrumentation.coverage == Coverage(("edited",), (LeftOut("edited.run", "its source has changed"),))


def test_a_module_imported_during_the_run_is_instrumented_from_its_first_line(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load("", "first")
    (tmp_path / "late.py").write_text("d = {}\nd['k'] = 1\ndef get(): return d['k']\n", encoding="utf-8")
    heard: list[Any] = []
    with instrumented(root=tmp_path) as instrumentation:
        monkeypatch.setattr(control, "access", lambda obj, footprint: heard.append((type(obj).__name__, footprint)))
        late = importlib.import_module("late")
        assert late.get() == 1
        monkeypatch.setattr(control, "access", None)
        assert instrumentation.coverage.modules == ("first", "late")
        code = late.get.__code__
    del sys.modules["late"]
    assert late.get.__code__ is not code
    assert type(late.__loader__).__name__ == "SourceFileLoader"
    assert late.__spec__.loader is late.__loader__
    assert [what for what, _ in heard] == ["dict"] * 5
    assert heard[2][1] == (("k", True), (control.SIZE, True))


def test_an_import_that_fails_fails_as_ever(load: Load, tmp_path: Path) -> None:
    load("", "first")
    (tmp_path / "broken.py").write_text("def :\n", encoding="utf-8")
    with instrumented(root=tmp_path), pytest.raises(SyntaxError, match="invalid syntax"):
        importlib.import_module("broken")
    with instrumented(root=tmp_path), pytest.raises(ModuleNotFoundError, match="No module named 'nowhere_at_all'"):
        importlib.import_module("nowhere_at_all")


def test_one_instrumentation_at_a_time(load: Load) -> None:
    module = load(COUNTER)
    with instrumented([module.__name__]) as instrumentation:
        with pytest.raises(RuntimeError, match="is instrumented already: leave that instrumentation first"):
            instrumented().__enter__()
        assert instrumentation is not None
    with instrumentation:
        assert module.run() == 1


def test_this_module_is_a_test_module_and_keeps_its_assertion_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[object] = []
    with instrumented([__name__]) as instrumentation:
        assert instrumentation.coverage.modules == (__name__,)
        monkeypatch.setattr(control, "access", lambda obj, _footprint: heard.append(obj))
        with pytest.raises(AssertionError) as caught:
            compare([1, 2], [1, 3])
        monkeypatch.setattr(control, "access", None)
    # As pytest writes it: both sides, and where they differ.
    assert "assert [1, 2] == [1, 3]" in str(caught.value)
    assert "At index 1 diff: 2 != 3" in str(caught.value)
    assert [each for each in heard if isinstance(each, list)] == [[1, 2], [1, 3]]
    with pytest.raises(AssertionError) as plain:
        compare([1, 2], [1, 3])
    assert str(plain.value) == str(caught.value)


def compare(a: list[int], b: list[int]) -> None:
    assert a == b


def test_the_one_frame_of_a_helper_that_may_show_can_be_stripped(load: Load) -> None:
    module = load("""
        class Holder: pass
        holder = Holder()
        holder.take = {}.pop
        def run(): holder.take("k")
    """)
    with instrumented([module.__name__]):
        try:
            module.run()
        except KeyError as error:
            traceback = strip_frames(error.__traceback__)
    names = []
    while traceback is not None:
        names.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    assert names == ["test_the_one_frame_of_a_helper_that_may_show_can_be_stripped", "run"]


def test_what_runs_in_between_is_announced_anew(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """A footprint that the state decides is that of the state in which the access happens."""
    module = load("""
        d = {}
        def add(): d["k"] = 1
        def remove(): d.pop("k", None)
    """)
    heard: list[object] = []

    def access(obj: object, footprint: object) -> None:
        if obj is module.d:
            heard.append(footprint)
            if len(heard) == 1:
                module.add()  # another thread, which comes first

    with instrumented([module.__name__]):
        monkeypatch.setattr(control, "access", access)
        module.add()
        monkeypatch.setattr(control, "access", None)
    new, there = (("k", True), (control.SIZE, True)), (("k", True),)
    assert heard == [new, new, there]
