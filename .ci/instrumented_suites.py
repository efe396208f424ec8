"""Run test suites that nobody here wrote, plain and instrumented, and compare each test's outcome.

    python .ci/instrumented_suites.py              all of them: takes an hour
    python .ci/instrumented_suites.py json click   some

Of the standard library, the modules and their tests of the running Python are instrumented. Of packages, the released
sdist's tests run against the release, both instrumented; versions are pinned, so that a difference is ours. Prints a
table, as in docs/instrumented-suites.md, and the tests that differ; exits with 1 if there are any.

Not part of every CI run. Needs network access for the packages.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import unittest
from pathlib import Path
from typing import Any, NamedTuple

import pytest

HERE = Path(__file__).resolve()
ROOT = HERE.parents[1]


class Suite(NamedTuple):
    """What to instrument, and which tests to run."""

    name: str
    include: tuple[str, ...]
    tests: tuple[str, ...]
    # Of a package: its release, what its tests import, and what pytest is to be told.
    version: str = ""
    needs: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


STANDARD = [
    Suite(name, tuple(include.split()), tuple(f"test.{each}" for each in tests.split()))
    for name, include, tests in (
        ("argparse", "argparse", "test_argparse"),
        ("array", "array", "test_array"),
        ("ast", "ast", "test_ast"),
        ("bisect", "bisect", "test_bisect"),
        ("calendar", "calendar", "test_calendar"),
        ("cmd", "cmd", "test_cmd"),
        ("collections", "collections", "test_collections test_deque test_defaultdict test_ordered_dict"),
        ("configparser", "configparser", "test_configparser"),
        ("contextlib", "contextlib", "test_contextlib"),
        ("copy", "copy", "test_copy"),
        ("csv", "csv", "test_csv"),
        ("dataclasses", "dataclasses", "test_dataclasses"),
        ("difflib", "difflib", "test_difflib"),
        ("enum", "enum", "test_enum"),
        ("fractions", "fractions", "test_fractions"),
        ("functools", "functools", "test_functools"),
        ("graphlib", "graphlib", "test_graphlib"),
        ("heapq", "heapq", "test_heapq"),
        ("html", "html", "test_html test_htmlparser"),
        ("ipaddress", "ipaddress", "test_ipaddress"),
        ("json", "json", "test_json"),
        ("pprint", "pprint", "test_pprint"),
        ("queue", "queue", "test_queue"),
        ("reprlib", "reprlib", "test_reprlib"),
        ("sched", "sched", "test_sched"),
        ("shlex", "shlex", "test_shlex"),
        ("string", "string", "test_string"),
        ("textwrap", "textwrap", "test_textwrap"),
        ("typing", "typing", "test_typing"),
        ("urllib.parse", "urllib.parse", "test_urlparse"),
        ("weakref", "weakref _weakrefset", "test_weakref"),
        (
            "the language",
            "test",
            """test_augassign test_bool test_builtin test_class test_closure test_compare test_contains test_decorators
            test_dict test_dynamic test_exceptions test_extcall test_fstring test_funcattrs test_generators
            test_genexps test_global test_grammar test_iter test_keywordonlyarg test_lambda test_list test_listcomps
            test_metaclass test_named_expressions test_patma test_property test_raise test_richcmp test_scope
            test_slice test_subclassinit test_super test_traceback test_tuple test_unpack test_unpack_ex
            test_userdict test_userlist test_with""",
        ),
    )
]
PACKAGES = [
    Suite("attrs", ("attr", "attrs"), ("tests",), "26.1.0", ("hypothesis", "cloudpickle")),
    Suite("boltons", ("boltons",), ("tests",), "26.2.0"),
    Suite("cachetools", ("cachetools",), ("tests",), "8.0.2"),
    Suite("click", ("click",), ("tests",), "8.5.1"),
    Suite("idna", ("idna",), ("tests",), "3.20", ("hypothesis",)),
    Suite("itsdangerous", ("itsdangerous",), ("tests",), "2.2.0", ("freezegun",)),
    Suite("jinja2", ("jinja2",), ("tests",), "3.1.6", ("trio",)),
    Suite("markdown", ("markdown",), ("tests",), "3.11.3", ("pyyaml",), ("-o", "python_classes=")),
    Suite("more-itertools", ("more_itertools",), ("tests",), "11.2.1"),
    Suite("networkx", ("networkx",), ("networkx/classes", "networkx/utils"), "3.6.1"),
    Suite("packaging", ("packaging",), ("tests",), "26.3", ("hypothesis", "pretend", "tomli_w")),
    Suite("pathspec", ("pathspec",), ("tests",), "1.1.1"),
    Suite("pluggy", ("pluggy",), ("testing",), "1.7.0"),
    Suite("pyparsing", ("pyparsing",), ("tests",), "3.3.3", (), ("--ignore-glob=*/test_diagram.py",)),
    # (Left out: tests that measure how long it takes.)
    Suite("sqlparse", ("sqlparse",), ("tests",), "0.6.1", (), ("--ignore-glob=*/test_dos_prevention.py",)),
    Suite("tabulate", ("tabulate",), ("test",), "0.10.0"),
    Suite("toolz", ("toolz", "tlz"), ("toolz", "tlz"), "1.2.0"),
]  # fmt: skip

# Of one run, in seconds: many times what a machine needs that has nothing else to do.
TIMEOUT = 2400


# In the process of a suite: what pytest loads as a plugin.


class Recorder:
    """Keeps the outcome of each test, with the modules instrumented if it is asked for."""

    def __init__(self, include: list[str], root: str | None) -> None:
        self.outcomes: dict[str, str] = {}
        self.accesses = 0
        self.instrumentation: Any = None
        self.include = include
        self.root = root

    def pytest_collection_finish(self) -> None:
        self.enter()

    def enter(self) -> None:
        """Instrument, if it is asked for."""
        if not self.include:
            return
        from greenthreads.testing.instrument import instrumented
        from scheduler import control

        def access(_obj: object, _footprint: object) -> None:
            self.accesses += 1

        self.instrumentation = instrumented(self.include, self.root)
        self.instrumentation.__enter__()
        control.access = access

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            known = self.outcomes.get(report.nodeid, "passed")
            self.outcomes[report.nodeid] = report.outcome if known == "passed" else known

    def pytest_sessionfinish(self) -> None:
        self.leave()

    def leave(self) -> None:
        """The plain code again."""
        if self.instrumentation is not None:
            from scheduler import control

            control.access = None
            self.instrumentation.__exit__()


class Outcomes(unittest.TestResult):
    """The same, of unittest's tests: the standard library's are not made for pytest."""

    def __init__(self, outcomes: dict[str, str]) -> None:
        super().__init__()
        self.outcomes = outcomes

    def addSuccess(self, test: unittest.TestCase) -> None:
        self.outcomes.setdefault(test.id(), "passed")

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        self.outcomes[test.id()] = f"failed: {err[0].__name__}"

    addFailure = addError

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        if err is not None:
            self.outcomes[test.id()] = f"failed: {err[0].__name__}"

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        self.outcomes[test.id()] = "skipped"


def child(out: str, include: list[str], root: str, arguments: list[str]) -> None:
    """Run pytest here, and write down what came of each test."""
    recorder = Recorder(include, root)
    if arguments[0].startswith("test."):
        suite = unittest.TestSuite()
        for each in arguments:
            try:
                suite.addTests(unittest.defaultTestLoader.loadTestsFromName(each))
            except (AttributeError, unittest.SkipTest):
                continue  # not in this Python
        recorder.enter()
        suite.run(Outcomes(recorder.outcomes))
        recorder.leave()
    else:
        pytest.main(["-q", "-p", "no:cacheprovider", "--no-header", *arguments], plugins=[recorder])
    Path(out).write_text(json.dumps([recorder.outcomes, recorder.accesses]), encoding="utf-8")


# In the process that compares.


def run(
    python: str, suite: Suite, include: tuple[str, ...], where: Path, arguments: list[str]
) -> tuple[dict[str, str], int, float]:
    """The outcomes of one run, the accesses announced, and the seconds it took."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        start = time.perf_counter()
        done = subprocess.run(
            [python, str(HERE), "--child", str(out), json.dumps(include), str(where), *arguments],
            cwd=where, env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0", "COLUMNS": "80"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT, check=False,
        )  # fmt: skip
        if not out.exists():
            raise SystemExit(f"{suite.name}: the run wrote nothing down\n{done.stdout[-3000:]}")
        outcomes, accesses = json.loads(out.read_text(encoding="utf-8"))
        if not outcomes:
            raise SystemExit(f"{suite.name}: no test was run\n{done.stdout[-3000:]}")
        return outcomes, accesses, time.perf_counter() - start


def standard(suite: Suite, _where: Path) -> tuple[str, list[str]]:
    """Tests of the running Python, by name."""
    return sys.executable, list(suite.tests)


def package(suite: Suite, where: Path) -> tuple[str, list[str]]:
    """Install the release, unpack its sdist, and take pytest's arguments from there."""
    python = str(where / "venv" / "bin" / "python")
    subprocess.run([sys.executable, "-m", "venv", str(where / "venv")], check=True)
    pip = [python, "-m", "pip", "-q", "--disable-pip-version-check"]
    pinned = f"{suite.name}=={suite.version}"
    subprocess.run([*pip, "install", pinned, "greenlet", "pytest", *suite.needs], check=True)
    subprocess.run(
        [*pip, "download", "--no-deps", "--no-binary", ":all:", "-d", str(where), pinned],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    (archive,) = where.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(where, filter="data") if hasattr(tarfile, "data_filter") else tar.extractall(where)
    (unpacked,) = (each.parent for each in where.glob("*/PKG-INFO"))
    # The release is tested, not the sdist's copy of it: only the tests stay, but for tests inside of the package.
    return python, [*(str(unpacked / each) for each in suite.tests), "--rootdir", str(unpacked), *suite.options]


def compare(suite: Suite) -> tuple[str, list[str]]:
    """One line of the table, and the tests that differ."""
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        prepare = package if suite.version else standard
        python, arguments = prepare(suite, where)
        plain, _, seconds = run(python, suite, (), where, arguments)
        include = (*suite.include, *(each for each in suite.tests if each.startswith("test.")))
        inside, accesses, longer = run(python, suite, include, where, arguments)
    differ = [
        f"{suite.name}: {test}: {plain.get(test, 'not run')} plain, {inside.get(test, 'not run')} instrumented"
        for test in sorted(plain.keys() | inside.keys())
        if plain.get(test) != inside.get(test)
    ]
    name = f"{suite.name} {suite.version}".strip()
    counts = f"{len(plain)} | {counted(plain)} | {counted(inside)}"
    return f"| {name} | {counts} | {accesses:,} | {seconds:.1f} | {longer:.1f} | {len(differ)} |", differ


def counted(outcomes: dict[str, str]) -> str:
    """How many passed, and how many failed; the others were skipped."""
    passed = sum(outcome == "passed" for outcome in outcomes.values())
    failed = sum(outcome.startswith("failed") for outcome in outcomes.values())
    return f"{passed} / {failed}"


def main(names: list[str]) -> int:
    """Print the table; 1 if any test's outcome differs."""
    print("| suite | tests | passed / failed plain | instrumented | accesses | s plain | s instrumented | differ |")
    print("|---|---|---|---|---|---|---|---|")
    differ: list[str] = []
    for suite in (*STANDARD, *PACKAGES):
        if names and suite.name not in names:
            continue
        line, different = compare(suite)
        print(line, flush=True)
        differ += different
    print(*differ, sep="\n")
    return 1 if differ else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _, _, out, include, root, *arguments = sys.argv
        child(out, json.loads(include), root, arguments)
    else:
        sys.exit(main(sys.argv[1:]))
