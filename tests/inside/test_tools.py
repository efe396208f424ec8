"""Debuggers and profilers in user threads: each does there what it does in a kernel thread."""

from __future__ import annotations

import faulthandler
import json
import os
import pstats
import subprocess
import sys
import tempfile
import textwrap
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import greenthreads
from greenthreads import Thread, run_scheduler, yield_now
from greenthreads.carriers import Kind
from greenthreads.profiling import Profile
from scheduler import observers

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(greenthreads.__file__).parent.parent), "PYTHONUTF8": "1"}


def run(tmp_path: Path, source: str, *command: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program by `python *command program.py`, with `text` on its standard input."""
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(source))
    return subprocess.run(
        [sys.executable, *command, str(program)],
        env=ENVIRONMENT,
        cwd=tmp_path,
        input=text,
        capture_output=True,
        encoding="utf-8",
        timeout=50,
        check=False,
    )


DEBUGGED = """
    from greenthreads import Thread, run_scheduler, yield_now

    log = []

    def other():
        for number in range(3):
            log.append(number)
            yield_now()

    def work(value):
        breakpoint()
        doubled = value * 2
        yield_now()
        doubled += 1
        return doubled

    def main():
        Thread(target=work, args=(21,), name="debugged").start()
        Thread(target=other, name="other").start()

    if __name__ == "__main__":
        run_scheduler(main)
        print("log", log)
"""


@pytest.mark.parametrize("command", [[], ["-m", "greenthreads"]], ids=["python", "run_scheduler"])
def test_breakpoint_stops_in_a_user_thread(tmp_path: Path, command: list[str]) -> None:
    """And steps over a switch: others run, and the debugger is back in the same thread, at the next line."""
    commands = "p 'value', value\nn\np 'before', doubled, log\nn\np 'after', doubled, log\nc\n"
    # Since Python 3.13 it stops at the breakpoint, before at the line after it.
    if sys.version_info >= (3, 13):
        commands = "n\n" + commands
    result = run(tmp_path, DEBUGGED, *command, text=commands)
    assert result.returncode == 0, result.stderr
    assert "('value', 21)" in result.stdout
    assert "('before', 42, [])" in result.stdout
    assert "('after', 42, [0])" in result.stdout
    assert "-> doubled += 1" in result.stdout
    assert "log [0, 1, 2]" in result.stdout


def test_a_post_mortem_sees_the_thread(tmp_path: Path) -> None:
    source = """
        import pdb, sys
        import greenthreads
        from greenthreads import Thread, run_scheduler

        def work(value):
            raise ValueError(value)

        greenthreads.excepthook = lambda args: pdb.post_mortem(args.exc_traceback)
        run_scheduler(lambda: Thread(target=work, args=(7,)).start())
    """
    result = run(tmp_path, source, text="p 'value', value\nq\n")
    assert "('value', 7)" in result.stdout


def test_coverage_sees_the_lines_of_user_threads(tmp_path: Path) -> None:
    pytest.importorskip("coverage", reason="coverage is not installed")
    source = """
        from greenthreads import Thread, run_scheduler, yield_now

        def first():
            a = 1
            yield_now()
            a += 1
            return a

        def second(flag=False):
            yield_now()
            if flag:
                return "never"
            return "always"

        def main():
            for target in (first, second):
                Thread(target=target).start()

        run_scheduler(main)
    """
    data = tmp_path / "data"
    options = ("--concurrency=greenlet", f"--data-file={data}", "--branch", "--include=program.py")
    result = run(tmp_path, source, "-m", "coverage", "run", *options)
    assert result.returncode == 0, result.stderr
    report = tmp_path / "report.json"
    subprocess.run(
        [sys.executable, "-m", "coverage", "json", f"--data-file={data}", "-o", str(report), "-q"],
        cwd=tmp_path,
        check=True,
        timeout=50,
    )
    (found,) = json.loads(report.read_text())["files"].values()
    assert found["missing_lines"] == [13]
    assert found["missing_branches"] == [[12, 13]]


def test_they_work_in_a_program_that_is_patched_before_they_are_imported(tmp_path: Path) -> None:
    source = """
        import greenthreads
        greenthreads.patch_all()
        import threading
        from greenthreads import flame, timeline, watch

        def main():
            watch.listen()
            recorder, sampler = timeline.Recorder(), flame.Sampler(0.001)
            recorder.start()
            sampler.start()
            before = greenthreads.active_count()
            thread = threading.Thread(target=lambda: None)
            thread.start()
            thread.join()
            while not sampler.stacks:
                greenthreads.yield_now()
            sampler.stop()
            recorder.stop()
            watch.close()
            # None of the helpers is a user thread.
            print(before, len(recorder.trace()["traceEvents"]) > 0)

        greenthreads.run_scheduler(main)
    """
    result = run(tmp_path, source)
    assert (result.stdout, result.stderr) == ("1 True\n", "")


# ---- cProfile --------------------------------------------------------------------------------------------------------


def calls(profile: Profile) -> dict[str, int]:
    """How often each function of this file was called."""
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    return {name: value[1] for (file, _line, name), value in stats.items() if file == __file__}


def helper_a() -> None:
    pass


def helper_b() -> None:
    pass


def test_each_thread_has_a_profile_of_its_own(kind: Kind, in_main: Callable[..., Any]) -> None:
    if kind == "kernel" and sys.version_info >= (3, 12):
        pytest.skip("since Python 3.12 cProfile serves one kernel thread at a time")
    profiles = {helper_a: Profile(), helper_b: Profile()}

    def work(helper: Callable[[], None], rounds: int) -> None:
        with profiles[helper]:
            for _ in range(rounds):
                helper()
                yield_now()
                helper()

    def main() -> None:
        threads = [Thread(target=work, args=(helper_a, 3)), Thread(target=work, args=(helper_b, 5))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    in_main(main)
    assert calls(profiles[helper_a]) == {"helper_a": 6}
    assert calls(profiles[helper_b]) == {"helper_b": 10}
    assert observers.active == []


def test_a_thread_without_a_profile_is_not_in_another_s() -> None:
    profile = Profile()

    def other() -> None:
        for _ in range(4):
            helper_b()
            yield_now()

    def work() -> int:
        helper_a()
        yield_now()
        helper_a()
        return 1

    def main() -> int:
        thread = Thread(target=other)
        thread.start()
        result = profile.runcall(work)
        thread.join()
        return result

    assert run_scheduler(main) == 1
    assert calls(profile)["helper_a"] == 2
    assert "helper_b" not in calls(profile)


def test_a_profile_ends_with_its_thread() -> None:
    profile = Profile()

    def work() -> None:
        profile.enable()
        with pytest.raises(ValueError, match="this thread is being profiled already"):
            Profile().enable()
        helper_a()

    def main() -> None:
        for target in (work, helper_b):
            thread = Thread(target=target)
            thread.start()
            thread.join()

    run_scheduler(main)
    assert calls(profile)["helper_a"] == 1
    assert "helper_b" not in calls(profile)
    assert observers.active == []
    assert sys.getprofile() is None


def test_outside_of_a_scheduler_it_is_cprofile() -> None:
    profile = Profile()
    with profile:
        helper_a()
    assert calls(profile) == {"helper_a": 1}


# ---- faulthandler and tracemalloc ------------------------------------------------------------------------------------


def test_faulthandler_shows_the_user_thread_that_runs() -> None:
    with tempfile.TemporaryFile("w+") as file:

        def inner() -> None:
            faulthandler.dump_traceback(file, all_threads=False)

        def outer() -> None:
            yield_now()
            inner()

        run_scheduler(lambda: Thread(target=outer).start())
        file.seek(0)
        lines = [line.rpartition(" in ")[2].strip() for line in file if "File" in line]
    # The stack is the user thread's alone, to its beginning.
    assert lines[:2] == ["inner", "outer"]
    assert lines[-1] == "_run_tasks"


def test_faulthandler_survives_a_crash_in_a_user_thread(tmp_path: Path) -> None:
    source = """
        import faulthandler
        from greenthreads import Thread, run_scheduler, yield_now
        faulthandler.enable()

        def crash():
            yield_now()
            faulthandler._sigabrt()

        run_scheduler(lambda: Thread(target=crash).start())
    """
    result = run(tmp_path, source)
    assert result.returncode != 0
    assert "Fatal Python error: Aborted" in result.stderr
    assert "in crash" in result.stderr


def test_tracemalloc_knows_where_user_threads_allocate() -> None:
    kept: list[bytearray] = []

    def allocate() -> None:
        kept.append(bytearray(300_000))

    def work() -> None:
        for _ in range(3):
            allocate()
            yield_now()

    def main() -> None:
        for _ in range(2):
            Thread(target=work).start()

    tracemalloc.start(8)
    try:
        run_scheduler(main)
        snapshot = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    here = [trace for trace in snapshot.statistics("traceback") if trace.traceback[-1].filename == __file__]
    largest = max(here, key=lambda trace: trace.size)
    assert largest.count >= 6
    assert largest.size >= 6 * 300_000
    lines = [frame.lineno for frame in largest.traceback]
    assert lines[-1] == allocate.__code__.co_firstlineno + 1
    assert lines[-2] == work.__code__.co_firstlineno + 2
