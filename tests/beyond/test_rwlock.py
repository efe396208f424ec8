"""`RWLock`: many readers or one writer, first come, first served."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest

from greenthreads import RWLock, Thread, ThreadInterrupted, run_scheduler, sleep, yield_now
from greenthreads.carriers import Kind
from scheduler import Scheduler, VirtualClock


def test_readers_share_it_and_a_writer_has_it_alone(pair: Any) -> None:
    lock = RWLock()
    value = [0, 0]
    torn: list[list[int]] = []

    def write() -> None:
        for number in range(1, 60):
            with lock.write():
                value[0] = number
                yield_now()
                value[1] = number

    def read() -> None:
        for _ in range(60):
            with lock.read():
                if value[0] != value[1]:
                    torn.append(list(value))
                yield_now()

    def main() -> None:
        threads = [pair.start(read), pair.start(write)]
        read()
        for thread in threads:
            thread.join()

    pair.run(main)
    assert (torn, value) == ([], [59, 59])
    assert repr(lock).endswith("readers=0>")


def test_first_come_first_served_across_readers_and_writers(run_virtually: Any) -> None:
    """Readers that stand together go together; none of them passes a writer."""
    lock = RWLock()
    record: list[str] = []

    def use(name: str) -> None:
        with lock.read() if name.startswith("r") else lock.write():
            record.append(f"{name} in")
            sleep(1)
            record.append(f"{name} out")

    def main() -> None:
        for name in ("r1", "r2", "w1", "r3", "r4", "w2", "w3", "r5"):
            Thread(target=use, args=(name,)).start()

    run_virtually(main)
    assert record == [
        "r1 in", "r2 in", "r1 out", "r2 out", "w1 in", "w1 out", "r3 in", "r4 in", "r3 out", "r4 out",
        "w2 in", "w2 out", "w3 in", "w3 out", "r5 in", "r5 out",
    ]  # fmt: skip


@pytest.mark.parametrize("leaves", ["timeout", "interrupt"])
def test_when_a_writer_gives_up_the_readers_behind_it_need_wait_no_longer(leaves: str) -> None:
    clock = VirtualClock()
    lock = RWLock()
    record: list[object] = []

    def write() -> None:
        try:
            record.append(lock.acquire_write(timeout=5 if leaves == "timeout" else -1))
        except ThreadInterrupted:
            record.append("interrupted")

    def read() -> None:
        with lock.read():
            record.append(clock.now())

    def main() -> None:
        with lock.read():
            writer = Thread(target=write)
            writer.start()
            Thread(target=read).start()
            sleep(4)
            if leaves == "interrupt":
                writer.interrupt()
            sleep(100)

    Scheduler(clock=clock).run(main)
    assert record == ([False, 5.0] if leaves == "timeout" else ["interrupted", 4.0])
    assert (lock._readers, lock._writer, len(lock._waiters)) == (0, None, 0)


def test_who_gives_it_up_looks_again_when_somebody_leaves_as_it_looks(pair: Any, until: Any) -> None:
    """A deadline or an interrupt takes its thread out of the queue at any moment."""

    class Queue(OrderedDict[Any, None]):
        looks = 0

        def __iter__(self) -> Any:
            self.looks += 1
            if self.looks == 1:
                raise RuntimeError("OrderedDict mutated during iteration")
            return super().__iter__()

    lock, record = RWLock(), []
    lock._waiters = Queue()

    def main() -> None:
        with lock.write():
            thread = pair.start(lambda: record.append(lock.acquire_write()))
            until(lambda: len(lock._waiters) == 1)
        thread.join()

    pair.run(main)
    assert (record, lock._waiters.looks) == ([True], 2)


def test_what_a_scope_takes_it_gives_back(kind: Kind) -> None:
    lock = RWLock()

    def work() -> None:
        for scope in (lock.read, lock.write):
            with pytest.raises(KeyError), scope():
                raise KeyError

    def main() -> list[bool]:
        thread = Thread(target=work, kind=kind)
        thread.start()
        thread.join()
        return [lock.acquire_write(False), lock.acquire_read(False), lock.acquire_write(timeout=0)]

    assert run_scheduler(main) == [True, False, False]


def test_one_may_take_it_for_another(pair: Any) -> None:
    lock = RWLock()

    def main() -> None:
        lock.acquire_write()
        pair.start(lock.release_write).join()

    pair.run(main)
    assert lock.acquire_read(False)


def test_releasing_what_nobody_has_is_an_error(outcome: Any) -> None:
    lock = RWLock()
    assert outcome(lock.release_read) == (RuntimeError, "release of a lock that nobody holds to read")
    assert outcome(lock.release_write) == (RuntimeError, "release of a lock that nobody holds to write")
    with lock.write():
        assert outcome(lock.release_read) == (RuntimeError, "release of a lock that nobody holds to read")
        assert repr(lock).endswith("being written>")


def test_bad_timeouts_are_lock_s(outcome: Any) -> None:
    from greenthreads import Lock

    for arguments in ((False, 1), (True, -2), (True, 1e300), (True, "x")):
        expected = outcome(Lock().acquire, *arguments)
        assert expected[0] in (ValueError, OverflowError, TypeError)
        assert outcome(RWLock().acquire_read, *arguments) == outcome(RWLock().acquire_write, *arguments) == expected
