"""What stands beside sockets and pipes: signals, asyncio, files through kernel threads, the watchdog."""

from __future__ import annotations

import asyncio
import builtins
import io
import signal as standard
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import greenthreads
import greenthreads.socket
import greenthreads.time
from greenthreads import Event, Steps, Thread, aio, files, run_scheduler, signal, sleep, watchdog, yield_now
from scheduler import SchedulerError, current_task

InThread = Callable[..., Any]

# ---- Signals ---------------------------------------------------------------------------------------------------------

SIGNAL = standard.SIGUSR1


@pytest.fixture
def blocked() -> Iterator[None]:
    before = standard.pthread_sigmask(standard.SIG_BLOCK, [SIGNAL])
    yield
    standard.pthread_sigmask(standard.SIG_SETMASK, before)


@pytest.mark.usefixtures("blocked")
@pytest.mark.parametrize("wait", [lambda: signal.sigwait([SIGNAL]), lambda: signal.sigwaitinfo([SIGNAL]).si_signo])
def test_others_run_while_one_waits_for_a_signal(wait: Callable[[], int]) -> None:
    record: list[object] = []

    def main() -> None:
        thread = Thread(target=lambda: record.append(wait()))
        thread.start()
        yield_now()
        record.append("others run")
        standard.raise_signal(SIGNAL)
        thread.join()

    run_scheduler(main)
    assert record == ["others run", SIGNAL]


@pytest.mark.usefixtures("blocked")
def test_a_signal_that_does_not_come() -> None:
    assert run_scheduler(signal.sigtimedwait, [SIGNAL], 0.01) is None
    standard.raise_signal(SIGNAL)
    assert run_scheduler(signal.sigtimedwait, [SIGNAL], 0.01).si_signo == SIGNAL


@pytest.fixture
def handled() -> Iterator[list[int]]:
    found: list[int] = []
    before = standard.signal(SIGNAL, lambda number, _frame: found.append(number))
    yield found
    standard.signal(SIGNAL, before)


@pytest.mark.skipif(not hasattr(standard, "pthread_kill"), reason="the system has no such call")
def test_a_signal_to_a_thread(in_thread: InThread, handled: list[int], until: Any) -> None:
    in_thread(lambda: signal.pthread_kill(greenthreads.get_ident(), SIGNAL))
    until(lambda: handled)
    assert handled == [SIGNAL]


@pytest.mark.skipif(not hasattr(standard, "pthread_kill"), reason="the system has no such call")
def test_a_signal_to_a_user_thread_that_has_ended_is_refused(handled: list[int]) -> None:
    def main() -> int:
        thread = Thread(target=int)
        thread.start()
        thread.join()
        assert thread.ident is not None
        return thread.ident

    ident = run_scheduler(main)
    with pytest.raises(ProcessLookupError, match="No such process"):
        signal.pthread_kill(ident, SIGNAL)
    if hasattr(time, "pthread_getcpuclockid"):
        with pytest.raises(ProcessLookupError, match="No such process"):
            greenthreads.time.pthread_getcpuclockid(ident)
    assert handled == []


@pytest.mark.skipif(not hasattr(time, "pthread_getcpuclockid"), reason="the system has no such call")
def test_the_clock_of_a_user_thread_is_that_of_its_kernel_thread() -> None:
    def main() -> None:
        thread = Thread(target=lambda: found.append(greenthreads.time.pthread_getcpuclockid(greenthreads.get_ident())))
        thread.start()
        thread.join()

    found: list[int] = []
    run_scheduler(main)
    assert found == [time.pthread_getcpuclockid(threading.get_ident())]


def test_a_handler_runs_while_all_wait_for_descriptors(until: Any) -> None:
    record: list[str] = []

    def main() -> None:
        scheduler: Any = current_task().scheduler
        event = Event()

        def handler(number: int, frame: object) -> None:
            record.append("handled")
            event.set()

        before = standard.signal(SIGNAL, handler)
        a, b = greenthreads.socket.socketpair()
        reader = Thread(target=a.recv, args=(1,))
        reader.start()
        yield_now()
        me = threading.get_ident()
        killer = threading.Thread(target=lambda: (until(lambda: scheduler.asleep), standard.pthread_kill(me, SIGNAL)))
        killer.start()
        event.wait()
        b.send(b"x")
        reader.join()
        killer.join()
        a.close()
        b.close()
        standard.signal(SIGNAL, before)

    run_scheduler(main)
    assert record == ["handled"]


def test_a_handler_in_the_scheduler_must_not_wait(until: Any) -> None:
    """It says so, instead of stopping everybody."""
    record: list[type] = []

    def main() -> None:
        scheduler: Any = current_task().scheduler
        a, b = greenthreads.socket.socketpair()
        event = Event()

        def handler(number: int, frame: object) -> None:
            try:
                a.recv(1)
            except SchedulerError as error:
                record.append(type(error))
            event.set()

        before = standard.signal(SIGNAL, handler)
        me = threading.get_ident()
        killer = threading.Thread(target=lambda: (until(lambda: scheduler.asleep), standard.pthread_kill(me, SIGNAL)))
        killer.start()
        event.wait()
        killer.join()
        standard.signal(SIGNAL, before)
        a.close()
        b.close()

    run_scheduler(main)
    assert record[0] is SchedulerError


# ---- asyncio ---------------------------------------------------------------------------------------------------------


async def later(value: Any) -> Any:
    await asyncio.sleep(0.001)
    return value


def test_a_coroutine_is_run_and_waited_for(in_thread: InThread) -> None:
    assert in_thread(aio.run_coroutine, later("result")) == "result"


def test_what_a_coroutine_raises(in_thread: InThread) -> None:
    async def fail() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        in_thread(aio.run_coroutine, fail())
    with pytest.raises(TypeError, match="a coroutine was expected"):
        in_thread(aio.run_coroutine, later)


def test_coroutines_of_many_threads_run_at_once() -> None:
    """Each waits until all have begun."""
    count = 100
    begun = 0

    def main() -> list[int]:
        found: list[int] = []

        async def meet(number: int) -> int:
            nonlocal begun
            begun += 1
            while begun < count:
                await asyncio.sleep(0.001)
            return number

        threads = [Thread(target=lambda n=n: found.append(aio.run_coroutine(meet(n)))) for n in range(count)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        return sorted(found)

    assert run_scheduler(main) == list(range(count))


def test_an_interrupt_cancels_the_coroutine(until: Any) -> None:
    record: list[str] = []

    async def wait() -> None:
        try:
            record.append("begun")
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            record.append("cancelled")
            raise

    def body() -> None:
        with pytest.raises(greenthreads.ThreadInterrupted):
            aio.run_coroutine(wait())
        record.append("interrupted")

    def main() -> None:
        thread = Thread(target=body)
        thread.start()
        until(lambda: record)
        thread.interrupt()
        thread.join()

    run_scheduler(main)
    assert record == ["begun", "cancelled", "interrupted"]


def test_a_coroutine_must_not_wait_for_another_in_this_way() -> None:
    async def wait() -> None:
        aio.run_coroutine(later(1))

    with pytest.raises(RuntimeError, match="await it"):
        run_scheduler(aio.run_coroutine, wait())


@pytest.mark.parametrize("patched", [False, True])
def test_several_threads_run_an_event_loop_each(patched: bool) -> None:
    """Each loop waits for the others: so all of them run, on one kernel thread."""
    count = 5
    begun = 0

    async def meet() -> int:
        nonlocal begun
        begun += 1
        while begun < count:
            await asyncio.sleep(0.001)
        assert asyncio.get_running_loop().is_running()
        return sum(await asyncio.gather(*[later(n) for n in range(10)]))

    def main() -> list[int]:
        found: list[int] = []
        run = asyncio.run if patched else aio.run
        threads = [Thread(target=lambda: found.append(run(meet()))) for _ in range(count)]
        for each in threads:
            each.start()
        yield_now()
        assert asyncio._get_running_loop() is None
        for each in threads:
            each.join()
        return found

    if patched:
        with greenthreads.patched():
            assert run_scheduler(main) == [45] * count
    else:
        assert run_scheduler(main) == [45] * count


def test_event_loops_in_threads_that_are_cut_short() -> None:
    """Each finds itself running, its task, and its asynchronous generators, and no other."""
    record: list[str] = []

    async def count(loop: asyncio.AbstractEventLoop) -> Any:
        try:
            for number in range(10):
                yield number
        finally:
            record.append(f"closed by its own: {asyncio.get_running_loop() is loop}")

    async def turn(me: int) -> int:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        for _ in range(200):
            assert asyncio.get_running_loop() is loop
            assert asyncio.current_task() is task
        async for number in count(loop):
            if number == 3:
                break
        await asyncio.sleep(0)
        return me

    async def turns() -> list[int]:
        return await asyncio.gather(*(turn(me) for me in range(3)))

    def main() -> None:
        threads = [Thread(target=lambda: record.append(repr(asyncio.run(turns())))) for _ in range(3)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert asyncio._get_running_loop() is None
        assert sys.get_asyncgen_hooks() == (None, None)

    run_scheduler(main, timeslice=Steps(20))
    assert sorted(record) == ["[0, 1, 2]"] * 3 + ["closed by its own: True"] * 9


def test_an_event_loop_is_called_from_other_user_threads() -> None:
    """`call_soon_threadsafe` from a user thread on the same kernel thread wakes the loop."""

    def main() -> str:
        loops: list[Any] = []

        async def wait() -> str:
            loop = asyncio.get_running_loop()
            future: asyncio.Future[str] = loop.create_future()
            loops.append((loop, future))
            return await future

        found: list[str] = []
        thread = Thread(target=lambda: found.append(aio.run(wait())))
        thread.start()
        while not loops:
            yield_now()
        loop, future = loops[0]
        loop.call_soon_threadsafe(future.set_result, "called")
        thread.join()
        return found[0]

    assert run_scheduler(main) == "called"


# ---- Files -----------------------------------------------------------------------------------------------------------


def test_a_file_through_kernel_threads(in_thread: InThread, tmp_path: Any) -> None:
    path = tmp_path / "file"

    def body() -> list[Any]:
        with files.open(str(path), "w+", encoding="utf-8") as file:
            file.write("one\ntwo\n")
            file.seek(0)
            return [list(file), file.name, file.encoding, isinstance(file, io.IOBase)]

    assert in_thread(body) == [["one\n", "two\n"], str(path), "utf-8", True]
    with pytest.raises(FileNotFoundError):
        in_thread(files.open, tmp_path / "none")


def test_others_run_while_a_file_is_read(until: Any) -> None:
    class Slow(io.StringIO):
        def read(self, size: int | None = -1) -> str:
            record.append("reading")
            assert let_go.wait(30)
            return super().read(size)

    record: list[str] = []
    let_go = threading.Event()

    def main() -> None:
        file = files.File(Slow("text"))
        thread = Thread(target=lambda: record.append(file.read()))
        thread.start()
        until(lambda: record)
        record.append("others run")
        let_go.set()
        thread.join()

    run_scheduler(main)
    assert record == ["reading", "others run", "text"]


def test_input_in_a_kernel_thread(in_thread: InThread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("typed\n"))
    assert in_thread(files.input) == "typed"


def test_files_are_patched_where_that_is_asked_for(tmp_path: Any) -> None:
    before = builtins.open, builtins.input
    with greenthreads.patched():
        assert (builtins.open, builtins.input) == before
    with greenthreads.patched(files=True):
        with open(tmp_path / "file", "w", encoding="utf-8") as file:
            assert type(file) is files.File
        assert builtins.input is files.input
    assert (builtins.open, builtins.input) == before


# ---- The watchdog ----------------------------------------------------------------------------------------------------


def spin(until: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not until():
        assert time.monotonic() < end


@pytest.fixture
def watching() -> Iterator[list[watchdog.Blocked]]:
    found: list[watchdog.Blocked] = []
    watchdog.start(0.02, found.append)
    yield found
    watchdog.stop()


def test_who_keeps_the_scheduler_is_named_with_its_stack(watching: list[watchdog.Blocked]) -> None:
    def main() -> None:
        thread = Thread(target=spin, args=(lambda: watching,), name="the spinner")
        thread.start()
        thread.join()

    run_scheduler(main)
    (blocked,) = watching
    assert blocked.thread == "the spinner"
    assert blocked.seconds >= 0.02
    assert "in spin" in blocked.stack
    assert "thread 'the spinner' has kept its scheduler for" in str(blocked)


def test_who_switches_or_sleeps_is_not(watching: list[watchdog.Blocked]) -> None:
    def main() -> None:
        thread = Thread(target=sleep, args=(0.1,))
        thread.start()
        end = time.monotonic() + 0.1
        while time.monotonic() < end:
            yield_now()
        thread.join()

    run_scheduler(main)
    # On a busy machine the kernel thread itself may be kept waiting; then it is the yielding loop that is named.
    assert [each for each in watching if "in sleep" in each.stack.splitlines()[-1]] == []


def test_it_prints_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    # Not what pytest captures: it may lose what another kernel thread writes while one reads.
    printed = io.StringIO()
    monkeypatch.setattr(sys, "stderr", printed)
    watchdog.start(0.02)
    try:
        with pytest.raises(RuntimeError, match="already"):
            watchdog.start()
        run_scheduler(spin, lambda: "in spin" in printed.getvalue())
    finally:
        watchdog.stop()
    watchdog.stop()
    assert "has kept its scheduler" in printed.getvalue()


def test_a_limit_must_be_above_zero() -> None:
    with pytest.raises(ValueError, match="limit must be above 0"):
        watchdog.start(0)
