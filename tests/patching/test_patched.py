"""`patched`: the standard modules are ours in the block, for everybody, and exactly what they were after it."""

from __future__ import annotations

import pickle
import queue
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import greenthreads
from greenthreads import patch, patched, run_scheduler

# Tests of the examples import it, and may come before in the same process.
pytestmark = pytest.mark.filterwarnings("ignore:patched too late for class rich")


class MadeBefore(threading.Thread):
    """A subclass that some library made before the patch."""

    def run(self) -> None:
        self.kind_of_it = self.kind  # type: ignore[attr-defined]


def snapshot() -> dict[tuple[str, str], int]:
    """Which object stands under each name of each module, and of the standard Thread."""
    modules = [module for module in list(sys.modules.values()) if type(module) is types.ModuleType]
    found = {(module.__name__, name): id(value) for module in modules for name, value in list(vars(module).items())}
    found.update({("Thread", name): id(value) for name, value in vars(threading.Thread).items()})
    return found


def changes(before: dict[tuple[str, str], int], after: dict[tuple[str, str], int]) -> list[tuple[str, str]]:
    """Names that stand for something else, or are gone, or have come; but for those of modules that were imported."""
    modules = {module for module, _name in before}
    names = {key for key in before.keys() | after.keys() if key[0] in modules}
    return sorted(key for key in names if before.get(key) != after.get(key))


def test_everything_is_put_back_exactly() -> None:
    with patched():
        pass  # What it imports is there from now on.
    before = snapshot()
    with patched():
        inside = snapshot()
    assert changes(before, snapshot()) == []
    changed = changes(before, inside)
    assert {("threading", "Lock"), ("_thread", "allocate_lock"), ("queue", "Queue"), ("time", "sleep")} <= set(changed)


def test_everything_is_put_back_after_an_exception_and_after_nested_scopes() -> None:
    before = snapshot()
    with pytest.raises(KeyError), patched():
        with patched():
            assert patch.is_patched()
        assert threading.Lock is greenthreads.Lock
        raise KeyError
    assert changes(before, snapshot()) == []
    assert not patch.is_patched()


def test_what_a_program_changes_in_the_block_is_not_taken_for_ours() -> None:
    module = types.ModuleType("a_program_s")
    sys.modules["a_program_s"] = module
    try:
        vars(module)["Lock"] = threading.Lock
        with patched():
            assert vars(module)["Lock"] is greenthreads.Lock
            vars(module)["mine"] = "stays"
        assert vars(module)["Lock"] is threading.Lock
        assert vars(module)["mine"] == "stays"
    finally:
        del sys.modules["a_program_s"]


NAMES: dict[str, tuple[Any, Any]] = {
    f"{module.__name__}.{name}": (module, name)
    for module, names in (
        (threading, ("Lock", "Condition", "Semaphore", "BoundedSemaphore", "Event", "Barrier", "local")),
        (queue, ("Queue", "LifoQueue", "PriorityQueue", "SimpleQueue")),
    )
    for name in names
}


@pytest.mark.parametrize("where", NAMES)
def test_in_the_block_the_names_are_ours(where: str) -> None:
    module, name = NAMES[where]
    standard = getattr(module, name)
    with patched():
        assert getattr(module, name) is getattr(greenthreads, name)
        assert getattr(module, name).__module__ in (module.__name__, "_queue", "_thread")
    assert getattr(module, name) is standard


def test_an_unmodified_program_runs_on_user_threads() -> None:
    record: list[object] = []

    def work(number: int) -> None:
        time.sleep(0)
        with lock:
            me = threading.current_thread()
            items.put((number, me.name, threading.get_ident() == me.ident))

    def main() -> None:
        before = threading.active_count()  # A tool that watches the tests may have a thread.
        threads = [threading.Thread(target=work, args=(number,), name=f"worker {number}") for number in range(3)]
        for thread in threads:
            thread.start()
        record.append([type(thread) is threading.Thread for thread in threads])
        record.append(threading.active_count() - before)
        for thread in threads:
            thread.join()
        record.append([items.get() for _ in threads])
        record.append({thread.kind for thread in threads})  # type: ignore[attr-defined]

    with patched():
        lock, items = threading.Lock(), queue.Queue[Any]()
        run_scheduler(main)
    expected = [(number, f"worker {number}", True) for number in range(3)]
    assert record == [[True, True, True], 3, expected, {"user"}]


@pytest.mark.parametrize("kind", ["user", "kernel"])
def test_what_leaves_a_standard_thread_goes_to_excepthook(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise failure

    def main() -> threading.Thread:
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
        return thread

    failure = ValueError("why")
    record: list[object] = []
    with patched():
        monkeypatch.setattr(threading, "excepthook", lambda args: record.append((args.exc_value, args.thread)))
        greenthreads.set_default_kind(kind)
        try:
            thread = run_scheduler(main)
        finally:
            greenthreads.set_default_kind("user")
            monkeypatch.undo()
    assert record == [(failure, thread)]


def test_a_subclass_that_was_made_before_is_a_user_thread_too() -> None:
    def main() -> MadeBefore:
        thread = MadeBefore()
        thread.start()
        thread.join()
        return thread

    with patched():
        thread = run_scheduler(main)
    assert thread.kind_of_it == "user"
    assert isinstance(thread, threading.Thread)


def test_where_no_scheduler_runs_a_thread_is_a_kernel_thread() -> None:
    record: list[str] = []
    with patched():
        thread = threading.Thread(target=lambda: record.append(threading.current_thread().kind))  # type: ignore[attr-defined]
        thread.start()
        thread.join()
    assert record == ["kernel"]


def test_a_thread_of_before_can_be_joined_in_the_block_and_is_enumerated() -> None:
    go = threading.Lock()
    go.acquire()
    thread = threading.Thread(target=go.acquire, name="of before")
    thread.start()

    def main() -> list[object]:
        seen = [thread in threading.enumerate(), thread.is_alive()]
        thread.join(0.001)
        seen.append(thread.is_alive())
        go.release()
        thread.join()
        return [*seen, thread.is_alive()]

    with patched():
        assert run_scheduler(main) == [True, True, True, False]


@pytest.fixture
def module_of_before() -> Iterator[types.ModuleType]:
    """A module that has bound names, and made locks, before the patch."""
    module = types.ModuleType("module_of_before")
    source = """
        import threading
        from _thread import allocate_lock
        from queue import Queue
        from threading import Lock as TheLock, RLock, Thread, current_thread
        from time import sleep

        free = threading.Lock()
        reentrant = threading.RLock()
    """
    import textwrap

    exec(textwrap.dedent(source), vars(module))
    sys.modules["module_of_before"] = module
    yield module
    del sys.modules["module_of_before"]


def test_names_bound_before_are_replaced_and_put_back(module_of_before: Any) -> None:
    names = ("allocate_lock", "Queue", "TheLock", "current_thread", "sleep")
    before = [vars(module_of_before)[name] for name in names]
    with patched():
        assert [vars(module_of_before)[name] for name in names] == [
            greenthreads.Lock, greenthreads.Queue, greenthreads.Lock, greenthreads.current_thread, greenthreads.sleep,
        ]  # fmt: skip
        assert type(module_of_before.RLock()) is greenthreads.RLock
        assert module_of_before.Thread is threading.Thread
    assert [vars(module_of_before)[name] for name in names] == before


def test_locks_that_a_module_made_are_replaced_where_nobody_else_has_them(module_of_before: Any) -> None:
    kinds = type(module_of_before.free), type(module_of_before.reentrant)
    with patched():
        assert type(module_of_before.free) is greenthreads.Lock
        assert type(module_of_before.reentrant) is greenthreads.RLock
    assert (type(module_of_before.free), type(module_of_before.reentrant)) == kinds


def test_a_lock_that_is_held_or_had_by_others_stays_and_is_named(module_of_before: Any) -> None:
    """With two locks in the place of one nothing would be locked."""
    module_of_before.held = held = threading.Lock()
    module_of_before.shared = shared = threading.Lock()
    held.acquire()
    with pytest.warns(RuntimeWarning, match=r"lock module_of_before\.held, lock module_of_before\.shared"), patched():
        assert (module_of_before.held, module_of_before.shared) == (held, shared)


def test_a_module_that_is_imported_in_the_block_finds_ours(script: Any) -> None:
    assert script("""
        import sys
        import greenthreads

        assert "concurrent.futures.thread" not in sys.modules
        with greenthreads.patched():
            import concurrent.futures
            from threading import Event

            inside = concurrent.futures.ThreadPoolExecutor, Event

            def main():
                with concurrent.futures.ThreadPoolExecutor(2) as executor:
                    return [executor.submit(lambda: __import__("threading").current_thread().kind).result()]

            print(greenthreads.run_scheduler(main))
        from concurrent.futures.thread import ThreadPoolExecutor

        print(inside[0].__module__, inside[1] is greenthreads.Event, ThreadPoolExecutor is inside[0])
    """).stdout == "['user']\ngreenthreads.futures True False\n"


def test_for_good(script: Any) -> None:
    assert script("""
        import greenthreads

        greenthreads.patch_all()
        greenthreads.patch_all()
        import threading
        from threading import Lock

        def main():
            thread = threading.Thread(target=lambda: print(threading.current_thread().kind))
            thread.start()
            thread.join()

        with greenthreads.patched():
            pass
        greenthreads.run_scheduler(main)
        print(Lock is greenthreads.Lock, threading.Lock is Lock)
    """).stdout == "user\nTrue True\n"


def test_classes_say_where_they_are_found_and_can_be_pickled_by_name() -> None:
    with patched():
        assert pickle.loads(pickle.dumps(threading.Event)) is threading.Event
    assert greenthreads.Event.__module__ == "greenthreads"
    assert pickle.loads(pickle.dumps(greenthreads.Event)) is greenthreads.Event


def test_logging_works_across_the_block(caplog: Any) -> None:
    import logging

    logger = logging.getLogger("tests.patched")

    def main() -> None:
        threads = [threading.Thread(target=logger.warning, args=("from %d", number)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    with patched():
        run_scheduler(main)
    logger.warning("after")
    assert [record.getMessage() for record in caplog.records] == ["from 0", "from 1", "from 2", "after"]
    assert [record.threadName for record in caplog.records][-1] == "MainThread"


def test_primitives_serve_to_the_very_end_of_the_interpreter(tmp_path: Path) -> None:
    # A handler takes logging's lock when it goes, and this one goes last of all.
    (tmp_path / "program.py").write_text(
        "import logging, sys\n"
        "handler = logging.StreamHandler(sys.stdout)\n"
        "logging.getLogger('a').addHandler(handler)\n"
        "logging.getLogger('a').warning('hello')\n"
    )
    command = [sys.executable, "-m", "greenthreads", "program.py"]
    done = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert (done.stdout, done.stderr, done.returncode) == ("hello\n", "", 0)
