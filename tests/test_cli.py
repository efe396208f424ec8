"""The `run_scheduler` command, run as a program on real files and compared with what python does."""

from __future__ import annotations

import json
import os
import py_compile
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import textwrap
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

import greenthreads
from greenthreads import Event, SchedulerError, Thread, run_scheduler, yield_now
from scheduler import Deadlock, Scheduler

# Where the packages are, for a checkout that is not installed.
LIBRARY = str(Path(greenthreads.__file__).resolve().parents[1])
COMMAND = [sys.executable, "-m", "greenthreads"]
PYTHON = [sys.executable]
KINDS = ["user", "kernel"]

needs_signals = pytest.mark.skipif(os.name == "nt", reason="no POSIX signals")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no os.fork")


def environment() -> dict[str, str]:
    # Colour would be python's own choice, by version.
    path = os.pathsep.join([LIBRARY, os.environ["PYTHONPATH"]]) if os.environ.get("PYTHONPATH") else LIBRARY
    return {**os.environ, "PYTHONPATH": path, "PYTHONUTF8": "1", "NO_COLOR": "1", "COLUMNS": "100"}


def run(command: Sequence[str], *, cwd: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, env=environment(), input=stdin, capture_output=True, encoding="utf-8", timeout=50, check=False
    )


def write(folder: Path, name: str, source: str) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(source), encoding="utf-8")
    return name


def run_source(folder: Path, source: str, *options: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return run([*COMMAND, *options, write(folder, "program.py", source)], cwd=folder, stdin=stdin)


def output_of(folder: Path, source: str, *options: str) -> list[str]:
    """The lines that a program prints when all goes well."""
    result = run_source(folder, source, *options)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.splitlines()


def outcome(result: subprocess.CompletedProcess[str]) -> tuple[int, str, str]:
    return result.returncode, result.stdout, result.stderr


# ---- As python does --------------------------------------------------------------------------------------------------

PROBE = """\
    import json, sys

    def described():
        names = {name: repr(value) for name, value in globals().items() if name.startswith("__")}
        here = sys.modules["__main__"].__dict__ is globals()
        return {"names": names, "argv": sys.argv, "path": sys.path, "is __main__": here, "code": code()}

    def code():
        return sys._getframe().f_code.co_filename

    if __name__ == "__main__":
        print(json.dumps(described()))
"""


def probe(command: Sequence[str], cwd: Path, stdin: str = "") -> object:
    result = run(command, cwd=cwd, stdin=stdin)
    assert (result.returncode, result.stderr) == (0, "")
    return json.loads(re.sub(r"0x[0-9a-f]+", "0x", result.stdout))


@pytest.mark.parametrize(
    "words",
    [
        ["probe.py", "a", "--stats"],
        ["./probe.py"],
        ["sub/../probe.py", "-m", "x"],
        ["sub/link.py"],
        ["{cwd}/probe.py"],
        ["probe.pyc", "b"],
        ["folder", "c"],
        ["program.zip", "d"],
        ["-m", "probe", "-c", "e"],
        ["-mprobe", "--kind", "kernel"],
        ["-m", "package"],
        ["-m", "package.module", "f"],
        ["--", "probe.py", "g", "--", "h"],
        ["--", "-m", "package"],
    ],
    ids=" ".join,
)
def test_a_program_finds_what_python_would_give_it(words: list[str], tmp_path: Path) -> None:
    for script in ("probe.py", "-m"):
        write(tmp_path, script, PROBE)
    write(tmp_path, "folder/__main__.py", PROBE)
    write(tmp_path, "package/__init__.py", "")
    write(tmp_path, "package/__main__.py", PROBE)
    write(tmp_path, "package/module.py", PROBE)
    py_compile.compile(str(tmp_path / "probe.py"), str(tmp_path / "probe.pyc"))
    with zipfile.ZipFile(tmp_path / "program.zip", "w") as archive:
        archive.write(tmp_path / "probe.py", "__main__.py")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "link.py").symlink_to(tmp_path / "probe.py")
    words = [word.format(cwd=tmp_path) for word in words]
    assert probe([*COMMAND, *words], tmp_path) == probe([*PYTHON, *words], tmp_path)


@pytest.mark.parametrize("words", [["-c", textwrap.dedent(PROBE), "a"], ["-c" + textwrap.dedent(PROBE)]])
def test_code_finds_what_python_would_give_it(words: list[str], tmp_path: Path) -> None:
    assert probe([*COMMAND, *words], tmp_path) == probe([*PYTHON, *words], tmp_path)


def test_a_program_from_standard_input_finds_what_python_would_give_it(tmp_path: Path) -> None:
    source = textwrap.dedent(PROBE)
    assert probe([*COMMAND, "-", "a"], tmp_path, source) == probe([*PYTHON, "-", "a"], tmp_path, source)


@pytest.mark.parametrize(
    "source",
    [
        "import sys; sys.exit()",
        "import sys; sys.exit(3)",
        "import sys; sys.exit(-1)",
        "import sys; sys.exit(256 + 7)",
        "import sys; sys.exit(True)",
        "import sys; sys.exit('a message')",
        "import sys; sys.exit(['no', 'string'])",
        "import os; os._exit(9)",
        "exit(5)",
        "class Stop(SystemExit): pass\nraise Stop(6)",
        "def f():\n    1 / 0\n\ntry:\n    f()\nfinally:\n    print('finally')",
        "try:\n    {}['key']\nexcept KeyError:\n    raise ValueError('in turn')",
        "x = = 1",
        "import nowhere_to_be_found",
        "import sys\nsys.excepthook = lambda kind, exc, tb: print('hook', kind, exc, tb.tb_lineno)\n1 / 0",
        "import sys\nsys.excepthook = lambda kind, exc, tb: sys.exit(8)\n1 / 0",
        "import sys\nsys.excepthook = lambda kind, exc, tb: {}['in the hook']\n1 / 0",
        "import atexit, sys\natexit.register(lambda: print(type(sys.last_value)))\n1 / 0",
        "raise KeyboardInterrupt",
        "class Mine(KeyboardInterrupt): pass\nraise Mine",
        "from __future__ import annotations\ndef f(x: nowhere): pass\nprint(f.__annotations__)",
        "def f(x: print('evaluated')): pass",
        "import sys; print(sys.stdin.read())",
        "import inspect\ndef f(): return 1\nprint(inspect.getsource(f))",
        "import pickle\nclass C: pass\nprint(type(pickle.loads(pickle.dumps(C()))) is C)",
    ],
)
@pytest.mark.parametrize("form", ["script", "-m", "-c"])
def test_a_program_ends_as_under_python(source: str, form: str, tmp_path: Path) -> None:
    script = write(tmp_path, "program.py", source)
    words = {"script": [script, "x"], "-m": ["-m", "program"], "-c": ["-c", source]}[form]
    result = run([*COMMAND, *words], cwd=tmp_path, stdin="input")
    expected = run([*PYTHON, *words], cwd=tmp_path, stdin="input")
    assert outcome(result) == outcome(expected)


@needs_signals
def test_a_keyboard_interrupt_ends_the_process_by_its_signal(tmp_path: Path) -> None:
    result = run_source(tmp_path, "raise KeyboardInterrupt")
    assert result.returncode == -signal.SIGINT
    assert result.stderr.splitlines()[-1] == "KeyboardInterrupt"


@pytest.mark.parametrize("words", [["-m", "nowhere"], ["-m", "empty"], ["empty"], ["-m", "empty.nowhere"]])
def test_a_module_that_is_not_there(words: list[str], tmp_path: Path) -> None:
    write(tmp_path, "empty/__init__.py", "")
    result, expected = (run([*command, *words], cwd=tmp_path) for command in (COMMAND, PYTHON))
    assert outcome(result) == outcome(expected)
    assert result.returncode == 1


def test_a_script_that_is_not_there(tmp_path: Path) -> None:
    result, expected = (run([*command, "nowhere.py", "x"], cwd=tmp_path) for command in (COMMAND, PYTHON))
    file = os.path.join(tmp_path, "nowhere.py")
    assert result.stderr == f"run_scheduler: can't open file {file!r}: [Errno 2] No such file or directory\n"
    assert (result.returncode, result.stdout) == (expected.returncode, expected.stdout) == (2, "")
    assert result.stderr.partition(": ")[2] == expected.stderr.partition(": ")[2]


# ---- Its own options -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "which program? Give a SCRIPT, -m MODULE or -c CODE"),
        (["--stats"], "which program? Give a SCRIPT, -m MODULE or -c CODE"),
        (["--stats", "--"], "which program? Give a SCRIPT, -m MODULE or -c CODE"),
        (["-m"], "argument -m: expected one argument"),
        (["--stats", "-c"], "argument -c: expected one argument"),
        (["--kind", "green", "x.py"], "argument --kind: invalid choice: 'green' (choose from"),
        (["--stat", "x.py"], "unrecognized arguments: --stat"),
    ],
)
def test_wrong_usage(words: list[str], message: str, tmp_path: Path) -> None:
    result = run([*COMMAND, *words], cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    usage, error = result.stderr.splitlines()[0], result.stderr.splitlines()[-1]
    assert usage == "usage: run_scheduler [options] SCRIPT [args ...]"
    assert error.startswith(f"run_scheduler: error: {message}")


def test_help_and_version(tmp_path: Path) -> None:
    for word in ("-h", "--help"):
        result = run([*COMMAND, word, "x.py"], cwd=tmp_path)
        assert (result.returncode, result.stderr) == (0, "")
        for option in ("--kind {user,kernel}", "--stats", "--no-patch", "-V, --version", "-m MODULE", "-c CODE"):
            assert option in result.stdout
    for word in ("-V", "--version"):
        result = run([*COMMAND, word, "x.py"], cwd=tmp_path)
        assert outcome(result) == (0, f"greenthreads {greenthreads.__version__}\n", "")


def test_what_follows_the_program_is_the_programs(tmp_path: Path) -> None:
    words = ["--stats", "--kind", "kernel", "-m", "x", "--", "--help", "--version"]
    code = "import sys; print(*sys.argv[1:])"
    for options in ([], ["--kind", "kernel"], ["--kind=kernel", "--no-patch"]):
        result = run([*COMMAND, *options, "-c", code, *words], cwd=tmp_path)
        assert outcome(result) == (0, " ".join(words) + "\n", "")
        result = run([*COMMAND, *options, write(tmp_path, "program.py", code), *words], cwd=tmp_path)
        assert outcome(result) == (0, " ".join(words) + "\n", "")


def test_the_installed_command_is_the_same(tmp_path: Path) -> None:
    command = shutil.which("run_scheduler", path=sysconfig.get_path("scripts"))
    if command is None:
        pytest.skip("greenthreads is importable but not installed: pip install -e '.[test]'")
    write(tmp_path, "probe.py", PROBE)
    assert probe([command, "probe.py", "a"], tmp_path) == probe([*PYTHON, "probe.py", "a"], tmp_path)
    result = run([command, "-c", "raise KeyboardInterrupt"], cwd=tmp_path)
    assert outcome(result) == outcome(run([*PYTHON, "-c", "raise KeyboardInterrupt"], cwd=tmp_path))


# ---- Threads ---------------------------------------------------------------------------------------------------------

WORKERS = """\
    from greenthreads import Queue, Thread, current_thread, default_kind, main_thread

    def work(number):
        results.put((number, current_thread().kind))

    results = Queue()
    threads = [Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(sorted(results.get() for _ in threads))
    print(default_kind(), current_thread() is main_thread())
"""


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_program_runs_on_both_kinds(kind: str, tmp_path: Path) -> None:
    expected = [str([(n, kind) for n in range(3)]), f"{kind} True"]
    assert output_of(tmp_path, WORKERS, "--kind", kind) == expected


def test_the_program_is_the_main_user_thread(tmp_path: Path) -> None:
    source = """\
        from greenthreads import Thread, current_thread, yield_now

        print(current_thread().name, current_thread().kind)
        for name in "ab":
            Thread(target=lambda: print(current_thread().name), name=name).start()
        print("main goes on")
        yield_now()
        print("main again")
    """
    assert output_of(tmp_path, source) == ["MainThread user", "main goes on", "a", "b", "main again"]


UNMODIFIED = """\
    import sys, threading, time
    from concurrent.futures import ThreadPoolExecutor
    from queue import Queue

    def work(number):
        time.sleep(0.001 * number)
        found.put((number, getattr(threading.current_thread(), "kind", "standard"), here()))

    def here():
        return "greenlet" in type(sys.modules["greenlet"].getcurrent()).__bases__[0].__name__

    found = Queue()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for line in sorted(found.get() for _ in threads):
        print(*line)
    with ThreadPoolExecutor(2) as pool:
        pool.submit(work, 3).result()
    print(*found.get())
"""


@pytest.mark.parametrize(
    ("options", "kind"), [([], "user"), (["--no-patch"], "standard"), (["--kind", "kernel"], "standard")]
)
def test_an_unmodified_program_runs_on_user_threads(options: list[str], kind: str, tmp_path: Path) -> None:
    expected = [f"{number} {kind} {kind == 'user'}" for number in range(4)]
    assert output_of(tmp_path, UNMODIFIED, *options) == expected


@pytest.mark.parametrize("options", [[], ["--no-patch"]])
@pytest.mark.parametrize("first", ["pass", "import concurrent.futures.thread", "import concurrent.futures"])
def test_a_patched_program_may_use_our_executor_too(options: list[str], first: str, tmp_path: Path) -> None:
    source = f"""\
        {first}
        from greenthreads import ThreadPoolExecutor
        import concurrent.futures

        print(ThreadPoolExecutor is concurrent.futures.ThreadPoolExecutor)
        with ThreadPoolExecutor(2) as pool:
            print(pool.submit(pow, 2, 10).result())
    """
    assert output_of(tmp_path, source, *options) == [str(not options), "1024"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("library", ["greenthreads", "threading"])
@pytest.mark.parametrize("patch", [[], ["--no-patch"]], ids=["patched", "not patched"])
def test_the_end_comes_in_pythons_order(kind: str, library: str, patch: list[str], tmp_path: Path) -> None:
    """Non-daemon threads, then `atexit`, while the daemons still run; what atexit waits for, they may do."""
    imports = "from greenthreads import Thread, Queue"
    if library == "threading":
        imports = "from threading import Thread\nfrom queue import Queue"
    source = f"""\
import atexit, sys, time
{imports}

def serve():
    while True:
        print(orders.get())
        orders.task_done()

def work():
    go_on.get()
    orders.put("ordered by a thread")
    orders.join()
    Thread(target=print, args=("started late",)).start()

def at_exit():
    orders.put("ordered at exit")
    orders.join()

orders, go_on = Queue(), Queue()
atexit.register(at_exit)
Thread(target=serve, daemon=True).start()
Thread(target=work).start()
print("main ends")
go_on.put(None)
sys.exit(4)
"""
    result = run_source(tmp_path, source, "--kind", kind, *patch)
    lines = ["main ends", "ordered by a thread", "started late", "ordered at exit"]
    assert (result.returncode, result.stdout.splitlines(), result.stderr) == (4, lines, "")


def test_daemons_are_unwound_at_the_end(tmp_path: Path) -> None:
    source = """\
        from greenthreads import Event, Thread, yield_now

        def wait():
            try:
                Event().wait()
            finally:
                print("unwound")

        Thread(target=wait, daemon=True).start()
        yield_now()
        print("main ends")
    """
    assert output_of(tmp_path, source) == ["main ends", "unwound"]


def test_a_pool_that_nobody_shut_down_does_not_hold_up_the_end(tmp_path: Path) -> None:
    source = """\
        from concurrent.futures import ThreadPoolExecutor

        pool = ThreadPoolExecutor(2)
        print(pool.submit(pow, 2, 10).result())
        pool.submit(print, "done before the end")
    """
    assert output_of(tmp_path, source) == ["1024", "done before the end"]


def test_a_traceback_comes_before_the_threads_go_on(tmp_path: Path) -> None:
    source = """\
        from greenthreads import Event, Thread
        import sys

        Thread(target=lambda: print("a thread ends", file=sys.stderr)).start()
        1 / 0
    """
    result = run_source(tmp_path, source)
    lines = result.stderr.splitlines()
    assert (result.returncode, lines[0], lines[-2:]) == (
        1,
        "Traceback (most recent call last):",
        ["ZeroDivisionError: division by zero", "a thread ends"],
    )
    assert "greenthreads" not in result.stderr


def test_an_exception_in_another_thread_leaves_the_status_alone(tmp_path: Path) -> None:
    result = run_source(tmp_path, "from greenthreads import Thread\nThread(target=lambda: 1 / 0, name='T').start()")
    assert result.returncode == 0
    assert result.stderr.startswith("Exception in thread T:\nTraceback (most recent call last):\n")
    assert result.stderr.endswith("ZeroDivisionError: division by zero\n")


DEADLOCK = """\
    from greenthreads import Event, Thread

    def wait():
        never.wait()

    never = Event()
    Thread(target=wait, name="T").start()
    {last}
"""


def test_a_deadlock_is_an_uncaught_exception(tmp_path: Path) -> None:
    result = run_source(tmp_path, DEADLOCK.format(last="never.wait()"))
    lines = result.stderr.splitlines()
    file = tmp_path / "program.py"
    assert (result.returncode, result.stdout) == (1, "")
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1:3] == [f'  File "{file}", line 8, in <module>', "    never.wait()"]
    assert result.stderr.count("Deadlock") == 1
    assert lines[-3:] == [
        "scheduler.errors.Deadlock: 2 threads wait and nothing can wake any of them",
        f"  'MainThread'  waits for Event E1  {file}:8 in <module>",
        f"  'T'           waits for Event E1  {file}:4 in wait",
    ]


def test_a_deadlock_after_the_programs_end_is_one_too(tmp_path: Path) -> None:
    source = DEADLOCK.format(last="import atexit; atexit.register(print, 'at exit')")
    result = run_source(tmp_path, source)
    assert (result.returncode, result.stdout) == (1, "at exit\n")
    lines = result.stderr.splitlines()
    assert lines[0] == "scheduler.errors.Deadlock: 2 threads wait and nothing can wake any of them"
    assert lines[1].startswith("  'MainThread'  waits for the end of 'T'  ")
    assert re.sub("  +", "  ", lines[2]) == f"  'T'  waits for Event E1  {tmp_path / 'program.py'}:4 in wait"
    assert lines[3:] == []


INTERRUPTED = """\
    import sys
    from greenthreads import Thread, sleep, yield_now

    def work():
        try:
            print("a thread waits", flush=True)
            while not hasattr(sys, "last_value"):
                yield_now()
            print("main has ended", flush=True)
            sleep(1000)
        finally:
            print("unwound")

    Thread(target=work{daemon}).start()
    try:
        sleep(1000)
    finally:
        print("main ends", flush=True)
"""
# The thread sees what is set when the traceback is printed, and runs only when the main thread has come to wait for it.


def interrupt_at(folder: Path, source: str, *cues: str) -> tuple[int, list[str], list[str]]:
    """Run a program, send SIGINT whenever the next cue is printed; status, what it printed, and errors."""
    command = [*COMMAND, write(folder, "program.py", source)]
    with subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    ) as process:
        try:
            assert process.stdout is not None
            printed = []
            for cue in cues:
                while not printed or printed[-1] != cue:
                    printed.append(process.stdout.readline().strip())
                    assert printed[-1]
                process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=40)
        finally:
            process.kill()
    return process.returncode, printed + output.splitlines(), errors.splitlines()


@needs_signals
def test_ctrl_c_ends_the_program_by_its_signal(tmp_path: Path) -> None:
    status, output, errors = interrupt_at(tmp_path, INTERRUPTED.format(daemon=", daemon=True"), "a thread waits")
    # The daemon may see the end of the main thread before it is itself unwound.
    output = [line for line in output if line != "main has ended"]
    assert (status, output) == (-signal.SIGINT, ["a thread waits", "main ends", "unwound"])
    assert errors[0] == "Traceback (most recent call last):"
    assert errors[-1] == "KeyboardInterrupt"


@needs_signals
def test_a_second_ctrl_c_ends_the_wait_for_the_other_threads(tmp_path: Path) -> None:
    status, output, errors = interrupt_at(tmp_path, INTERRUPTED.format(daemon=""), "a thread waits", "main has ended")
    assert (status, output) == (-signal.SIGINT, ["a thread waits", "main ends", "main has ended", "unwound"])
    assert errors.count("KeyboardInterrupt") == 2


@needs_fork
def test_a_fork_of_the_program_is_a_program(tmp_path: Path) -> None:
    source = """\
        import atexit, os, sys
        from greenthreads import Event, Thread, run_scheduler, yield_now

        def work():
            print("a thread runs", flush=True)
            never.wait()

        never = Event()
        Thread(target=work, daemon=True).start()
        yield_now()
        child = os.fork()
        if child == 0:
            atexit.register(print, "the child's end")
            thread = Thread(target=print, args=("a thread of the child",))
            run_scheduler(thread.start)
            sys.exit(3)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    result = run_source(tmp_path, source, "--stats")
    assert result.returncode == 0
    assert result.stdout.splitlines() == ["a thread runs", "a thread of the child", "the child's end", "3"]
    assert result.stderr.count("threads, at most") == 1


# ---- --stats ---------------------------------------------------------------------------------------------------------


def stats_of(folder: Path, source: str, *options: str) -> dict[str, list[str]]:
    """The table as a dict: label -> the words that follow."""
    result = run_source(folder, source, "--stats", *options)
    assert result.returncode == 0
    lines = result.stderr.splitlines()[-7:]
    assert [line[:16].rstrip() for line in lines] == [
        "run_scheduler",
        "threads, at most",
        "spawns",
        "switches",
        "longest run",
        "wall time",
        "CPU time",
    ]
    return {line[:16].rstrip(): line[16:].split() for line in lines}


BUSY = """\
    import time
    from greenthreads import Thread, sleep, yield_now

    def take_turns():
        for _ in range(5):
            yield_now()

    def compute():
        end = time.perf_counter() + 0.2
        while time.perf_counter() < end:
            pass

    for _ in range(4):
        threads = [Thread(target=take_turns) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    hog = Thread(target=compute, name="the hog")
    hog.start()
    hog.join()
"""


def test_stats_count_user_threads_and_find_the_longest_run(tmp_path: Path) -> None:
    table = stats_of(tmp_path, BUSY)
    assert table["run_scheduler"] == ["user", "kernel"]
    assert table["threads, at most"] == ["4", "0"]
    assert table["spawns"] == ["13", "0"]
    # Twelve threads that run six times each (the last of them alone, when a yield is no switch, now and then); the
    # hog once; the main thread between them, up to thrice for each three.
    assert 60 <= int(table["switches"][0]) <= 100
    milliseconds, unit, *where = table["longest run"]
    assert (unit, where) == ("ms", ["in", "'the", "hog'"])
    assert float(milliseconds.replace(",", "")) >= 200
    assert float(table["wall time"][0]) >= 0.2
    assert float(table["CPU time"][0]) > 0
    assert table["wall time"][1:] == table["CPU time"][1:] == ["s"]


def test_stats_count_kernel_threads(tmp_path: Path) -> None:
    table = stats_of(tmp_path, BUSY, "--kind", "kernel")
    user, kernel = map(int, table["threads, at most"])
    assert (user, 1 <= kernel <= 3) == (1, True)
    assert table["spawns"] == ["0", "13"]
    # The hog is a kernel thread: the system switches it, and nobody waits for it to do so.
    assert "hog" not in " ".join(table["longest run"])


def test_stats_count_every_run_of_a_thread(tmp_path: Path) -> None:
    source = """\
        from greenthreads import Thread, yield_now

        def take_turns():
            for _ in range({turns}):
                yield_now()

        for _ in range(2):
            Thread(target=take_turns).start()
    """
    few = stats_of(tmp_path, textwrap.dedent(source.format(turns=10)))
    many = stats_of(tmp_path, textwrap.dedent(source.format(turns=510)))
    assert int(many["switches"][0].replace(",", "")) - int(few["switches"][0]) == 2 * 500


def test_stats_come_last_and_whatever_the_end(tmp_path: Path) -> None:
    source = "import atexit, sys\natexit.register(lambda: print('at exit', file=sys.stderr))\nsys.exit('message')"
    result = run_source(tmp_path, source, "--stats")
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert lines[:2] == ["message", "at exit"]
    assert lines[2].split() == ["run_scheduler", "user", "kernel"]
    result = run_source(tmp_path, "1 / 0", "--stats")
    assert "ZeroDivisionError: division by zero\nrun_scheduler " in result.stderr


def test_without_stats_nobody_observes(tmp_path: Path) -> None:
    source = "from scheduler import observers, continuation\nprint(observers.active, continuation.has_switch_hook())"
    assert output_of(tmp_path, source) == ["[] False"]


# ---- A program that calls run_scheduler itself -----------------------------------------------------------------------

NESTED = """\
    import sys
    from greenthreads import Event, Thread, current_thread, run_scheduler, yield_now

    def daemon():
        try:
            Event().wait()
        finally:
            print("daemon unwound")

    def work():
        yield_now()
        print("worker ends")

    def main(text):
        Thread(target=daemon, daemon=True).start()
        Thread(target=work).start()
        print(text, current_thread().name)
        yield_now()
        return "result"

    for text in ("first", "second"):
        print(run_scheduler(main, text))
    run_scheduler(sys.exit, 3)
"""


def test_a_program_may_call_run_scheduler_itself(tmp_path: Path) -> None:
    script = write(tmp_path, "nested.py", NESTED)
    result, expected = (run([*command, script], cwd=tmp_path) for command in (COMMAND, PYTHON))
    assert outcome(result) == outcome(expected)
    assert result.stdout.splitlines()[:4] == ["first MainThread", "worker ends", "daemon unwound", "result"]
    assert result.returncode == 3


@pytest.mark.parametrize("patch", [[], ["--no-patch"]], ids=["patched", "not patched"])
def test_in_place_a_pool_that_nobody_shut_down_does_not_hold_up_the_end(patch: list[str], tmp_path: Path) -> None:
    source = """\
        from greenthreads import ThreadPoolExecutor, run_scheduler

        def main():
            pools.append(ThreadPoolExecutor(2))
            print(pools[1].submit(pow, 2, 10).result())

        pools = [ThreadPoolExecutor(2)]
        print(pools[0].submit(pow, 2, 3).result())
        run_scheduler(main)
        print(pools[0].submit(pow, 2, 4).result())
    """
    assert output_of(tmp_path, source, *patch) == ["8", "1024", "16"]


def run_ambient(main: object) -> object:
    ambient = Scheduler()
    ambient.ambient = True
    return ambient.run(main)  # type: ignore[arg-type]


def test_in_an_ambient_scheduler_run_scheduler_runs_in_place() -> None:
    record: list[object] = []

    def program() -> None:
        old = Thread(target=lambda: (release.wait(), record.append("old thread")))
        old.start()
        Thread(target=unwound, args=("old daemon",), daemon=True).start()
        assert run_scheduler(inner, 1, key=2) == (1, 2)
        record.append("back")
        release.set()
        old.join()

    def inner(value: int, key: int) -> tuple[int, int]:
        Thread(target=unwound, args=("new daemon",), daemon=True).start()
        Thread(target=lambda: (yield_now(), record.append("new thread"))).start()
        yield_now()
        return value, key

    def unwound(name: str) -> None:
        try:
            Event().wait()
        finally:
            record.append(name)

    release = Event()
    run_ambient(program)
    assert record == ["new thread", "new daemon", "back", "old thread", "old daemon"]


def test_in_place_an_exception_comes_after_the_threads_have_ended() -> None:
    record: list[object] = []

    def fail() -> None:
        Thread(target=lambda: (yield_now(), record.append("thread"))).start()
        raise ValueError("of main")

    def program() -> None:
        with pytest.raises(ValueError, match="of main"):
            run_scheduler(fail)
        record.append("main")

    run_ambient(program)
    assert record == ["thread", "main"]


def test_in_place_a_deadlock_ends_the_threads_that_it_holds() -> None:
    record: list[object] = []

    def wait() -> None:
        try:
            Event().wait()
        finally:
            record.append("unwound")

    def program() -> None:
        with pytest.raises(Deadlock, match="'T'"):
            run_scheduler(Thread(target=wait, name="T").start)
        record.append("main")
        assert run_scheduler(lambda: "again") == "again"

    run_ambient(program)
    assert record == ["unwound", "main"]


def test_nesting_is_an_error_everywhere_else() -> None:
    record: list[object] = []

    def nest() -> None:
        with pytest.raises(SchedulerError, match=r"run_scheduler\(\) is running on this kernel thread already"):
            run_scheduler(print)
        record.append("refused")

    def program() -> None:
        thread = Thread(target=nest)
        thread.start()
        thread.join()
        run_scheduler(nest)
        assert run_scheduler(lambda: "not inside") == "not inside"

    run_scheduler(nest)
    run_ambient(program)
    assert record == ["refused"] * 3
