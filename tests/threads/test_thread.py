"""`Thread`: its life and what it tells of itself, the same for both kinds."""

from __future__ import annotations

import gc
import re
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import greenthreads
from greenthreads import Event, Lock, Queue, Thread, run_scheduler, yield_now
from greenthreads.carriers import Kind


def test_runs_its_target_with_its_arguments(in_main: Any) -> None:
    record: list[object] = []

    def main() -> None:
        thread = Thread(target=lambda *args, **kwargs: record.append((args, kwargs)), args=(1, 2), kwargs={"key": 3})
        thread.start()
        thread.join()

    in_main(main)
    assert record == [((1, 2), {"key": 3})]


@pytest.mark.parametrize(
    ("args", "kwargs", "seen"),
    [
        ((), None, ((), {})),
        ([1, 2], {}, ((1, 2), {})),
        ("ab", None, (("a", "b"), {})),
        (range(2), None, ((0, 1), {})),
        ((), {"a": 1}, ((), {"a": 1})),
    ],
)
def test_args_may_be_any_iterable_as_with_threading(args: Any, kwargs: Any, seen: object, in_main: Any) -> None:
    record: list[object] = []

    def main() -> None:
        thread = Thread(target=lambda *args, **kwargs: record.append((args, kwargs)), args=args, kwargs=kwargs)
        thread.start()
        thread.join()

    in_main(main)
    assert record == [seen]


def test_start_does_not_wait_for_the_thread_and_join_does(in_main: Any, kind: Kind) -> None:
    record: list[str] = []
    gate = Event()

    def worker() -> None:
        gate.wait()
        record.append("worker")

    def main() -> None:
        thread = Thread(target=worker)
        record.append(f"kind {thread.kind}, alive {thread.is_alive()}, ident {thread.ident}")
        thread.start()
        record.append(f"alive {thread.is_alive()}")
        gate.set()
        thread.join()
        record.append(f"alive {thread.is_alive()}")

    in_main(main)
    assert record == [f"kind {kind}, alive False, ident None", "alive True", "worker", "alive False"]


def test_a_subclass_with_its_own_run_works_as_either_kind(kind: Kind) -> None:
    class Worker(Thread):
        def __init__(self, number: int, **options: Any) -> None:
            super().__init__(**options)
            self.number = number
            self.result = 0

        def run(self) -> None:
            self.result = self.number**2

    def main() -> list[int]:
        workers = [Worker(number, kind=kind) for number in range(5)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return [worker.result for worker in workers]

    assert run_scheduler(main) == [0, 1, 4, 9, 16]


def test_run_called_directly_is_an_ordinary_call(kind: Kind) -> None:
    record: list[object] = []
    thread = Thread(target=lambda: record.append(greenthreads.current_thread()), kind=kind)
    thread.run()
    assert record == [greenthreads.current_thread()]
    assert (thread.is_alive(), thread.ident) == (False, None)


def test_a_thread_without_a_target_ends_at_once(in_main: Any) -> None:
    def main() -> bool:
        thread = Thread()
        thread.start()
        thread.join()
        return thread.is_alive()

    assert in_main(main) is False


def test_join_with_a_timeout(in_main: Any) -> None:
    record: list[object] = []
    gate = Event()

    def main() -> None:
        thread = Thread(target=gate.wait)
        thread.start()
        record.extend((thread.join(timeout), thread.is_alive()) for timeout in (0.01, 0, -1, -0.5))
        gate.set()
        record.append((thread.join(1000), thread.is_alive()))
        record.append((thread.join(0), thread.is_alive()))

    in_main(main)
    assert record == [*4 * [(None, True)], (None, False), (None, False)]


def test_join_many_times_and_by_many(in_main: Any) -> None:
    record: list[str] = []
    gate = Event()

    def main() -> None:
        thread = Thread(target=lambda: (gate.wait(), record.append("thread")))
        joiners = [Thread(target=lambda: (thread.join(), thread.join(), record.append("joiner"))) for _ in range(5)]
        thread.start()
        for joiner in joiners:
            joiner.start()
        gate.set()
        for joiner in joiners:
            joiner.join()
        thread.join()

    in_main(main)
    assert record == ["thread", *5 * ["joiner"]]


KINDS: list[Kind] = ["user", "kernel"]


@pytest.mark.parametrize("joined", KINDS)
@pytest.mark.parametrize("joiner", KINDS)
@pytest.mark.parametrize("first", ["joiner waits", "thread has ended"])
def test_anything_joins_anything(joined: Kind, joiner: Kind, first: str, until: Any, waits: Any) -> None:
    record: list[str] = []
    gate = Event()

    def main() -> None:
        thread = Thread(target=lambda: (gate.wait(), record.append("joined")), kind=joined)
        other = Thread(target=lambda: (thread.join(), record.append("joiner")), kind=joiner)
        thread.start()
        if first == "thread has ended":
            gate.set()
            until(lambda: not thread.is_alive())
        other.start()
        if first == "joiner waits":
            until(lambda: waits(other))
            record.append("joiner waits")
            gate.set()
        other.join()

    run_scheduler(main)
    assert record == (["joiner waits"] if first == "joiner waits" else []) + ["joined", "joiner"]


def test_a_user_thread_that_joins_a_kernel_thread_lets_others_run() -> None:
    record: list[str] = []
    gate = Event()

    def main() -> None:
        thread = Thread(target=gate.wait, kind="kernel")
        thread.start()
        other = Thread(target=lambda: (record.append("other"), gate.set()))
        other.start()
        thread.join()
        record.append("joined")

    run_scheduler(main)
    assert record == ["other", "joined"]


def test_two_joiners_find_the_system_s_part_of_the_end_done_by_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def main() -> Thread:
        thread = Thread(target=lambda: None, kind="kernel")
        thread.start()
        thread.join()
        return thread

    thread = run_scheduler(main)
    reads: list[object] = []

    class Carrier:
        def join(self) -> None:
            reads.append("joined")

    class Vanishing:
        """There at the first look, and gone at the second: another joiner was there between the two."""

        def __get__(self, task: object, owner: object) -> object:
            reads.append("read")
            return Carrier() if reads == ["read"] else None

        def __set__(self, task: object, value: object) -> None:
            reads.append("set")

    monkeypatch.setattr("scheduler.kernel.KernelTask.carrier", Vanishing())
    thread.join()
    assert reads == ["read", "joined", "set"]


def test_names_are_numbered_with_the_target_s_name_and_one_s_own_is_kept(kind: Kind) -> None:
    def worker() -> None:
        pass

    class Callable_:
        def __call__(self) -> None:
            pass

    names = [Thread(kind=kind).name, Thread(target=worker, kind=kind).name, Thread(target=Callable_(), kind=kind).name]
    numbers = [int(re.findall(r"\d+", name)[0]) for name in names]
    assert names == [f"Thread-{numbers[0]}", f"Thread-{numbers[0] + 1} (worker)", f"Thread-{numbers[0] + 2}"]
    thread = Thread(name="mine", kind=kind)
    assert thread.name == "mine"
    thread.name = 5  # type: ignore[assignment]
    assert thread.name == "5"


def test_the_name_does_not_change_when_the_thread_ends(in_main: Any) -> None:
    def worker() -> None:
        pass

    def main() -> str:
        thread = Thread(target=worker)
        thread.start()
        thread.join()
        return thread.name

    assert in_main(main).endswith(" (worker)")


def test_identifiers(in_main: Any, kind: Kind, until: Any) -> None:
    seen: list[tuple[Thread, int, int, int]] = []
    gate = Event()

    def worker() -> None:
        seen.append(
            (
                greenthreads.current_thread(),
                greenthreads.get_ident(),
                greenthreads.get_native_id(),
                threading.get_native_id(),
            )
        )
        gate.wait()

    def main() -> None:
        threads = [Thread(target=worker) for _ in range(5)]
        for thread in threads:
            thread.start()
            # At once, not when it first runs.
            assert thread.ident is not None
            assert thread.native_id is not None
        until(lambda: len(seen) == 5)
        idents = [thread.ident for thread in threads]
        native = [thread.native_id for thread in threads]
        assert len(set(idents) | {greenthreads.get_ident(), 0}) == 7
        assert len(set(native) | {greenthreads.get_native_id(), 0}) == 7
        assert {entry[0]: entry[1:3] for entry in seen} == {t: (t.ident, t.native_id) for t in threads}
        if kind == "kernel":
            assert [entry[2] for entry in seen] == [entry[3] for entry in seen]
        gate.set()
        for thread in threads:
            thread.join()
        # They stay when the thread has ended.
        assert [thread.ident for thread in threads] == idents

    in_main(main)
    assert len(seen) == 5


def test_the_daemon_flag_is_inherited_unless_given(in_main: Any) -> None:
    record: list[tuple[bool, bool, bool]] = []

    def worker() -> None:
        record.append((Thread().daemon, Thread(daemon=True).daemon, Thread(daemon=False).daemon))

    def main() -> None:
        for daemon in (None, False, True):
            thread = Thread(target=worker, daemon=daemon)
            thread.start()
            thread.join()

    in_main(main)
    assert record == [(False, True, False), (False, True, False), (True, True, False)]


def test_the_daemon_flag_can_be_set_before_the_start(in_main: Any) -> None:
    record: list[str] = []

    def worker() -> None:
        record.append(repr(greenthreads.current_thread().daemon))

    def main() -> None:
        thread = Thread(target=worker)
        thread.daemon = True
        thread.start()
        thread.join()

    in_main(main)
    assert record == ["True"]


def test_repr(in_main: Any, outcome: Any) -> None:
    gate = Event()

    class Worker(Thread):
        pass

    def main() -> None:
        thread = Worker(target=gate.wait, name="w", daemon=True)
        assert repr(thread) == "<Worker(w, initial daemon)>"
        thread.start()
        assert repr(thread) == f"<Worker(w, started daemon {thread.ident})>"
        gate.set()
        thread.join()
        assert repr(thread) == f"<Worker(w, stopped daemon {thread.ident})>"

    in_main(main)
    assert repr(greenthreads.main_thread()) == f"<_MainThread(MainThread, started {threading.get_ident()})>"


def test_what_it_was_given_goes_when_it_ends_though_the_thread_object_stays(in_main: Any) -> None:
    class Target:
        def __call__(self, *args: object, **kwargs: object) -> None:
            pass

    class Thing:
        pass

    def main() -> list[object]:
        target, argument, keyword = Target(), Thing(), Thing()
        references = [weakref.ref(thing) for thing in (target, argument, keyword)]
        thread = Thread(target=target, args=(argument,), kwargs={"keyword": keyword})
        del target, argument, keyword
        thread.start()
        thread.join()
        return [thread.is_alive(), *(reference() for reference in references)]

    gc.disable()
    try:
        assert in_main(main) == [False, None, None, None]
    finally:
        gc.enable()


def test_the_object_of_an_ended_user_thread_goes_with_its_last_reference() -> None:
    def main() -> list[object]:
        threads = [Thread(target=yield_now), Thread(target=lambda: None), Thread(target=int, args=("1",))]
        references = [weakref.ref(thread) for thread in threads]
        for thread in threads:
            thread.start()
        del thread
        while threads:
            threads.pop().join()
        return [reference() for reference in references]

    gc.disable()
    try:
        assert run_scheduler(main) == [None, None, None]
    finally:
        gc.enable()


def test_an_ended_thread_that_holds_a_lock_is_still_known_by_its_name() -> None:
    def hold() -> None:
        lock.acquire()

    def main() -> None:
        threads = [Thread(target=hold), Thread(target=hold, name="given"), Thread(target=hold)]
        threads[2].name = "changed"
        for thread in threads:
            thread.start()
            name = thread.name if thread is not threads[0] else re.sub(r"\d+", "N", thread.name)
            thread.join()
            owner = lock._owner
            assert owner is not None
            names.append((name, re.sub(r"\d+", "N", owner.name)))
            lock.release()

    lock, names = Lock(), list[tuple[str, str]]()
    run_scheduler(main)
    assert names == [("Thread-N (hold)", "Thread-N (hold)"), ("given", "given"), ("changed", "changed")]


def test_what_the_target_held_may_wait_when_it_goes() -> None:
    record: list[str] = []
    lock = Lock()

    class Thing:
        def __del__(self) -> None:
            with lock:
                record.append("gone")

    def main() -> None:
        thing = Thing()
        thread = Thread(target=lambda thing=thing: record.append("target"))
        del thing
        with lock:
            thread.start()
            yield_now()
            yield_now()
            record.append(f"alive: {thread.is_alive()}")
        thread.join()

    run_scheduler(main)
    assert record == ["target", "alive: True", "gone"]


def test_an_ended_thread_that_nobody_keeps_goes(in_main: Any, until: Any) -> None:
    def main() -> None:
        thread = Thread(target=lambda: None)
        thread.start()
        thread.join()
        reference = weakref.ref(thread)
        thread = Thread(target=lambda: None)
        thread.start()
        thread.join()
        # A kernel thread that has been joined goes through its last lines still, and holds itself there.
        until(lambda: gc.collect() >= 0 and reference() is None)

    in_main(main)


def test_a_thread_that_nobody_keeps_runs_all_the_same(in_main: Any) -> None:
    queue: Queue[str] = Queue()

    def main() -> str:
        Thread(target=queue.put, args=("done",)).start()
        gc.collect()
        return queue.get()

    assert in_main(main) == "done"


def test_the_default_kind_moves_a_whole_program(outcome: Any) -> None:
    assert greenthreads.default_kind() == "user"
    greenthreads.set_default_kind("kernel")
    try:
        assert (Thread().kind, Thread(kind="user").kind, Thread(kind=None).kind) == ("kernel", "user", "kernel")
        assert greenthreads.default_kind() == "kernel"
    finally:
        greenthreads.set_default_kind("user")
    assert (Thread().kind, Thread(kind="kernel").kind) == ("user", "kernel")


@pytest.mark.parametrize("wrong", ["green", "", 1])
def test_an_unknown_kind(wrong: Any, outcome: Any) -> None:
    expected = (ValueError, f"kind must be 'user' or 'kernel', not {wrong!r}")
    assert outcome(Thread, kind=wrong) == expected
    assert outcome(greenthreads.set_default_kind, wrong) == expected
    assert greenthreads.default_kind() == "user"


def test_the_kind_of_the_main_thread_says_what_it_runs() -> None:
    assert greenthreads.main_thread().kind == "kernel"
    assert run_scheduler(lambda: greenthreads.main_thread().kind) == "user"
    assert greenthreads.main_thread().kind == "kernel"


def test_main_can_be_joined_by_a_thread_that_outlives_it(kind: Kind) -> None:
    record: list[str] = []

    def worker() -> None:
        greenthreads.main_thread().join()
        record.append("worker")

    def main() -> Thread:
        thread = Thread(target=worker, kind=kind)
        thread.start()
        yield_now()
        record.append("main")
        return thread

    run_scheduler(main).join()
    assert record == ["main", "worker"]


def test_run_scheduler_does_not_wait_for_kernel_threads_but_they_can_be_joined_after_it() -> None:
    gate = threading.Event()
    record: list[str] = []

    def main() -> Thread:
        thread = Thread(target=lambda: (gate.wait(), record.append("kernel")), kind="kernel")
        thread.start()
        return thread

    thread = run_scheduler(main)
    record.append("after the scheduler")
    gate.set()
    thread.join()
    assert record == ["after the scheduler", "kernel"]


def test_kernel_threads_need_no_scheduler() -> None:
    record: list[str] = []
    lock = Lock()

    def worker(name: str) -> None:
        with lock:
            record.append(name)

    threads = [Thread(target=worker, args=(name,), kind="kernel") for name in "abc"]
    for thread in threads:
        thread.start()
        thread.join()
    assert record == ["a", "b", "c"]


def test_a_kernel_thread_may_run_a_scheduler_and_is_its_main_user_thread() -> None:
    record: list[object] = []

    def inner() -> str:
        thread = greenthreads.current_thread()
        record.append((thread.name, thread.ident == threading.get_ident()))
        child = Thread(target=lambda: record.append(greenthreads.current_thread() is thread))
        child.start()
        child.join()
        return "result"

    thread = Thread(target=lambda: record.append(run_scheduler(inner)), kind="kernel", name="host")
    thread.start()
    thread.join()
    assert record == [("host", True), False, "result"]


def test_a_hundred_kernel_threads_come_and_go(until: Any, greenlets: Callable[[], int]) -> None:
    record: list[int] = []

    def main() -> None:
        for _ in range(10):
            threads = [Thread(target=record.append, args=(n,), kind="kernel") for n in range(10)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    run_scheduler(main)
    before = greenlets()
    run_scheduler(main)
    assert sorted(record) == sorted(20 * list(range(10)))
    # greenlet drops those of dead kernel threads one by one, when the interpreter next comes to it.
    until(lambda: greenlets() <= before)


@pytest.mark.parametrize("body", ["Thread(target=print, kind='kernel').start()", "timeout(1).__enter__()"])
def test_a_finalizer_at_the_end_of_the_interpreter_is_refused_a_kernel_thread(script: Any, body: str) -> None:
    source = f"""
        from greenthreads import Thread, timeout

        class Finalized:
            def __del__(self):
                try:
                    {body}
                except RuntimeError as error:
                    print(error)

        finalized = Finalized()
        finalized.cycle = finalized
    """
    assert script(source).stdout == "can't create new thread at interpreter shutdown\n"


def test_a_finalizer_at_the_end_of_the_interpreter_may_give_way_and_use_sockets(script: Any) -> None:
    source = """
        import sys
        from greenthreads import Timer, yield_now
        from greenthreads.socket import socketpair

        class Finalized:
            def __del__(self):
                yield_now()
                ours.send(b"goodbye")
                print(theirs.recv(100), Timer(1, print).is_alive())

        # Outside of the module, whose names go before the collector runs.
        ours, theirs = sys.kept = socketpair()
        finalized = Finalized()
        finalized.cycle = finalized
    """
    assert script(source, check=False).stdout == "b'goodbye' False\n"
