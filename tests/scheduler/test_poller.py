"""Waiting for descriptors: readiness, deadlines, interrupts, closing, numbers used again, forks; on each system."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kqueue_model import SYSTEMS, offer

from scheduler import Scheduler, State, VirtualClock, current_task, run_scheduler, sleep, yield_now
from scheduler import poller as poller_module
from scheduler.poller import READ, WRITE, Poller, closing, wait_for
from scheduler.task import UserTask

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two sockets that are connected to each other, and never block."""
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    yield ends
    for end in ends:
        end.close()


@pytest.fixture(params=SYSTEMS)
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`run_scheduler`, with each system to ask in turn."""
    system = offer(request.param, monkeypatch)

    def run_main(main: Callable[..., Any], *args: Any) -> Any:
        scheduler = Scheduler()

        def with_poller() -> Any:
            scheduler.poller = Poller(scheduler, system)
            scheduler.call_root()
            return main(*args)

        return scheduler.run(with_poller)

    return run_main


def spawn(body: Callable[[], object], name: str = "t") -> UserTask:
    me = current_task()
    assert me.scheduler is not None
    return me.scheduler.spawn(body, name=name)


def test_a_thread_is_woken_when_something_comes_in(run: Callable[..., Any], pair: Pair) -> None:
    record: list[object] = []
    a, b = pair

    def read() -> None:
        record.append(wait_for(a.fileno(), READ))
        record.append(a.recv(10))

    def main() -> None:
        task = spawn(read)
        yield_now()
        assert task.state is State.PARKED
        record.append("send")
        b.send(b"hello")
        task.join()

    run(main)
    assert record == ["send", True, b"hello"]


def test_what_was_there_before_counts(run: Callable[..., Any], pair: Pair) -> None:
    a, b = pair
    b.send(b"x")

    def main() -> list[bool]:
        # Also the second time, when nothing has changed since.
        return [wait_for(a.fileno(), READ), wait_for(a.fileno(), READ), wait_for(a.fileno(), WRITE)]

    assert run(main) == [True, True, True]


def test_it_is_over_at_the_deadline(run: Callable[..., Any], pair: Pair) -> None:
    def main() -> bool:
        return wait_for(pair[0].fileno(), READ, current_task().now() + 0.01)

    assert run(main) is False


def fill(end: socket.socket) -> None:
    """Send until nothing more goes in."""
    with contextlib.suppress(BlockingIOError):
        while True:
            end.send(bytes(100_000))


def drain(end: socket.socket) -> None:
    """Receive until nothing more is there."""
    with contextlib.suppress(BlockingIOError):
        while True:
            end.recv(1_000_000)


def test_a_thread_can_wait_to_write(run: Callable[..., Any], pair: Pair) -> None:
    a, b = pair
    record: list[str] = []

    def write() -> None:
        fill(a)
        record.append("full")
        wait_for(a.fileno(), WRITE)
        record.append("room")

    def main() -> None:
        task = spawn(write)
        yield_now()
        yield_now()
        record.append("drain")
        drain(b)
        task.join()

    run(main)
    assert record == ["full", "drain", "room"]


def test_one_reads_and_one_writes(run: Callable[..., Any], pair: Pair) -> None:
    a, b = pair
    record: list[str] = []

    def main() -> None:
        fill(a)
        reader = spawn(lambda: (wait_for(a.fileno(), READ), record.append("readable")))
        writer = spawn(lambda: (wait_for(a.fileno(), WRITE), record.append("writable")))
        yield_now()
        yield_now()
        b.send(b"x")
        reader.join()
        assert record == ["readable"]
        assert writer.state is State.PARKED
        drain(b)
        writer.join()

    run(main)
    assert record == ["readable", "writable"]


def test_all_who_wait_are_woken_in_their_order(run: Callable[..., Any], pair: Pair) -> None:
    a, b = pair
    record: list[int] = []

    def read(number: int) -> None:
        wait_for(a.fileno(), READ)
        record.append(number)

    def main() -> None:
        tasks = [spawn(lambda n=n: read(n)) for n in range(3)]  # type: ignore[misc]
        while any(task.state is not State.PARKED for task in tasks):
            yield_now()
        b.send(b"x")
        for task in tasks:
            task.join()

    run(main)
    assert record == [0, 1, 2]


def test_an_interrupt_ends_the_wait(run: Callable[..., Any], pair: Pair) -> None:
    record: list[str] = []

    def read() -> None:
        try:
            wait_for(pair[0].fileno(), READ)
        except KeyError:
            record.append("interrupted")

    def main() -> None:
        task = spawn(read)
        yield_now()
        task.interrupt(KeyError())
        task.join()
        scheduler = current_task().scheduler
        assert scheduler is not None
        assert scheduler.poller is not None
        assert not scheduler.poller.anybody_waits()

    run(main)
    assert record == ["interrupted"]


def test_closing_wakes_readers_and_writers(run: Callable[..., Any], pair: Pair) -> None:
    a, _b = pair
    record: list[int | None] = []

    def wait(side: int) -> None:
        try:
            wait_for(a.fileno(), side)
        except OSError as error:
            record.append(error.errno)

    def main() -> None:
        fill(a)
        tasks = [spawn(lambda: wait(READ)), spawn(lambda: wait(WRITE))]
        yield_now()
        yield_now()
        closing(a.fileno())
        a.close()
        for task in tasks:
            task.join()

    run(main)
    assert record == [errno.EBADF, errno.EBADF]


def test_a_kernel_thread_may_close(run: Callable[..., Any], pair: Pair) -> None:
    def close() -> None:
        closing(pair[0].fileno())
        pair[0].close()

    def main() -> None:
        closer = threading.Timer(0.01, close)
        closer.start()
        with pytest.raises(OSError, match="Bad file descriptor"):
            wait_for(pair[0].fileno(), READ)
        closer.join()

    run(main)


def test_what_is_not_open_is_an_error(run: Callable[..., Any]) -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        run(wait_for, 1000, READ)


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="only epoll can tell")
def test_a_number_that_was_closed_behind_our_back_is_noticed(pair: Pair) -> None:
    """The waiters of the file that is gone are told, and the new one gets its own events."""
    a, _b = pair
    number = a.fileno()
    record: list[object] = []

    def read_old() -> None:
        try:
            wait_for(number, READ)
        except OSError as error:
            record.append(error.errno)

    def main() -> None:
        old = spawn(read_old)
        yield_now()
        c, d = socket.socketpair()
        with c, d:
            os.dup2(c.fileno(), number)  # Closes what was there, as C code might.
            d.send(b"x")
            record.append(wait_for(number, READ))
            old.join()

    run_scheduler(main)
    assert record == [errno.EBADF, True]


def test_two_sockets_one_number(run: Callable[..., Any]) -> None:
    """A number that is free again right away: what came for the first does not reach the second."""

    def main() -> None:
        for _ in range(3):
            a, b = socket.socketpair()
            number = a.fileno()
            b.send(b"x")
            assert wait_for(number, READ)
            closing(number)
            a.close()
            c, d = socket.socketpair()
            assert number in (c.fileno(), d.fileno())
            assert wait_for(number, READ, current_task().now() + 0.001) is False
            for each in (b, c, d):
                closing(each.fileno())
                each.close()

    run(main)


def test_a_file_on_a_disk_is_always_ready(run: Callable[..., Any], tmp_path: Any) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    with open(path, "rb") as file:
        assert run(wait_for, file.fileno(), READ)
        file.read()
        assert run(wait_for, file.fileno(), READ)


def test_both_ends_of_a_pipe(run: Callable[..., Any]) -> None:
    """Each knows one direction only."""
    read, write = os.pipe()

    def main() -> list[bool]:
        reader = spawn(lambda: wait_for(read, READ))
        yield_now()
        found = [wait_for(write, WRITE)]
        os.write(write, b"x")
        reader.join()
        return [*found, wait_for(read, READ)]

    try:
        assert run(main) == [True, True]
    finally:
        os.close(read)
        os.close(write)


def test_what_is_watched_is_watched_once(run: Callable[..., Any], pair: Pair) -> None:
    """Who asks for the record of a file that is watched gets that one, and whoever waits there goes on waiting."""
    a, b = pair

    def main() -> Any:
        poller = current_task().scheduler.poller  # type: ignore[union-attr]
        assert poller is not None
        reader = spawn(lambda: wait_for(a.fileno(), READ))
        yield_now()
        assert poller.watch(a.fileno()) is poller.watch(a.fileno())
        assert reader.state is State.PARKED
        b.send(b"x")
        reader.join()
        return reader.exception

    assert run(main) is None


def test_threads_that_only_yield_starve_nobody(run: Callable[..., Any], pair: Pair) -> None:
    a, b = pair
    done: list[bool] = []

    def main() -> None:
        reader = spawn(lambda: done.append(wait_for(a.fileno(), READ)))
        yield_now()
        b.send(b"x")
        for _ in range(100_000):
            if done:
                break
            yield_now()
        assert done == [True]
        reader.join()

    run(main)


def test_a_kernel_thread_wakes_a_scheduler_that_sleeps_in_the_poller(
    run: Callable[..., Any], pair: Pair, until: Any
) -> None:
    record: list[str] = []

    def main() -> None:
        me = current_task()
        scheduler: Any = me.scheduler
        reader = scheduler.spawn(lambda: wait_for(pair[0].fileno(), READ))
        waiters: dict[Any, None] = {me: None}

        def wake() -> None:
            until(lambda: scheduler.asleep)
            record.append("ring")
            waiters.pop(me)
            me.unpark()

        kernel = threading.Thread(target=wake)
        kernel.start()
        me.park(waiters, "a ring")
        record.append("woken")
        kernel.join()
        pair[1].send(b"x")
        reader.join()

    run(main)
    assert record == ["ring", "woken"]


def test_no_deadlock_is_seen_while_somebody_waits_for_a_descriptor(
    run: Callable[..., Any], pair: Pair, until: Any
) -> None:
    def main() -> None:
        scheduler: Any = current_task().scheduler
        kernel = threading.Thread(target=lambda: (until(lambda: scheduler.asleep), pair[1].send(b"x")))
        kernel.start()
        assert wait_for(pair[0].fileno(), READ)
        kernel.join()

    run(main)


def test_a_program_without_descriptors_has_no_poller() -> None:
    def main() -> object:
        sleep(0.001)
        scheduler = current_task().scheduler
        assert scheduler is not None
        return scheduler.poller

    assert run_scheduler(main) is None


def test_what_has_come_in_is_seen_before_virtual_time_jumps(pair: Pair) -> None:
    a, b = pair
    b.send(b"x")

    def main() -> tuple[bool, float]:
        got = wait_for(a.fileno(), READ, current_task().now() + 3600)
        a.recv(1)
        return got, current_task().now()

    assert Scheduler(clock=VirtualClock()).run(main) == (True, 0.0)


def test_without_anything_to_come_virtual_time_jumps(pair: Pair) -> None:
    def main() -> tuple[bool, float]:
        return wait_for(pair[0].fileno(), READ, current_task().now() + 3600), current_task().now()

    assert Scheduler(clock=VirtualClock()).run(main) == (False, 3600.0)


def test_a_kernel_thread_blocks(pair: Pair) -> None:
    a, b = pair
    assert wait_for(a.fileno(), READ, current_task().now() + 0.001) is False
    b.send(b"x")
    assert wait_for(a.fileno(), READ)
    assert wait_for(a.fileno(), WRITE)


def test_a_kernel_thread_notices_that_it_was_closed(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poller_module, "_SLICE", 0.001)
    number = pair[0].fileno()
    timer = threading.Timer(0.01, pair[0].close)
    timer.start()
    with pytest.raises(OSError, match="Bad file descriptor"):
        wait_for(number, READ)
    timer.join()


def test_a_handler_that_raises_while_reports_are_passed_on_loses_none(pair: Pair) -> None:
    """The reports were taken from the system, which will not give them again."""
    a, b = pair

    def main() -> None:
        me = current_task()
        assert me.scheduler is not None
        reader = me.scheduler.spawn(lambda: wait_for(a.fileno(), READ))
        yield_now()
        poller = me.scheduler.poller
        assert poller is not None
        ready = poller.scheduler.ready

        class Failing:
            def append(self, task: Any) -> None:
                raise KeyError

            def __getattr__(self, name: str) -> Any:
                return getattr(ready, name)

        b.send(b"x")
        poller.scheduler.ready = Failing()  # type: ignore[assignment]
        readers = next(iter(poller._descriptors.values())).readers
        try:
            with pytest.raises(KeyError):
                poller.poll(0)
        finally:
            poller.scheduler.ready = ready
        # The one report that was in the making had claimed its waiter; it stands there again for the second try.
        readers[reader] = None
        reader.join()

    run_scheduler(main)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_fork_has_a_poller_of_its_own(run: Callable[..., Any], pair: Pair) -> None:
    """What the child closes goes on being watched in the parent, and the child can wait for it before that."""
    a, b = pair

    def main() -> None:
        reader = spawn(lambda: wait_for(a.fileno(), READ))
        yield_now()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                ok = wait_for(b.fileno(), WRITE) and not wait_for(a.fileno(), READ, current_task().now() + 0.001)
                closing(a.fileno())
                a.close()
                status = 0 if ok else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert reader.state is State.PARKED
        b.send(b"x")
        reader.join()

    run(main)


def test_threads_that_end_may_still_wait_for_descriptors(run: Callable[..., Any], pair: Pair) -> None:
    a, b = pair
    record: list[object] = []

    def daemon() -> None:
        try:
            wait_for(a.fileno(), READ)
        finally:
            b.send(b"bye")
            record.append(wait_for(a.fileno(), READ))
            record.append(a.recv(10))

    def main() -> None:
        me = current_task()
        assert me.scheduler is not None
        me.scheduler.spawn(daemon, daemon=True)
        yield_now()

    run(main)
    assert record == [True, b"bye"]


def test_the_poller_goes_with_the_scheduler(run: Callable[..., Any], pair: Pair) -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

    before = count()
    for _ in range(3):
        run(wait_for, pair[0].fileno(), WRITE)
    assert count() == before
    assert poller_module.pollers == {}


def test_a_report_names_the_descriptor(pair: Pair) -> None:
    a = pair[0]

    def main() -> tuple[Any, ...]:
        task = spawn(lambda: wait_for(a.fileno(), READ, current_task().now() + 0.01))
        yield_now()
        reason = task.wait
        assert reason is not None
        assert not isinstance(reason, str)
        found = tuple(reason.waiting_for(task))
        task.join()
        return found

    assert run_scheduler(main) == (f"descriptor {a.fileno()}", None, "to read")
