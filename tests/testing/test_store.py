"""The folder of failing schedules: what goes in comes out, also when files are damaged, and processes many."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from plain import explore

from greenthreads.testing import Store
from scheduler import trace as traces

ONE = traces.encode([("0", "begin"), ("0", "start")])
OTHER = traces.encode([("0", "begin"), ("0", "acquire")])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / ".interleave")


def test_the_latest_comes_first(store: Store) -> None:
    assert store.traces("a") == []
    assert not store.folder.exists()
    store.add("a", ONE)
    store.add("a", OTHER)
    assert store.traces("a") == [OTHER, ONE]
    store.add("a", ONE)
    assert store.traces("a") == [ONE, OTHER]
    assert store.traces("b") == []


def test_with_the_last_one_goes_the_file(store: Store) -> None:
    store.remove("a", ONE)
    store.add("a", ONE)
    store.remove("a", OTHER)
    assert store.path("a").exists()
    store.remove("a", ONE)
    assert not store.path("a").exists()
    store.remove("a", ONE)


def test_names_that_look_alike_have_files_of_their_own(store: Store) -> None:
    names = ["test_a.py::test[a/b]", "test_a.py::test[a_b]", "x" * 5000, "x" * 5001, "..", "ä", "ö", ""]
    for name in names:
        store.add(name, ONE)
    assert len(list(store.folder.iterdir())) == len(names)
    assert all(store.traces(name) == [ONE] for name in names)


def test_of_a_damaged_file_remains_what_is_whole(store: Store) -> None:
    store.add("a", ONE)
    with store.path("a").open("ab") as file:
        file.write(b"\xff\xfe\x00 nonsense\n" + OTHER[:-1].encode() + b"\ng9:0B.00000000\n" + OTHER.encode())
    assert store.traces("a") == [ONE, OTHER]
    store.remove("a", ONE)
    assert store.path("a").read_text(encoding="utf-8").splitlines() == [
        "# Failing schedules of 'a', tried first. Delete this file to forget them.",
        OTHER,
    ]


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / ".interleave")
    store.add("a", ONE)
    store.remove("a", ONE)
    assert store.traces("a") == []


def test_it_does_not_grow_without_end(store: Store) -> None:
    for number in range(1, 50):
        store.add("a", traces.encode([("0", "begin")] * number))
    assert len(store.traces("a")) == 20
    assert store.traces("a")[0] == traces.encode([("0", "begin")] * 49)


def test_processes_lose_nothing_to_each_other(store: Store) -> None:
    program = (
        "import sys\n"
        "from greenthreads.testing import Store\n"
        "from scheduler import trace as traces\n"
        "store = Store(sys.argv[1])\n"
        "mine = [traces.encode([(sys.argv[2], 'begin')] * n) for n in range(1, 6)]\n"
        "for _ in range(20):\n"
        "    for trace in mine: store.add('a', trace)\n"
        "    for trace in mine[1:]: store.remove('a', trace)\n"
        "    assert mine[0] in store.traces('a')\n"
        "store.remove('a', mine[0]); store.add('a', mine[0])\n"
    )
    path = os.pathsep.join(sys.path)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(store.folder), str(number)], env={**os.environ, "PYTHONPATH": path}
        )
        for number in range(3)
    ]
    assert [process.wait(50) for process in processes] == [0, 0, 0]
    assert sorted(store.traces("a")) == sorted(traces.encode([(str(number), "begin")]) for number in range(3))


def test_an_exploration_keeps_what_fails_tries_it_first_and_forgets_it(store: Store) -> None:
    repaired = False

    def main() -> None:
        lock = threading.Lock()
        order: list[int] = []

        def work(number: int) -> None:
            with lock:
                order.append(number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert repaired or order == [0, 1]

    found = explore(main, store=store, strategy="dfs")
    assert found.failure is not None
    assert found.executions > 1
    assert store.traces(f"{__name__}.{main.__qualname__}") == [found.failure.trace]
    again = explore(main, store=store, strategy="dfs")
    assert again.failure is not None
    assert (again.executions, again.strategy) == (1, "replay")
    assert again.coverage == "1 execution: a schedule that had failed before fails again"
    assert store.traces(f"{__name__}.{main.__qualname__}") == [again.failure.trace]
    repaired = True
    assert explore(main, store=store, strategy="dfs").failure is None
    assert list(store.folder.iterdir()) == []


def test_a_trace_that_no_longer_fits_is_forgotten(store: Store) -> None:
    store.add("main", OTHER)
    assert explore(lambda: None, store=store, name="main").failure is None
    assert store.traces("main") == []
