"""`os.fork()`: the child has the thread that forked, and no other; that thread may run a scheduler of its own."""

from __future__ import annotations

import os
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on Windows")

# What the programs below have in common. Lines are written in one piece: parent and child share the output.
PRELUDE = """
import gc, os, signal, sys, threading, time, warnings
warnings.filterwarnings("ignore", message="This process .* is multi-threaded")
import greenthreads
from greenthreads import Event, Lock, Queue, Thread, run_in_kernel_thread, run_scheduler, sleep, yield_now

def say(*words):
    os.write(1, (" ".join(map(str, words)) + chr(10)).encode())

def status_of(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def names():
    return sorted(thread.name for thread in greenthreads.enumerate())

parent = os.getpid()

def who():
    return "parent" if os.getpid() == parent else "child"

def waiter(event):
    try:
        event.wait()
        say(who(), "waiter woken")
    finally:
        say(who(), "waiter's finally")
"""


def lines(script: Any, program: str) -> list[str]:
    result = script(PRELUDE + program)
    return result.stdout.splitlines()  # type: ignore[no-any-return]


def test_in_the_main_user_thread_run_scheduler_returns_in_both(script: Any) -> None:
    assert lines(
        script,
        """
def main():
    event = Event()
    Thread(target=waiter, args=(event,), name="waiter").start()
    Thread(target=sleep, args=(0.001,), name="sleeper").start()
    yield_now()
    child = os.fork()
    if child == 0:
        say("child sees", names(), greenthreads.active_count())
        yield_now(); sleep(0.002)
        event.set(); yield_now()
        return "child returns"
    say("child's status", status_of(child))
    say("parent sees", names(), greenthreads.active_count())
    event.set()
    return "parent returns"

say(run_scheduler(main))
if who() == "child":
    gc.collect()
    sys.exit(7)
""",
    ) == [
        "child sees ['MainThread'] 1",
        "child returns",
        "child's status 7",
        "parent sees ['MainThread', 'sleeper', 'waiter'] 3",
        "parent waiter woken",
        "parent waiter's finally",
        "parent returns",
    ]


def test_in_another_user_thread_the_child_ends_with_that_thread(script: Any) -> None:
    assert lines(
        script,
        """
def forker():
    child = os.fork()
    if child == 0:
        say("child sees", names(), greenthreads.current_thread() is greenthreads.main_thread())
        yield_now(); sleep(0.001)
        print("flushed at the end")
        return
    say("child's status", status_of(child))

def main():
    try:
        event = Event()
        Thread(target=waiter, args=(event,)).start()
        yield_now()
        thread = Thread(target=forker, name="forker")
        thread.start()
        thread.join()
        say(who(), "main goes on")
        event.set()
    finally:
        say(who(), "main's finally")

run_scheduler(main)
say(who(), "ends")
""",
    ) == [
        "child sees ['forker'] True",
        "flushed at the end",
        "child's status 0",
        "parent main goes on",
        "parent main's finally",
        "parent waiter woken",
        "parent waiter's finally",
        "parent ends",
    ]


def test_the_child_starts_threads_of_both_kinds_and_waits_for_them(script: Any) -> None:
    assert lines(
        script,
        """
def in_child():
    record = []
    queue = Queue()
    threads = [Thread(target=queue.put, args=(kind,), kind=kind) for kind in ("user", "kernel")]
    for thread in threads:
        thread.start()
    got = sorted([queue.get(), queue.get()])
    for thread in threads:
        thread.join()
    foreign = threading.Thread(target=lambda: record.append(greenthreads.current_thread().name), name="foreign")
    foreign.start()
    foreign.join()
    say(who(), got, record, run_in_kernel_thread(lambda: "in a kernel thread"), names())
    Thread(target=lambda: (sleep(0.001), say(who(), "late thread"))).start()

def forker():
    child = os.fork()
    if child == 0:
        in_child()
    else:
        say("child's status", status_of(child))

def main():
    run_in_kernel_thread(lambda: None)
    Thread(target=sleep, args=(0.001,)).start()
    thread = Thread(target=forker, name="forker")
    thread.start()
    thread.join()
    forker()

run_scheduler(main)
""",
    ) == [
        "child ['kernel', 'user'] ['foreign'] in a kernel thread ['forker']",
        "child late thread",
        "child's status 0",
        "child ['kernel', 'user'] ['foreign'] in a kernel thread ['MainThread']",
        "child late thread",
        "child's status 0",
    ]


@pytest.mark.parametrize("place", ["main", "another thread"])
def test_the_child_runs_a_scheduler_of_its_own(script: Any, place: str) -> None:
    assert lines(
        script,
        f"""
place = {place!r}

def inner():
    record = []
    thread = Thread(target=record.append, args=(1,), name="inner thread")
    thread.start()
    say(names(), greenthreads.current_thread() is greenthreads.main_thread())
    thread.join()
    sleep(0.001)
    return record

def fork():
    child = os.fork()
    if child == 0:
        say(run_scheduler(inner))
        say(run_scheduler(inner))
        yield_now()
        os._exit(3)
    say("child's status", status_of(child))

def main():
    Thread(target=sleep, args=(0.01,), name="sleeper").start()
    yield_now()
    if place == "main":
        fork()
    else:
        thread = Thread(target=fork, name="MainThread")
        thread.start()
        thread.join()

run_scheduler(main)
""",
    ) == 2 * ["['MainThread', 'inner thread'] True", "[1]"] + ["child's status 3"]


def test_in_a_kernel_thread(script: Any) -> None:
    assert lines(
        script,
        """
def forker():
    child = os.fork()
    if child == 0:
        say("child sees", names(), greenthreads.current_thread() is greenthreads.main_thread())
        try:
            say(run_scheduler(lambda: (Thread(target=say, args=("a thread in the child",)).start(), names())[1]))
        finally:
            os._exit(4)
    say("child's status", status_of(child))

def main():
    event = Event()
    Thread(target=waiter, args=(event,), name="waiter").start()
    yield_now()
    thread = Thread(target=forker, name="forker", kind="kernel")
    thread.start()
    thread.join()
    event.set()

run_scheduler(main)
""",
    ) == [
        "child sees ['forker'] True",
        "a thread in the child",
        "['Thread-1 (say)', 'forker']",
        "child's status 4",
        "parent waiter woken",
        "parent waiter's finally",
    ]


def test_the_kernel_thread_that_forks_is_the_one_that_looks_for_signals(script: Any) -> None:
    """In the child it is the main one, whatever it was in the parent; it must not sleep for too long at a time."""
    assert lines(
        script,
        """
from scheduler.kernel import SIGNAL_ROUND, here

def main():
    child = os.fork()
    say(who(), here.scheduler._longest_sleep == SIGNAL_ROUND)
    if child == 0:
        os._exit(0)
    status_of(child)

thread = threading.Thread(target=run_scheduler, args=(main,))
thread.start()
thread.join()
""",
    ) in (["parent False", "child True"], ["child True", "parent False"])


def test_no_scheduler_runs(script: Any) -> None:
    assert lines(
        script,
        """
lock = Lock()
child = os.fork()
if child == 0:
    say(run_scheduler(lambda: (Thread(target=say, args=("thread",)).start(), "result")[1]), names())
    sys.exit(5)
say("child's status", status_of(child))
""",
    ) == ["thread", "result ['MainThread']", "child's status 5"]


def test_parked_threads_are_not_unwound_when_the_child_ends(script: Any) -> None:
    """Neither while it runs, nor when the interpreter takes down what is left: they live on in the parent."""
    assert lines(
        script,
        """
import atexit
atexit.register(lambda: say(who(), "ends"))
def main():
    event = Event()
    for _ in range(3):
        Thread(target=waiter, args=(event,)).start()
    Thread(target=waiter, args=(event,), daemon=True).start()
    yield_now()
    child = os.fork()
    if child == 0:
        del event
        gc.collect()
        return
    say("child's status", status_of(child))
    event.set()

run_scheduler(main)
gc.collect()
""",
    ) == ["child ends", "child's status 0", *4 * ["parent waiter woken", "parent waiter's finally"], "parent ends"]


def test_a_deadlock_in_the_child_counts_its_own_threads_only(script: Any) -> None:
    assert lines(
        script,
        """
def main():
    gate = threading.Event()
    threading.Thread(target=gate.wait).start()
    run_in_kernel_thread(lambda: None)
    event = Event()
    Thread(target=event.wait, name="other").start()
    yield_now()
    child = os.fork()
    if child == 0:
        try:
            Event().wait()
        except greenthreads.Deadlock as error:
            say([row.thread for row in error.threads])
        return
    say("child's status", status_of(child))
    gate.set()
    event.set()

run_scheduler(main)
""",
    ) == ["['MainThread']", "child's status 0"]


def test_identities_are_the_child_s(script: Any) -> None:
    assert lines(
        script,
        """
def main():
    child = os.fork()
    if child == 0:
        thread = greenthreads.current_thread()
        say(greenthreads.get_native_id() == threading.get_native_id() == thread.native_id)
        say(greenthreads.get_ident() == thread.ident)
        return
    say("child's status", status_of(child))

run_scheduler(main)
""",
    ) == ["True", "True", "child's status 0"]


def test_main_s_failure_in_the_child_is_its_exit_status(script: Any) -> None:
    result = script(
        PRELUDE
        + """
def main():
    child = os.fork()
    if child == 0:
        raise ValueError("in the child")
    say("child's status", status_of(child))

run_scheduler(main)
""",
        check=False,
    )
    assert (result.returncode, result.stdout) == (0, "child's status 1\n")
    assert result.stderr.splitlines()[-1] == "ValueError: in the child"


def test_ctrl_c_in_the_child(script: Any) -> None:
    assert lines(
        script,
        """
def main():
    Thread(target=sleep, args=(0.05,)).start()
    yield_now()
    child = os.fork()
    if child == 0:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            sleep(1000)
        except KeyboardInterrupt:
            say("child is interrupted")
        return
    say("child's status", status_of(child))

run_scheduler(main)
""",
    ) == ["child is interrupted", "child's status 0"]


def test_a_posted_call_that_forks(script: Any) -> None:
    """The scheduler forks between two threads: none of them is there in the child."""
    assert lines(
        script,
        """
from scheduler import current_task
children = []

def main():
    event = Event()
    thread = Thread(target=waiter, args=(event,))
    thread.start()
    scheduler = current_task().scheduler
    scheduler.post(lambda: children.append(os.fork()))
    scheduler.post(event.set)
    thread.join()
    say(who(), "child's status", status_of(children[0]))

run_scheduler(main)
""",
    ) == ["parent waiter woken", "parent waiter's finally", "parent child's status 0"]


def test_again_and_again(script: Any) -> None:
    assert lines(
        script,
        """
def main():
    depth = 0
    while depth < 4:
        Thread(target=sleep, args=(0,)).start()
        child = os.fork()
        if child:
            status = status_of(child)
            assert depth == 3 or status == depth + 11, status
            sys.exit(depth + 10)
        depth += 1
    sys.exit(0)

try:
    run_scheduler(main)
except SystemExit as exit:
    say(exit.code)
    if who() == "child":
        raise
""",
    ) == ["0", "13", "12", "11", "10"]


def test_nothing_is_handed_to_threads_that_stayed_in_the_parent(script: Any) -> None:
    assert lines(
        script,
        """
def main():
    lock, queue, full = Lock(), Queue(), Queue(1)
    lock.acquire()
    full.put("first")
    users = [
        Thread(target=lock.acquire),
        Thread(target=queue.get),
        Thread(target=full.put, args=("second",)),
        Thread(target=queue.get, kind="kernel"),
    ]
    for thread in users:
        thread.start()
    while len(queue._getters) < 2:
        yield_now()
    child = os.fork()
    if child == 0:
        lock.release()
        queue.put("item")
        say(lock.acquire(timeout=1), queue.get(timeout=1), full.get(timeout=1), full.empty())
        say([thread.is_alive() for thread in users], [thread.join() for thread in users])
        return
    say("child's status", status_of(child))
    lock.release()
    queue.put("item")
    queue.put("item")
    full.get()
    for thread in users:
        thread.join()
    say(lock.locked(), queue.empty(), full.get())

run_scheduler(main)
""",
    ) == [
        "True item first True",
        "[False, False, False, False] [None, None, None, None]",
        "child's status 0",
        "True True second",
    ]
