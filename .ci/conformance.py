"""Run CPython's own thread tests on greenthreads: those of the interpreter that runs this, patched by `patch_all`.

    python .ci/conformance.py [SUITE ...] [--jobs N] [--timeout SECONDS] [--verbose]

A class of tests has an interpreter of its own, where `run_scheduler` runs it. A test that hangs ends that interpreter,
and the tests of its class that come after it run in another one.

What is printed at the end is passed / applicable. Not applicable are tests that say nothing about the library: those
that start another interpreter, which is not patched, or look at CPython's C API or types; they are skipped at the
moment when they do so (`_leave_out`). The tests that may fail stand in docs/conformance.md, with the reason of each.
The exit status is 1 if any other one fails, or one of them passes.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import fnmatch
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "conformance.md"

# The suites that every change must pass; any other module of the `test` package can be given by name. The first two
# hold, beside their own, the classes of test.lock_tests.
SUITES = ("test_threading", "test_thread", "test_threading_local")

PASSED, FAILED, SKIPPED, HUNG = "passed", "failed", "skipped", "hung"


# ---- In the interpreter that runs a class ----------------------------------------------------------------------------


def list_tests(suite: str) -> dict[str, list[str]]:
    """The tests of a suite, by class."""
    import unittest

    from recording import flat

    found: dict[str, list[str]] = {}
    loader = unittest.TestLoader()
    for test in flat(loader.loadTestsFromName(f"test.{suite}")):
        if isinstance(test, unittest.TestCase) and type(test).__module__.startswith("test."):
            found.setdefault(_class_of(test), []).append(test._testMethodName)
    return found


def _class_of(test: Any) -> str:
    # Some suites are packages.
    return f"{type(test).__module__.removeprefix('test.')}.{type(test).__qualname__}"


def run_class(suite: str, name: str, methods: list[str], out: str) -> None:
    """Run tests of one class in a scheduler; write a line for each that begins, and for each that ends."""
    import greenthreads

    greenthreads.patch_all()
    greenthreads.run_scheduler(_run_tests, suite, name, methods, out)


def _run_tests(suite: str, name: str, methods: list[str], out: str) -> None:
    # Here, since all that it imports is to find the names patched.
    import unittest

    from recording import Recording, flat

    _leave_out()
    chosen = [
        test
        for test in flat(unittest.TestLoader().loadTestsFromName(f"test.{suite}"))
        if _class_of(test) == name and test._testMethodName in methods
    ]
    # Modules that import these if they can have done so; from now on it is tests that do.
    for module in _C_MODULES:
        del sys.modules[module]
    sys.meta_path.insert(0, _Refusing())
    with open(out, "a", encoding="utf-8", buffering=1) as lines:
        unittest.TestSuite(chosen).run(Recording(lines, lambda test: str(test._testMethodName), begins=True))


def _leave_out() -> None:
    """Have a test skipped when it leaves what the library can stand for."""
    import unittest

    from test import support
    from test.support import import_helper, script_helper

    def skip(why: str) -> Any:
        def skipping(*args: object, **kwargs: object) -> None:
            raise unittest.SkipTest(why)

        return skipping

    for name in ("assert_python_ok", "assert_python_failure", "run_python_until_end", "spawn_python"):
        setattr(script_helper, name, skip("starts another interpreter"))
    subprocess.Popen = skip("starts another interpreter")  # type: ignore[misc]
    for name in ("run_in_subinterp", "run_in_subinterp_with_config", "check_disallow_instantiation"):
        if hasattr(support, name):
            setattr(support, name, skip("about the C interpreter"))
    import_module = import_helper.import_module

    def without_c(name: str, *args: Any, **kwargs: Any) -> Any:
        if name in (*_C_MODULES, "ctypes"):
            raise unittest.SkipTest("about the C interpreter")
        return import_module(name, *args, **kwargs)

    import_helper.import_module = without_c
    for name in _C_MODULES:
        sys.modules[name] = None  # type: ignore[assignment]


_C_MODULES = ("_testcapi", "_testinternalcapi")


class _Refusing:
    """On `sys.meta_path`: a test that imports a module for testing C code is skipped."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        import unittest

        if name in _C_MODULES:
            raise unittest.SkipTest("about the C interpreter")


# ---- Outside ---------------------------------------------------------------------------------------------------------


def _child(arguments: list[str], timeout: float | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"}
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run(
            [sys.executable, "-W", "ignore", __file__, *arguments],
            cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=timeout, check=False,
        )  # fmt: skip


def outcomes(suite: str, name: str, methods: list[str], seconds: float) -> dict[str, tuple[str, str]]:
    """What became of each test of a class. Some lean on what those before them left: who fails runs again, alone."""
    found = _outcomes(suite, name, methods, seconds)
    for method, (outcome, _reason) in list(found.items()):
        if outcome == FAILED and len(methods) > 1:
            found.update(_outcomes(suite, name, [method], seconds))
    return found


def _outcomes(suite: str, name: str, methods: list[str], seconds: float) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out")
        left = methods
        while left:
            Path(out).touch()
            try:
                process = _child(["--run", suite, name, out, *left], seconds * (1 + len(left) / 4))
                errors = process.stderr[-2000:]
            except subprocess.TimeoutExpired:
                errors = f"no end after {seconds:g} seconds"
            for line in Path(out).read_text(encoding="utf-8").splitlines():
                method, outcome, reason = json.loads(line)
                found[method] = outcome, reason or errors if outcome == HUNG else reason
            after = [method for method in left if method not in found]
            if len(after) == len(left):
                # It did not even begin, or a fixture of the class failed.
                found.update(dict.fromkeys(left, (FAILED, errors)))
            left = [method for method in left if method not in found]
    return found


def expected(test: str) -> str | None:
    """Why a test may fail on this Python: the reason in the page's table of exceptions, if it stands there."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    rows = re.findall(r"^\| `(test_[\w.*]+)` \| ([^|]+) \| ([^|]+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    for pattern, pythons, reason in rows:
        if fnmatch.fnmatchcase(test, pattern) and (pythons.strip() == "all" or version in pythons):
            return str(reason.strip())
    return None


def main() -> int:
    """Run the suites and compare with the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("suites", nargs="*", default=SUITES, metavar="SUITE", help=f"default: {' '.join(SUITES)}")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds for a test; for a class, in proportion")
    parser.add_argument("--verbose", action="store_true", help="print the tracebacks of all failures")
    options = parser.parse_args()
    # A shell has what it starts in the background ignore SIGINT, and the tests raise it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if importlib.util.find_spec("test.test_threading") is None:
        print(f"Python {sys.version.split()[0]} has no `test` package: its thread tests were not run")
        return 0

    results: dict[str, tuple[str, str]] = {}
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        futures = {}
        for suite in options.suites:
            process = _child(["--list", suite])
            if process.returncode:
                print(f"{suite} does not import:\n{process.stderr}")
                return 1
            for name, methods in json.loads(process.stdout).items():
                # Those that may fail are apart: they may as well hang, and the others should not be kept waiting.
                known = [method for method in methods if expected(f"{name}.{method}") is not None]
                for method in known:
                    futures[pool.submit(_outcomes, suite, name, [method], options.timeout / 4)] = name
                others = [method for method in methods if method not in known]
                if others:
                    futures[pool.submit(outcomes, suite, name, others, options.timeout)] = name
        for future in concurrent.futures.as_completed(futures):
            name = futures[future]
            results.update({f"{name}.{method}": outcome for method, outcome in future.result().items()})
    return report(results, options.verbose)


def report(results: dict[str, tuple[str, str]], verbose: bool) -> int:
    """Print the figure and what is not as the page has it; the exit status."""
    passed = {test for test, (outcome, _) in results.items() if outcome == PASSED}
    failed = {test for test, (outcome, _) in results.items() if outcome in (FAILED, HUNG)}
    known = {test: reason for test in results if (reason := expected(test)) is not None}
    for test in sorted(failed):
        outcome, reason = results[test]
        if test in known and not verbose:
            print(f"{outcome}, as expected: {test}: {known[test]}")
        else:
            print(f"{outcome}: {test}\n{reason}")
    mended = sorted(passed & set(known))
    for test in mended:
        print(f"passed, against docs/conformance.md: {test}")
    print(f"Python {sys.version.split()[0]}, CPython's own thread tests: {len(passed)} / {len(passed) + len(failed)}")
    return 1 if mended or failed - set(known) else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--list"]:
        print(json.dumps(list_tests(sys.argv[2])))
    elif sys.argv[1:2] == ["--run"]:
        _, _, suite, name, out, *methods = sys.argv
        run_class(suite, name, methods, out)
    else:
        sys.exit(main())
