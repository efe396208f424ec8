"""The `run_scheduler` command: runs a program as the main user thread of a scheduler.

For the program it is as if python itself ran it: `sys.argv`, `sys.path[0]`, `__main__` and what it holds, what is
printed when an exception leaves it, the exit status. So this file follows what the interpreter does (Modules/main.c,
Lib/runpy.py, Lib/threading.py), and the tests compare the two.

**The interpreter's end is ours too.** It awaits threads, then calls what `atexit` was given, while daemons still run:
a handler may join a queue that a daemon serves. All of that happens here in the main user thread, before the scheduler
ends; after it, user threads could not run any more. See `_end`.

The scheduler is *ambient*: a program that calls `run_scheduler` itself has it run in place (scheduler/functions.py).
"""

from __future__ import annotations

import argparse
import atexit
import builtins
import importlib.machinery
import io
import linecache
import os
import pkgutil
import runpy
import sys
import threading
import types
from _thread import get_ident
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import greenthreads
from greenthreads import watch
from greenthreads._stats import Stats
from greenthreads.carriers import kernel_threads, set_default_kind
from greenthreads.flame import Sampler
from greenthreads.kernelpool import run_in_kernel_thread
from greenthreads.timeline import Recorder
from scheduler import Deadlock, Policy, Scheduler, Steps, TaskExit, observers
from scheduler.frames import traceback_of_the_program
from scheduler.policies import Priorities, WeightedFair

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["main"]

_USAGE = """run_scheduler [options] SCRIPT [args ...]
       run_scheduler [options] -m MODULE [args ...]
       run_scheduler [options] -c CODE [args ...]
       run_scheduler --attach PID"""

# Version differences of the interpreter's own: a subclass of KeyboardInterrupt ends the process by SIGINT, too; modules
# have no `__cached__`.
_SUBCLASSES = sys.version_info >= (3, 14)
_CACHED: dict[str, None] = {} if sys.version_info >= (3, 15) else {"__cached__": None}

# The standard function as it was when this module was imported: the program may be patched.
_standard_threads = threading.enumerate


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (default: `sys.argv[1:]`); return the exit status. Raises KeyboardInterrupt, when
    the program ended by it, so that the process dies by SIGINT as it does under python.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    at = _start_of_program(words)
    parser = _parser()
    options = parser.parse_args(words[:at])
    if options.attach is not None or options.top:
        return _watch(options.attach, [word for word in words[:at] if word != "--top"] + words[at:])
    program = _program(words[at:], parser)
    set_default_kind(options.kind)
    if options.watchable:
        try:
            watch.listen()
        except OSError as error:
            _print_last(f"run_scheduler: this process can't be watched: {error}")
            return 1
    if options.dump:
        greenthreads.dump_on_signal()
    if options.patch and options.kind == "user":
        _patch()
    stats = Stats() if options.stats else None
    if stats is not None:
        observers.subscribe(stats)

    outputs: dict[str, Recorder | Sampler] = {}
    # Where the command was given: the program may go elsewhere.
    if options.trace:
        outputs[os.path.abspath(options.trace)] = Recorder()
    if options.flame:
        outputs[os.path.abspath(options.flame)] = Sampler()
    for output in outputs.values():
        output.start()

    process = os.getpid()
    outcome = _Outcome()
    _run(program, outcome, Scheduler(timeslice=options.timeslice, policy=_POLICIES[options.policy]()))
    watch.close()
    # A fork of the program ends here as well.
    if os.getpid() == process:
        for path, output in outputs.items():
            output.stop()
            _write(output, path)
    if stats is not None and os.getpid() == process:
        _print_last(stats.table())
    if outcome.interrupted:
        sys.excepthook = _be_silent_once
        raise KeyboardInterrupt
    return outcome.status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run_scheduler",
        usage=_USAGE,
        description="Run a program as the main user thread of a scheduler, round robin with the threads it starts.",
        epilog="SCRIPT is a file, a folder or zip file with a __main__.py, or - for standard input. What follows "
        "SCRIPT, MODULE or CODE is the program's. Its exit status is passed on.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--kind", choices=("user", "kernel"), default="user", help="what a Thread is unless it says so (default: user)"
    )
    parser.add_argument(
        "--policy", choices=_POLICIES, default="round-robin", help="who runs next (default: round-robin)"
    )
    parser.add_argument(
        "--timeslice",
        type=_seconds,
        metavar="SECONDS",
        help="switch out a thread that has computed for so long (default: only where it yields or waits)",
    )
    parser.add_argument(
        "--steps",
        type=_steps,
        metavar="COUNT",
        dest="timeslice",
        help="the same, after so many loop iterations and calls",
    )
    parser.add_argument(
        "--dump", action="store_true", help="say on stderr what all threads are doing at each SIGQUIT (Ctrl-\\)"
    )
    parser.add_argument("--trace", metavar="FILE", help="write who ran when, in the Chrome trace event format")
    parser.add_argument("--flame", metavar="FILE", help="write where the time went, as folded stacks")
    parser.add_argument("--top", action="store_true", help="show live what the threads do, and the output below")
    parser.add_argument("--watchable", action="store_true", help="let run_scheduler --attach PID show that")
    parser.add_argument("--attach", metavar="PID", type=int, help="show it of a program that was started so")
    parser.add_argument("--stats", action="store_true", help="end with a table of what the threads did, on stderr")
    parser.add_argument(
        "--no-patch", dest="patch", action="store_false", help="leave threading and other standard modules as they are"
    )
    parser.add_argument("-V", "--version", action="version", version=f"greenthreads {greenthreads.__version__}")
    return parser


def _watch(process: int | None, words: list[str]) -> int:
    from greenthreads import top

    return top.run(words) if process is None else top.attach(process)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number of seconds, not {text!r}")
    return seconds


def _steps(text: str) -> Steps:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"must be a positive number, not {text!r}")
    return Steps(int(text))


_POLICIES: dict[str, Callable[[], Policy | None]] = {
    "round-robin": lambda: None,
    "priorities": Priorities,
    "fair": WeightedFair,
}

# Options that are followed by a value.
_VALUED = ("--kind", "--policy", "--timeslice", "--steps", "--trace", "--flame", "--attach")


def _start_of_program(words: Sequence[str]) -> int:
    """How many of `words` are our own options: those before SCRIPT, -m, -c or --."""
    at = 0
    while at < len(words):
        word = words[at]
        if word in ("-", "--") or not word.startswith("-") or word.startswith(("-m", "-c")):
            break
        at += 2 if word in _VALUED else 1
    return at


def _patch() -> None:
    """Put this library in the place of the standard modules, so that an unmodified program runs on user threads."""
    greenthreads.patch_all()


# ---- The program, as python would set it up --------------------------------------------------------------------------


class _Program(NamedTuple):
    """A program to run in a fresh `__main__`."""

    argv: list[str]
    # What goes in front of sys.path.
    path0: str
    run: Callable[[types.ModuleType], None]


def _program(words: list[str], parser: argparse.ArgumentParser) -> _Program:
    # As for python: what follows is a SCRIPT, whatever it looks like.
    must_be_script = words[:1] == ["--"]
    words = words[must_be_script:]
    if not words:
        parser.error("which program? Give a SCRIPT, -m MODULE or -c CODE")
    first, rest = words[0], words[1:]
    if first[:2] in ("-m", "-c") and not must_be_script:
        text = first[2:]
        if not text:
            if not rest:
                parser.error(f"argument {first}: expected one argument")
            text = rest.pop(0)
        if first[:2] == "-m":
            return _Program(["-m", *rest], os.getcwd(), lambda _module: _run_module(text, alter_argv=True))
        return _Program(["-c", *rest], "", lambda module: _run_string(text, module))
    if first == "-":
        return _Program(words, "", _run_stdin)
    if pkgutil.get_importer(first) is not None:
        return _Program(words, _absolute(first), lambda _module: _run_module("__main__", alter_argv=False))
    return _Program(words, os.path.dirname(os.path.realpath(first)), lambda module: _run_script(first, module))


def _absolute(path: str) -> str:
    """`path` as python makes it absolute: not normalised."""
    return os.path.join(os.getcwd(), path)


def _fresh_main() -> types.ModuleType:
    module = types.ModuleType("__main__")
    module.__dict__.update(__builtins__=builtins, __loader__=importlib.machinery.BuiltinImporter)
    if sys.version_info < (3, 14):
        module.__annotations__ = {}
    return module


def _run_module(name: str, *, alter_argv: bool) -> None:
    # What `python -m` itself calls: in the namespace of the present __main__, with its errors and their texts.
    runpy._run_module_as_main(name, alter_argv)  # type: ignore[attr-defined]


def _run_source(source: bytes, file: str, module: types.ModuleType) -> None:
    exec(compile(source, file, "exec", dont_inherit=True), module.__dict__)


def _run_string(source: str, module: types.ModuleType) -> None:
    code = compile(source, "<string>", "exec", dont_inherit=True)
    if sys.version_info >= (3, 13):
        # Since then tracebacks show the lines.
        linecache.cache["<string>"] = (len(source), None, source.splitlines(keepends=True), "<string>")
    exec(code, module.__dict__)


def _run_stdin(module: types.ModuleType) -> None:
    module.__dict__.update(__file__="<stdin>", **_CACHED)
    _run_source(sys.stdin.buffer.read(), "<stdin>", module)


def _run_script(path: str, module: types.ModuleType) -> None:
    path = _absolute(path)
    try:
        with io.open_code(path) as file:
            compiled = pkgutil.read_code(file)
            file.seek(0)
            source = file.read()
    except OSError as error:
        print(f"run_scheduler: can't open file {path!r}: [Errno {error.errno}] {error.strerror}", file=sys.stderr)
        sys.exit(2)
    loaders = importlib.machinery
    loader = (loaders.SourceFileLoader if compiled is None else loaders.SourcelessFileLoader)("__main__", path)
    module.__dict__.update(__file__=path, __loader__=loader, **_CACHED)
    if compiled is None:
        _run_source(source, path, module)
    else:
        exec(compiled, module.__dict__)


# ---- The run ---------------------------------------------------------------------------------------------------------


class _Outcome:
    """How the program ends: with what status, or by Ctrl-C."""

    def __init__(self) -> None:
        self.status = 0
        self.interrupted = False
        self.deadlocked = False

    def of(self, part: Callable[[], object]) -> bool:
        """Call `part`. What leaves it is reported as python reports it, and kept; False if anything did."""
        try:
            part()
            return True
        except TaskExit:
            # The engine failed, and says so itself.
            raise
        except SystemExit as exc:
            self.status = _status(exc)
            return False
        except BaseException as exc:
            left = exc
        if isinstance(left, Deadlock):
            if self.deadlocked:
                return False  # The same again: reported when the main thread died of it.
            self.deadlocked = True
        # Not above, where a hook that fails would seem to fail in the course of handling it.
        self.status = 1
        # Also of a subclass, since Python 3.14.
        self.interrupted = isinstance(left, KeyboardInterrupt) if _SUBCLASSES else type(left) is KeyboardInterrupt
        self.of(partial(_report, left))
        return False


def _run(program: _Program, outcome: _Outcome, ambient: Scheduler) -> None:
    """Run the program in `ambient`, to its end and that of its threads."""
    ambient.ambient = True
    module = _fresh_main()
    sys.argv[:] = program.argv
    if not getattr(sys.flags, "safe_path", sys.flags.isolated):
        sys.path[0] = program.path0
    # Kept: its globals are those of the frames below us.
    before = sys.modules["__main__"]
    sys.modules["__main__"] = module

    def run() -> None:
        outcome.of(lambda: program.run(module))
        if not outcome.of(lambda: _await_threads(ambient)):
            # They wait for each other, or Ctrl-C came a second time. They end with the daemons.
            for task in list(ambient.tasks):
                task.daemon = True
        outcome.of(_call_atexit)

    ambient.run(run)
    del before


def _await_threads(ambient: Scheduler) -> None:
    """Wait for all non-daemon threads of both kinds, also standard ones; others run meanwhile."""
    # By these, executors tell their workers to end. threading calls them first, too.
    ambient.make_last_calls()
    calls = getattr(threading, "_threading_atexits", [])
    while calls:
        run_in_kernel_thread(calls.pop())
    while joins := _joins(ambient):
        for join in joins:
            join()


def _joins(ambient: Scheduler) -> list[Callable[[], object]]:
    joins: list[Callable[[], object]] = []
    joins += [task.join for task in list(ambient.tasks) if not task.daemon and task is not ambient.main]
    joins += [thread.join for thread in list(kernel_threads) if not thread.daemon]
    # Our own kernel threads stand among the standard ones, and the one that we run on.
    return joins or [
        partial(run_in_kernel_thread, thread.join)
        for thread in _standard_threads()
        if not thread.daemon and thread.ident != get_ident()
    ]


def _call_atexit() -> None:
    atexit._run_exitfuncs()


def _status(exc: SystemExit) -> int:
    """The status that `exc` asks for; says its message, if it is one."""
    code = exc.code
    if code is None:
        return 0
    if isinstance(code, int):
        # Where it does not fit, the interpreter makes it -1, too, and stumbles over the error.
        return code if code.bit_length() < 64 else -1
    if sys.stderr is not None:
        print(code, file=sys.stderr)
    return 1


def _report(exc: BaseException) -> None:
    """Hand what left the program to `sys.excepthook`, without the frames of ours that it was called from."""
    _trim(exc)
    sys.last_type, sys.last_value, sys.last_traceback = type(exc), exc, exc.__traceback__
    if sys.version_info >= (3, 12):
        sys.last_exc = exc
    try:
        sys.excepthook(type(exc), exc, exc.__traceback__)
    except SystemExit:
        raise
    except BaseException as error:
        if sys.stderr is not None:
            _trim(error)
            print("Error in sys.excepthook:", file=sys.stderr)
            sys.__excepthook__(type(error), error, error.__traceback__)
            print("\nOriginal exception was:", file=sys.stderr)
            sys.__excepthook__(type(exc), exc, exc.__traceback__)


def _trim(exc: BaseException) -> None:
    exc.__traceback__ = traceback_of_the_program(exc.__traceback__)


def _be_silent_once(_kind: object, _exc: object, _traceback: object) -> None:
    """For the KeyboardInterrupt that was reported before and only carries the news to the interpreter."""
    sys.excepthook = sys.__excepthook__


def _write(output: Recorder | Sampler, path: str) -> None:
    try:
        output.write(path)
    except OSError as error:
        _print_last(f"run_scheduler: can't write {path!r}: {error.strerror}")


def _print_last(text: str) -> None:
    """Print to standard error, below what the program has printed."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
        if sys.stderr is not None:
            print(text, file=sys.stderr)
    except (OSError, ValueError):
        pass  # The other end is gone, or the program closed its own.
