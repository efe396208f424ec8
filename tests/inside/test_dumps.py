"""Dumps: every thread of both kinds, what it waits for, since when, who holds it, and where it stands."""

from __future__ import annotations

import _thread
import io
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import greenthreads
from greenthreads import Condition, Event, Lock, Thread, dump_on_signal, dump_threads, sleep, yield_now
from greenthreads.carriers import Kind
from scheduler import Deadlock, Scheduler, VirtualClock, run_scheduler

HERE = __file__


def entries(text: str) -> list[list[str]]:
    """The entries of a dump: each its headline and its frames."""
    return [[line.strip() for line in entry.splitlines()] for entry in text.split("\n\n")[1:]]


def entry_of(text: str, name: str) -> list[str]:
    (found,) = [entry for entry in entries(text) if f"thread {name!r}" in entry[0]]
    return found


def rows(text: str) -> dict[str, dict[str, Any]]:
    """The user threads of a dump, by name."""
    dump = json.loads(text)
    users = [row for row in dump["threads"] if row["kind"] == "user"]
    return {row["name"]: {**row, "stack": dump["stacks"][row["stack"]]["frames"]} for row in users}


def test_a_parked_thread_says_what_it_waits_for_and_who_holds_it(
    kind: Kind, in_main: Callable[..., Any], until: Callable[..., Any], waits: Callable[..., bool]
) -> None:
    lock = Lock()

    def wait() -> None:
        with lock:
            pass

    def main() -> str:
        with lock:
            thread = Thread(target=wait, name="waiter")
            thread.start()
            until(lambda: waits(thread))
            text = dump_threads()
        thread.join()
        return text

    headline, frame = entry_of(in_main(main), "waiter")
    where = " on 'MainThread'" if kind == "user" else ""
    pattern = rf"{kind} thread 'waiter'{where}: parked for \d+\.\d s, waits for Lock L1, held by 'MainThread'"
    assert re.fullmatch(pattern, headline)
    line = wait.__code__.co_firstlineno + 1
    assert frame == f"{HERE}:{line} in wait"


def test_the_calling_thread_stands_where_it_asked(kind: Kind, in_main: Callable[..., Any]) -> None:
    texts: list[str] = []

    def ask() -> None:
        texts.append(dump_threads())

    def main() -> None:
        thread = Thread(target=ask, name="asker")
        thread.start()
        thread.join()

    in_main(main)
    headline, *frames = entry_of(texts[0], "asker")
    assert headline.endswith(": running")
    assert frames[0] == f"{HERE}:{ask.__code__.co_firstlineno + 1} in ask"


def test_every_state_has_its_name() -> None:
    def main() -> dict[str, dict[str, Any]]:
        event = Event()
        Thread(target=event.wait, name="parked").start()
        Thread(target=yield_now, name="ready").start()
        Thread(target=sleep, args=(0.001,), name="asleep").start()
        yield_now()
        Thread(target=yield_now, name="new").start()
        try:
            return rows(dump_threads(format="json"))
        finally:
            event.set()

    found = run_scheduler(main)
    assert {name: (row["state"], row["waits_for"]) for name, row in found.items()} == {
        "MainThread": ("running", None),
        "parked": ("parked", "Event E1"),
        "ready": ("ready", None),
        "asleep": ("parked", "sleep"),
        "new": ("new", None),
    }
    assert found["new"]["stack"] == []


def test_time_of_waiting_is_on_the_schedulers_clock() -> None:
    def main() -> float:
        event = Event()
        Thread(target=event.wait, name="waiter").start()
        sleep(90)
        try:
            return float(rows(dump_threads(format="json"))["waiter"]["seconds"])
        finally:
            event.set()

    assert Scheduler(clock=VirtualClock()).run(main) == 90


def test_equal_threads_are_one_entry_with_a_count() -> None:
    def main() -> str:
        event = Event()
        conditions = [Condition() for _ in range(5)]

        def wait(condition: Condition) -> None:
            with condition:
                condition.wait()

        for number in range(1000):
            Thread(target=event.wait, name=f"e{number}").start()
        for condition in conditions:
            Thread(target=wait, args=(condition,), name="c").start()
        yield_now()
        text = dump_threads()
        event.set()
        for condition in conditions:
            with condition:
                condition.notify()
        return text

    text = run_scheduler(main)
    assert text.startswith("1,006 user and ")
    first, second = [entry[0] for entry in entries(text) if " threads " in entry[0]]
    assert re.fullmatch(
        r"1,000 user threads 'e0', 'e1', 'e2' and 997 more on 'MainThread': parked for .* s, wait for Event E1", first
    )
    assert second.endswith("wait for Condition C1; Condition C2; Condition C3 and 2 more")


def test_json_has_every_thread_and_each_stack_once() -> None:
    def main() -> str:
        event = Event()
        for number in range(100):
            Thread(target=event.wait, name=f"t{number}").start()
        yield_now()
        try:
            return dump_threads(format="json")
        finally:
            event.set()

    dump = json.loads(run_scheduler(main))
    assert (dump["version"], dump["process"]) == (1, os.getpid())
    waiting = [row for row in dump["threads"] if row["waits_for"] == "Event E1"]
    assert [row["name"] for row in waiting] == [f"t{number}" for number in range(100)]
    (index,) = {row["stack"] for row in waiting}
    assert dump["stacks"][index]["count"] == 100
    assert dump["stacks"][index]["frames"][0]["function"] == "wait"


def test_kernel_threads_that_nobody_here_started_are_there() -> None:
    release = threading.Event()

    def stand() -> None:
        release.wait()

    stranger = threading.Thread(target=stand, name="stranger")
    stranger.start()
    try:
        text = dump_threads()
    finally:
        release.set()
        stranger.join()
    headline, *frames = entry_of(text, "stranger")
    assert headline == "kernel thread 'stranger': running"
    assert any(frame.endswith(" in stand") for frame in frames)


def test_a_scheduler_on_another_kernel_thread_is_seen(
    until: Callable[..., Any], waits: Callable[..., bool]
) -> None:
    event = Event()

    def inner() -> None:
        thread = Thread(target=event.wait, name="inside", kind="user")
        thread.start()
        thread.join()

    outside = Thread(target=run_scheduler, args=(inner,), name="other", kind="kernel")
    outside.start()
    until(lambda: "Event E1" in dump_threads())
    text = dump_threads()
    event.set()
    outside.join()
    assert entry_of(text, "inside")[0].startswith("user thread 'inside' on 'other': parked for ")
    assert "kernel thread 'other': runs a scheduler" in text


def test_it_goes_to_a_file_or_a_descriptor(tmp_path: Path) -> None:
    file = io.StringIO()
    assert file.getvalue() == ""
    text = dump_threads(file)
    assert file.getvalue() == text + "\n"
    path = tmp_path / "dump"
    with path.open("w") as opened:
        text = dump_threads(opened.fileno())
    assert path.read_text() == text + "\n"


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("format must be 'text' or 'json', not 'xml'")):
        dump_threads(format="xml")  # type: ignore[arg-type]


# ---- By a signal -----------------------------------------------------------------------------------------------------


@pytest.fixture
def on_signal() -> Any:
    yield dump_on_signal
    while greenthreads.undump_on_signal(signal.SIGUSR1):
        pass


def test_a_signal_makes_a_dump_while_all_threads_wait(on_signal: Callable[..., None]) -> None:
    file = io.StringIO()
    on_signal(signal.SIGUSR1, file)
    event = Event()

    def ring() -> None:
        while "Event E1" not in file.getvalue():
            os.kill(os.getpid(), signal.SIGUSR1)
            yield_now()
        event.set()

    def main() -> None:
        ringer = Thread(target=ring, kind="kernel")
        ringer.start()
        event.wait()
        ringer.join()

    run_scheduler(main)
    assert "user thread 'MainThread' on 'MainThread': parked for" in file.getvalue()


def test_a_signal_shows_the_thread_that_runs(on_signal: Callable[..., None]) -> None:
    file = io.StringIO()
    on_signal(signal.SIGUSR1, file)

    def spin() -> None:
        signal.raise_signal(signal.SIGUSR1)

    def main() -> None:
        Thread(target=spin, name="spinner").start()

    run_scheduler(main)
    headline, *frames = entry_of(file.getvalue(), "spinner")
    assert headline == "user thread 'spinner' on 'MainThread': running"
    assert frames[0] == f"{HERE}:{spin.__code__.co_firstlineno + 1} in spin"


def test_by_default_it_goes_to_standard_error(
    on_signal: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    on_signal(signal.SIGUSR1, format="json")
    signal.raise_signal(signal.SIGUSR1)
    assert json.loads(capsys.readouterr().err)["process"] == os.getpid()


def test_a_signal_in_the_middle_of_a_write_to_the_same_file(script: Callable[..., Any]) -> None:
    """The file's own lock is held then: written through the file, the dump would be a reentrant call."""
    program = """
        import os, select, signal, sys, threading, time
        from greenthreads import dump_on_signal

        read, write = os.pipe()
        sys.stderr = open(write, "w")
        dump_on_signal(signal.SIGUSR1)

        def disturb():
            while select.select([], [write], [], 0)[1]:
                time.sleep(0)
            # The pipe is full, and the main thread, with most of its text yet to write, is in the middle of it.
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
            size = 0
            while size < 200_000:
                size += len(os.read(read, 65536))

        helper = threading.Thread(target=disturb)
        helper.start()
        sys.stderr.write("x" * 200_000)
        sys.stderr.flush()
        helper.join()
        print("whole")
        """
    assert script(program).stdout == "whole\n"


def test_the_handler_before_is_called_if_asked_and_comes_back(on_signal: Callable[..., None]) -> None:
    record: list[int] = []

    def handler(number: int, _frame: Any) -> None:
        record.append(number)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        on_signal(signal.SIGUSR1, io.StringIO())
        signal.raise_signal(signal.SIGUSR1)
        assert record == []
        on_signal(signal.SIGUSR1, io.StringIO(), chain=True)
        signal.raise_signal(signal.SIGUSR1)
        assert record == [signal.SIGUSR1]
        assert greenthreads.undump_on_signal(signal.SIGUSR1)
        assert signal.getsignal(signal.SIGUSR1) is handler
        assert not greenthreads.undump_on_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_dumping_program_still_finds_its_deadlock(on_signal: Callable[..., None]) -> None:
    on_signal(signal.SIGUSR1, io.StringIO())
    with pytest.raises(Deadlock):
        run_scheduler(Event().wait)


def test_the_command_dumps_on_sigquit(script: Callable[..., Any], tmp_path: Path) -> None:
    program = tmp_path / "waits.py"
    program.write_text(
        "import os, signal, threading\n"
        "killer = threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGQUIT), name='killer')\n"
        "killer.start()\n"
        "killer.join()\n"
    )
    result = script(
        f"import sys\nfrom greenthreads.cli import main\nsys.exit(main(['--dump', {str(program)!r}]))", check=False
    )
    assert result.returncode == 0
    assert "user thread 'killer' on 'MainThread': running" in result.stderr


def test_the_standard_names_are_exported() -> None:
    assert {"dump_on_signal", "dump_threads", "undump_on_signal"} <= set(greenthreads.__all__)
    assert sys.modules["greenthreads.dumps"].dump_threads is greenthreads.dump_threads


def test_json_names_who_holds_something_as_it_names_threads() -> None:
    lock, other = Lock(), Lock()

    def main() -> str:
        holder = Thread(target=other.acquire, name="it's gone")
        holder.start()
        holder.join()
        lock.acquire()
        threads = [Thread(target=each.acquire, name=name, daemon=True) for each, name in ((lock, "a"), (other, "b"))]
        for thread in threads:
            thread.start()
        yield_now()
        return dump_threads(format="json")

    found = rows(run_scheduler(main))
    held = {name: (found[name]["held_by"], found[name]["holder_has_ended"]) for name in "ab"}
    assert held == {"a": ("MainThread", False), "b": ("it's gone", True)}
    assert (found["MainThread"]["held_by"], found["MainThread"]["holder_has_ended"]) == (None, False)


def test_a_kernel_thread_without_a_name_has_its_number() -> None:
    began, ended, may_end = threading.Lock(), threading.Lock(), threading.Lock()
    for each in (began, ended, may_end):
        each.acquire()

    def wait() -> None:
        began.release()
        may_end.acquire()
        ended.release()

    ident = _thread.start_new_thread(wait, ())
    began.acquire()
    try:
        assert f"\nkernel thread 'thread {ident}': running\n" in dump_threads()
    finally:
        may_end.release()
        ended.acquire()
