"""`greenthreads.subprocess` and `.os`: children and pipes, waited for while other threads run."""

from __future__ import annotations

import os as standard
import subprocess as standard_subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from greenthreads import Thread, os, run_scheduler, sleep, subprocess, yield_now
from greenthreads import _pipes as pipes

InThread = Callable[..., Any]
PIPE = subprocess.PIPE


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_run_and_its_like(in_thread: InThread) -> None:
    def body() -> list[Any]:
        return [
            subprocess.run(["cat"], input="text", capture_output=True, text=True, check=True).stdout,
            subprocess.check_output(["echo", "hello"]),
            subprocess.call(["false"]),
            subprocess.getoutput("echo shell"),
            subprocess.getstatusoutput("exit 3"),
        ]

    assert in_thread(body) == ["text", b"hello\n", 1, "shell", (3, "")]


def test_errors_are_the_standard_ones(in_thread: InThread) -> None:
    def body() -> None:
        with pytest.raises(FileNotFoundError):
            subprocess.run(["no-such-program"], check=False)
        with pytest.raises(subprocess.CalledProcessError) as failed:
            subprocess.check_call(["false"])
        assert failed.value.returncode == 1

    in_thread(body)


def test_others_run_while_one_waits_for_a_child() -> None:
    record: list[object] = []

    def main() -> None:
        child = subprocess.Popen(["cat"], stdin=PIPE)
        thread = Thread(target=lambda: record.append(child.wait()))
        thread.start()
        yield_now()
        record.append("others run")
        child.stdin.close()
        thread.join()

    run_scheduler(main)
    assert record == ["others run", 0]


def test_others_run_while_one_reads_what_a_child_writes(until: Any) -> None:
    record: list[object] = []

    def main() -> None:
        child = subprocess.Popen(["cat"], stdin=PIPE, stdout=PIPE, text=True)
        thread = Thread(target=lambda: record.extend(child.stdout))
        thread.start()
        for line in ("one\n", "two\n"):
            yield_now()
            record.append("write")
            child.stdin.write(line)
            child.stdin.flush()
            until(lambda: record[-1] != "write")
        child.stdin.close()
        thread.join()
        child.stdout.close()
        child.wait()

    run_scheduler(main)
    assert record == ["write", "one\n", "write", "two\n"]


def test_communicate_with_much(in_thread: InThread) -> None:
    def body() -> tuple[int, int, int | None]:
        code = "import sys; d = sys.stdin.buffer.read(); sys.stdout.buffer.write(d); sys.stderr.buffer.write(d)"
        child = subprocess.Popen(python(code), stdin=PIPE, stdout=PIPE, stderr=PIPE)
        out, err = child.communicate(bytes(1_000_000))
        return len(out), len(err), child.returncode

    assert in_thread(body) == (1_000_000, 1_000_000, 0)


def test_a_time_limit(in_thread: InThread) -> None:
    def body() -> None:
        with subprocess.Popen(["sleep", "1000"]) as child:
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(0.01)
            with pytest.raises(subprocess.TimeoutExpired):
                child.communicate(timeout=0.01)
            assert child.poll() is None
            child.kill()
            assert child.wait(30) == -9
        with pytest.raises(subprocess.TimeoutExpired):
            subprocess.run(["sleep", "1000"], timeout=0.01, check=False)

    in_thread(body)


def test_a_child_that_ignores_sigterm() -> None:
    """Terminated it stays; the wait has its limit, others run, and it can be killed."""
    ticks = 0

    def main() -> int:
        nonlocal ticks
        done: list[bool] = []

        def tick() -> None:
            nonlocal ticks
            while not done:
                ticks += 1
                sleep(0.001)

        thread = Thread(target=tick)
        thread.start()
        code = "from signal import *; signal(SIGTERM, SIG_IGN); print('ready', flush=True); pause()"
        child = subprocess.Popen(python(code), stdout=PIPE)
        assert child.stdout.readline() == b"ready\n"
        child.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.02)
        child.kill()
        status: int = child.wait()
        child.stdout.close()
        done.append(True)
        thread.join()
        return status

    assert run_scheduler(main) == -9
    assert ticks > 1


def test_where_the_system_has_no_pidfd_a_kernel_thread_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "has_pidfd", False)

    def main() -> tuple[int, int]:
        child = standard.fork()
        if child == 0:
            standard._exit(5)
        return subprocess.call(["false"]), standard.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert run_scheduler(main) == (1, 5)


def test_hundreds_of_children_at_once() -> None:
    def main() -> list[int]:
        found: list[int] = []

        def call(number: int) -> None:
            found.append(subprocess.call(["sh", "-c", f"exit {number}"]))

        threads = [Thread(target=call, args=(n,)) for n in range(100)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        return sorted(found)

    assert run_scheduler(main) == list(range(100))


def test_lines_are_not_buffered_in_bytes() -> None:
    def main() -> None:
        with pytest.warns(RuntimeWarning, match="line buffering"):
            with subprocess.Popen(["cat"], stdin=PIPE, bufsize=1):
                pass

    run_scheduler(main)


# ---- os --------------------------------------------------------------------------------------------------------------


def test_reading_and_writing_a_pipe(in_thread: InThread) -> None:
    size = 300_000  # More than a pipe holds.

    def body() -> int:
        read, write = os.pipe()

        def fill() -> None:
            assert os.write(write, bytes(size)) == size
            os.close(write)

        thread = Thread(target=fill)
        thread.start()
        count = 0
        while data := os.read(read, 65536):
            count += len(data)
        thread.join()
        os.close(read)
        return count

    assert in_thread(body) == size


def test_nothing_is_read_or_written_without_a_wait(in_thread: InThread) -> None:
    read, write = standard.pipe()
    try:
        found = [in_thread(os.read, read, 0)]
        standard.set_blocking(write, False)
        with pytest.raises(BlockingIOError):
            while True:
                standard.write(write, bytes(4096))
        standard.set_blocking(write, True)
        found.append(in_thread(os.write, write, b""))
    finally:
        standard.close(read)
        standard.close(write)
    assert found == [b"", 0]


def test_what_was_written_counts_though_the_reader_goes(in_thread: InThread) -> None:
    read, write = standard.pipe()

    def body() -> int:
        def take_some() -> None:
            os.read(read, 4096)
            standard.close(read)

        reader = Thread(target=take_some)
        reader.start()
        count = os.write(write, bytes(1_000_000))
        reader.join()
        with pytest.raises(BrokenPipeError):
            os.write(write, b"more")
        return int(count)

    try:
        assert 0 < in_thread(body) < 1_000_000
    finally:
        standard.close(write)


def test_others_run_while_one_reads_a_pipe() -> None:
    record: list[object] = []

    def main() -> None:
        read, write = os.pipe()
        thread = Thread(target=lambda: record.append(os.read(read, 100)))
        thread.start()
        yield_now()
        record.append("others run")
        os.writev(write, [b"a", b"b"])
        thread.join()
        buffer = bytearray(10)
        os.write(write, b"xyz")
        record.append(os.readv(read, [buffer]))
        os.close(read)
        os.close(write)
        assert standard.get_blocking

    run_scheduler(main)
    assert record == ["others run", b"ab", 3]


def test_two_readers_share_a_pipe(until: Any) -> None:
    """Both are woken by the first byte; who finds nothing waits again, and stops nobody."""
    record: list[bytes] = []

    def main() -> None:
        read, write = os.pipe()
        threads = [Thread(target=lambda: record.append(os.read(read, 1))) for _ in range(2)]
        for each in threads:
            each.start()
        yield_now()
        os.write(write, b"a")
        until(lambda: record)
        os.write(write, b"b")
        for each in threads:
            each.join()
        os.close(read)
        os.close(write)

    run_scheduler(main)
    assert record == [b"a", b"b"]


def test_a_descriptor_that_does_not_block_still_does_not(in_thread: InThread) -> None:
    def body() -> None:
        read, write = os.pipe()
        standard.set_blocking(read, False)
        standard.set_blocking(write, False)
        with pytest.raises(BlockingIOError):
            os.read(read, 1)
        sent = 0
        with pytest.raises(BlockingIOError):
            while True:
                sent += os.write(write, bytes(65536))
        assert sent > 0
        os.close(read)
        os.close(write)

    in_thread(body)


def test_files_on_a_disk(in_thread: InThread, tmp_path: Any) -> None:
    def body() -> bytes:
        fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
        assert os.write(fd, bytes(100_000)) == 100_000
        os.lseek(fd, 0, os.SEEK_SET)
        data: bytes = os.read(fd, 10)
        os.close(fd)
        return data

    assert in_thread(body) == bytes(10)


def test_errors_of_os_are_the_standard_ones(in_thread: InThread, outcome: Callable[..., Any]) -> None:
    def body() -> None:
        for name, args in (("read", (1000, 1)), ("write", (1000, b"x")), ("waitpid", (1 << 22, 0)), ("wait", ())):
            assert outcome(getattr(os, name), *args) == outcome(getattr(standard, name), *args)

    in_thread(body)


def test_the_end_of_a_child_is_waited_for(in_thread: InThread) -> None:
    def body() -> list[int]:
        found = []
        for wait in (lambda pid: os.waitpid(pid, 0)[1], lambda pid: os.waitpid(-1, 0)[1], lambda pid: os.wait()[1]):
            child = standard_subprocess.Popen(python("import sys; sys.exit(7)"))
            found.append(standard.waitstatus_to_exitcode(wait(child.pid)))
            child.returncode = 7
        found.append(os.waitstatus_to_exitcode(os.system("exit 4")))
        return found

    assert in_thread(body) == [7, 7, 7, 4]


def test_popen(in_thread: InThread) -> None:
    def body() -> tuple[str, Any]:
        with os.popen("echo hello") as pipe:
            text = pipe.read()
        failing = os.popen("exit 2", "w")
        return text, os.waitstatus_to_exitcode(failing.close())

    assert in_thread(body) == ("hello\n", 2)


def test_closing_a_pipe_ends_the_wait_of_another() -> None:
    record: list[str] = []

    def main() -> None:
        read, write = os.pipe()
        pipe = pipes.open_pipe(read, "rb", 0)

        def wait() -> None:
            with pytest.raises(OSError, match="Bad file descriptor"):
                pipe.read(1)
            record.append("closed")

        thread = Thread(target=wait)
        thread.start()
        yield_now()
        pipe.close()
        thread.join()
        os.close(write)

    run_scheduler(main)
    assert record == ["closed"]


def test_all_names_are_there() -> None:
    for ours, theirs in ((os, standard), (subprocess, standard_subprocess)):
        assert [name for name in dir(theirs) if not name.startswith("__") and not hasattr(ours, name)] == []
    assert issubclass(subprocess.Popen, standard_subprocess.Popen)
