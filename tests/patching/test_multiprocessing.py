"""`multiprocessing` under patch: processes, their queues and locks, used by user threads."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from greenthreads import Thread, patch, run_scheduler, sleep, yield_now

fork = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="there is no fork here")


@fork
def test_a_pool_works_and_ends(script: Any) -> None:
    result = script("""
        import multiprocessing
        import threading

        import greenthreads

        greenthreads.patch.patch_all()


        def square(number):
            return number * number


        def main():
            with multiprocessing.Pool(2) as pool:
                print(pool.map(square, range(5)))
            queue = multiprocessing.Queue()
            child = multiprocessing.Process(target=lambda: queue.put("from the child"))
            beside = threading.Thread(target=lambda: print(queue.get()))
            beside.start()
            child.start()
            child.join()
            beside.join()
            print(child.exitcode)


        multiprocessing.set_start_method("fork")
        greenthreads.run_scheduler(main)
        """)
    assert result.stdout.splitlines() == ["[0, 1, 4, 9, 16]", "from the child", "0"]


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_a_pool_of_an_unmodified_program(method: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        "import multiprocessing\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "if __name__ == '__main__':\n"
        f"    context = multiprocessing.get_context({method!r})\n"
        "    with ProcessPoolExecutor(2, context) as pool:\n"
        "        print(list(pool.map(abs, [-1, -2, 3])))\n"
    )
    command = [sys.executable, "-m", "greenthreads", "program.py"]
    done = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert (done.stdout, done.stderr, done.returncode) == ("[1, 2, 3]\n", "", 0)


def test_who_waits_for_a_lock_keeps_nobody_from_running() -> None:
    record: list[str] = []

    def main() -> None:
        lock = multiprocessing.Lock()

        def wait() -> None:
            with lock:
                record.append("got it")

        lock.acquire()
        thread = Thread(target=wait)
        thread.start()
        for _ in range(3):
            yield_now()
            record.append("beside")
        lock.release()
        thread.join()
        assert lock.acquire(False)
        assert not lock.acquire(False)
        assert not lock.acquire(True, 0.001)
        lock.release()

    with patch.patched():
        run_scheduler(main)
    assert record == ["beside", "beside", "beside", "got it"]


def test_a_recursive_one_belongs_to_one_user_thread() -> None:
    def main() -> None:
        lock = multiprocessing.RLock()

        def other() -> None:
            assert not lock.acquire(False)
            with pytest.raises(AssertionError, match="not owned by thread"):
                lock.release()
            with lock:
                record.append("other")

        with lock:
            thread = Thread(target=other)
            thread.start()
            with lock:
                yield_now()
            yield_now()
            record.append("first")
        thread.join()

    record: list[str] = []
    with patch.patched():
        run_scheduler(main)
    assert record == ["first", "other"]


def test_an_event_and_a_pipe() -> None:
    def main() -> None:
        event = multiprocessing.Event()
        here, there = multiprocessing.Pipe()

        def answer() -> None:
            event.wait()
            there.send(here_says.pop())

        here_says = ["hello"]
        thread = Thread(target=answer)
        thread.start()
        sleep(0)
        event.set()
        assert here.poll(30)
        record.append(here.recv())
        thread.join()

    record: list[str] = []
    with patch.patched():
        run_scheduler(main)
    assert record == ["hello"]


def test_kernel_threads_use_them_as_ever() -> None:
    with patch.patched():
        lock = multiprocessing.RLock()
        assert lock.acquire()
        assert lock.acquire(timeout=1)
        lock.release()
        lock.release()
        with pytest.raises(AssertionError):
            lock.release()
        began = time.monotonic()
        assert not multiprocessing.Semaphore(0).acquire(True, 0.01)
        assert time.monotonic() > began
