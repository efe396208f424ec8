"""Tests that run under many schedules, in pytest. `_greenthreads_pytest` is what pytest loads; it calls `prepare`.

pytest sets a test up, calls it, and tears it down. Here a call is an exploration: many executions, each of which wants
the world as the one before found it. So the setup of a test is divided. Fixtures of a wider scope than a function's are
set up where pytest does it, once, outside of control. Those of the test itself are set up anew *inside* each execution,
by its main thread, and torn down at its end: locks, queues and threads that they make are under control, and what they
undo (`monkeypatch`) is undone before the next. A test class has a new instance for each execution, too.

An exception of the test ends its execution there and then; the fixtures are torn down after that, as the threads are
unwound. So a trace, and a report, ends where the test has failed.
"""

from __future__ import annotations

import bdb
import contextlib
import copy
import functools
import inspect
import logging
import os
import shlex
import shutil
import time
import types
import unittest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from _pytest.runner import runtestprotocol
from _pytest.tmpdir import tmppath_result_key

from greenthreads.testing import Exploration, Failure, Store, _examples, explore
from greenthreads.testing._memory import root_of
from greenthreads.testing._mutation import Mutation, Trial, for_mutants, trial_of
from greenthreads.testing._session import fail_now
from greenthreads.testing.explore import explain, raise_failure
from scheduler.errors import ReplayDivergence, TaskExit

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

__all__ = ["Mutating", "prepare"]

# What ends a test without its having failed.
_PASSES: tuple[type[BaseException], ...] = (
    pytest.skip.Exception, pytest.xfail.Exception, pytest.exit.Exception, unittest.SkipTest, bdb.BdbQuit
)  # fmt: skip
_ENDS: tuple[type[BaseException], ...] = (TaskExit, KeyboardInterrupt, *_PASSES)
# Options that say how an execution runs, and so are those of a replay too.
_OF_AN_EXECUTION = ("check_joined", "check_locks", "include", "max_steps", "memory", "root", "timeouts")
# How often the line of progress is written, in seconds.
_EVERY = 0.25

# Outside of executions; inside, time is virtual.
_now = time.monotonic


def prepare(item: Any) -> None:
    """Make `item`, a test about to be set up, run under many schedules. Leaves alone what can't."""
    marked = item.get_closest_marker("interleave") is not None
    if not isinstance(item, pytest.Function):
        if marked:
            pytest.fail(f"{item.nodeid} is no test function: interleave can't run it under schedules", pytrace=False)
        return
    if _is_async(item):
        if marked:
            pytest.fail(f"{item.nodeid} is async: interleave explores the schedules of threads", pytrace=False)
        return
    if _examples.draws_while_it_runs(item.obj):
        if marked:
            text = f"{item.nodeid} is a state machine of Hypothesis: each execution would draw other steps"
            pytest.fail(text, pytrace=False)
        return
    if _examples.has_examples(item.obj):
        item.runtest = _TestWithExamples(item).run  # type: ignore[method-assign]
        return
    exploration = _Test(item)
    # Called by `item.setup()`, which does for classes of unittest more than this.
    item._request._fillfixtures = exploration.set_up_wide  # type: ignore[method-assign]
    item.runtest = exploration.run  # type: ignore[method-assign]


def _undecorated(function: Any) -> Any:
    """The test function itself where `function` is what `@interleave()` made of it; bound, if that is."""
    plain: Any = getattr(function, "__func__", function)
    if plain is None or getattr(plain, "interleaved", None) is not plain:
        return function
    inner = vars(plain)["__wrapped__"]
    return types.MethodType(inner, function.__self__) if inspect.ismethod(function) else inner


def _is_async(item: pytest.Function) -> bool:
    function = inspect.unwrap(item.obj)
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        return True
    return item.cls is not None and issubclass(item.cls, unittest.IsolatedAsyncioTestCase)


def _options(item: pytest.Function) -> dict[str, Any]:
    """The arguments for `explore`: the decorator's, those of the markers, nearest last, the command line's."""
    function = getattr(item.obj, "__func__", item.obj)
    options = dict(getattr(function, "interleave_options", {}))
    for mark in reversed(list(item.iter_markers("interleave"))):
        if mark.args:
            pytest.fail(f"interleave takes its arguments by name, not {mark.args!r}", pytrace=False)
        options.update(mark.kwargs)
    config = item.config
    if config.getoption("interleave_seed") is not None:
        options["seed"] = config.getoption("interleave_seed")
    if config.getoption("interleave_seconds") is not None:
        options["max_seconds"] = config.getoption("interleave_seconds")
        options.setdefault("max_executions", None)
    if not isinstance(options.get("strategy", ""), str):
        # One object serves one exploration, and a marker may stand at many tests.
        options["strategy"] = copy.deepcopy(options["strategy"])
    # The function that is explored is this module's, and the project that of the test.
    options["root"] = options.get("root") or root_of(function)
    return options


class _Test:
    """One test: how it is set up, and its call."""

    def __init__(self, item: pytest.Function) -> None:
        self._item = item
        self._options = _options(item)
        definitions = item._fixtureinfo.name2fixturedefs
        scopes = {name: definitions[name][-1].scope for name in item.fixturenames if name in definitions}
        self._wide = [name for name, scope in scopes.items() if scope != "function"]
        # `request` is no fixture with a definition, but made anew with the others.
        self._has_own = len(self._wide) < len(item.fixturenames) or item.cls is not None
        self._wide_definitions = [each for name in self._wide for each in definitions[name]]
        # Of what became of the phases of a test: the teardown of `tmp_path` takes it from the test, each time.
        self._needs_results = "tmp_path" in item.fixturenames
        self._is_unittest = item.cls is not None and issubclass(item.cls, unittest.TestCase)

    def set_up_wide(self) -> None:
        """Set up the fixtures that all executions share."""
        request = self._item._request
        for name in self._wide:
            value = request.getfixturevalue(name)
            self._item.funcargs.setdefault(name, value)
        if "tmp_path_factory" in self._wide:
            # Made at the first use, and dated: not by virtual time.
            request.getfixturevalue("tmp_path_factory").getbasetemp()

    # ---- The call ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Explore, or replay; raise what has failed, and leave the report for pytest's."""
        __tracebackhide__ = True
        skipped = self._is_unittest and _skipped(self._item)
        if skipped:
            pytest.skip(skipped)
        trace = self._item.config.getoption("interleave_replay")
        if trace is not None:
            self._replay(trace)
            return
        found = self._explore()
        self._summarize(found)
        if found.failure is not None:
            self._fail(found.failure)

    @property
    def _command(self) -> str:
        file = os.path.relpath(self._item.path, self._item.config.invocation_params.dir)
        test = f"{file}::{str(self._item.nodeid).partition('::')[2]}"
        return f"pytest {shlex.quote(test)} --interleave-replay="

    def _explore(self) -> Exploration:
        name = f"{self._item.path.name}::{str(self._item.nodeid).partition('::')[2]}"
        store = Store(Path(self._item.path).parent / ".interleave")
        return self._explored(self._execute, {"store": store, "name": name, **self._options})

    def _explored(self, run: Callable[[], object], options: dict[str, Any], parts: int = 1) -> Exploration:
        options["passes"] = (*_PASSES, *options.get("passes", ()))
        mutating: Mutating | None = self._item.config.pluginmanager.getplugin(Mutating.name)
        with _progress(self._item) as progress:
            options.update(replay_command=self._command, progress=progress)
            if mutating is not None:
                return mutating.explore(self._item.nodeid, run, options, parts)
            return explore(run, **options)

    def _replayed(self, run: Callable[[], object], trace: str, *passes: type[BaseException]) -> Failure | None:
        options = {name: value for name, value in self._options.items() if name in _OF_AN_EXECUTION}
        return explain(run, trace, self._command, passes=(*_PASSES, *passes), **options)

    def _replay(self, trace: str) -> None:
        __tracebackhide__ = True
        failure = self._replayed(self._execute, trace)
        outcome = "did not fail" if failure is None else f"failed: {failure.kind}"
        self._say(f"one schedule, replayed, {outcome}")
        if failure is not None:
            self._fail(failure)

    def _summarize(self, found: Exploration) -> None:
        end = "failed" if found.failure else "exhausted" if found.exhausted else "not exhausted"
        line = f"{found.strategy}, {found.seconds:.2f} s, {end}; {found.coverage}"
        self._say(line)

    def _say(self, line: str) -> None:
        """Leave a line for the summary, in place of what an earlier run of the same test has said."""
        from _greenthreads_pytest import PROPERTY

        said = self._item.user_properties
        said[:] = [*((name, value) for name, value in said if name != PROPERTY), (PROPERTY, line)]

    def _fail(self, failure: Failure) -> NoReturn:
        __tracebackhide__ = True
        from _greenthreads_pytest import FAILURE

        self._item.stash[FAILURE] = failure.report()
        raise_failure(failure, note=False)

    # ---- One execution -----------------------------------------------------------------------------------------------

    def _execute(self) -> None:
        """Set up, call and tear down, in the main thread of an execution."""
        item = self._item
        finalizers = item.session._setupstate.stack[item][0]
        before = len(finalizers)
        wide_before = [len(each._finalizers) for each in self._wide_definitions]
        _forget_output(item)
        if self._needs_results:
            item.stash[tmppath_result_key] = {"setup": True}
        failed = True
        try:
            self._call(self._set_up())
            failed = False
        except _ENDS:
            raise
        except BaseException as exc:
            fail_now(exc)
            raise
        finally:
            error = _tear_down(finalizers, before)
            # Each execution's fixtures note at the wider ones which they stand on that these take them down, too.
            for each, count in zip(self._wide_definitions, wide_before, strict=True):
                del each._finalizers[count:]
            if not failed:
                _forget_folder(item)
                if error is not None:
                    raise error

    def _set_up(self) -> dict[str, Any]:
        item = self._item
        if self._has_own:
            item._initrequest()
            if item.cls is not None:
                item._obj = None
                with contextlib.suppress(AttributeError):
                    del item._instance
            item._request._fillfixtures()
        return {name: item.funcargs[name] for name in item._fixtureinfo.argnames}

    def _call(self, arguments: dict[str, Any]) -> None:
        function = _undecorated(self._item.obj)
        if not self._is_unittest:
            function(**arguments)
            return
        case: Any = self._item.instance
        try:
            case.setUp()
            try:
                function()
            finally:
                case.tearDown()
        finally:
            case.doCleanups()


class _TestWithExamples(_Test):
    """A test of Hypothesis: each example is explored. Its fixtures are set up once, by pytest."""

    def __init__(self, item: pytest.Function) -> None:
        super().__init__(item)
        self._function = _undecorated(item.obj)
        self._most = _examples.most_examples(self._function)
        self._options = _examples.options_of_one(self._function, self._options)
        self._found: list[Exploration] = []
        # How many examples could follow the schedule that was to be replayed.
        self._replayed_with = 0

    def run(self) -> None:
        """Have Hypothesis draw examples, and make one small that fails; raise what that has raised, with the report."""
        __tracebackhide__ = True
        trace = self._item.config.getoption("interleave_replay")
        explored = self._explore_one if trace is None else functools.partial(self._replay_one, trace)
        try:
            with _examples.each_example(self._function, explored):
                # pytest's way to run it: the item's own is this method.
                type(self._item).runtest(self._item)
        finally:
            self._summarize_examples(trace)
        if trace is not None and not self._replayed_with:
            pytest.fail("none of the examples could follow this schedule", pytrace=False)

    def _explore_one(self, run: Callable[[], object]) -> None:
        __tracebackhide__ = True
        found = self._explored(run, dict(self._options), parts=self._most)
        self._found.append(found)
        if found.failure is not None:
            self._fail(found.failure)

    def _replay_one(self, trace: str, run: Callable[[], object]) -> None:
        __tracebackhide__ = True
        try:
            failure = self._replayed(run, trace, *self._options["passes"])
        except ReplayDivergence:
            return  # It is another example's.
        self._replayed_with += 1
        if failure is not None:
            self._fail(failure)

    def _summarize_examples(self, trace: str | None) -> None:
        if trace is not None:
            self._say(f"one schedule, replayed with {self._replayed_with} examples that could follow it")
        elif self._found:
            exhausted = sum(each.exhausted for each in self._found)
            executions = sum(each.executions for each in self._found)
            line = f"{len(self._found)} examples, {exhausted} of them exhausted, in {executions} executions"
            self._say(f"{line}; of the last: {self._found[-1].coverage}")


class Mutating:
    """`--interleave-mutate`: once all tests have passed, each lock of the code under test is removed or narrowed.

    Code under test is what the explorations instrument, but for the files of tests. The tests that reach a lock are
    run again, by pytest's own protocol but out of sight of its reporters: no test is said to have failed.
    """

    name = "interleave-mutate"

    def __init__(self, config: pytest.Config) -> None:
        self._seconds: float = config.getoption("interleave_mutate_seconds")
        self._files: set[str] = set()
        self._items: dict[str, pytest.Item] = {}
        self._mutation = Mutation(self._is_of_tests)
        self._refusal = ""
        # In a run under a mutant: the seconds it may take, and what it has found.
        self._share: float | None = None
        self._trial: Trial | None = None

    def _is_of_tests(self, filename: str) -> bool:
        return os.path.realpath(filename) in self._files or os.path.basename(filename) == "conftest.py"

    def explore(self, test: str, execute: Callable[[], object], options: dict[str, Any], parts: int) -> Exploration:
        """Explore a test as it is, with an eye on what it reaches; or under a mutant, for a verdict.

        It may be one of so many `parts` of the test.
        """
        if self._share is None:
            with self._mutation.mutants_of.observing(test):
                return explore(execute, **options)
        found = explore(execute, **for_mutants(options, self._share / parts))
        self._trial = trial_of(found)
        return found

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """See pytest."""
        self._items = {item.nodeid: item for item in session.items}
        self._files = {os.path.realpath(item.path) for item in session.items}
        result = yield
        if session.testsfailed:
            self._refusal = "the tests must pass as they are: nothing was mutated"
        elif not session.config.option.collectonly:
            for mutant in self._mutation.mutants():
                self._mutation.judge(mutant, self._run, self._seconds)
            self._mutation.mutants_of.end()
        return result

    def _run(self, test: str, share: float, following: str | None) -> Trial:
        self._share, self._trial = share, None
        try:
            next_item = None if following is None else self._items[following]
            reports = runtestprotocol(self._items[test], log=False, nextitem=next_item)
        finally:
            self._share = None
        trial = self._trial or Trial(None, False, 0)
        if trial.failure is None and any(report.failed for report in reports):
            # The exploration itself could not go on.
            return trial._replace(failure="error")
        return trial

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """See pytest."""
        if exitstatus == pytest.ExitCode.OK and self._mutation.survivors:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """See pytest."""
        terminalreporter.write_sep("=", "interleave-mutate")
        terminalreporter.write_line(self._refusal or str(self._mutation))


def _skipped(item: pytest.Function) -> str:
    for each in (item.obj, item.cls):
        if getattr(each, "__unittest_skip__", False):
            return str(getattr(each, "__unittest_skip_why__", "")) or "skipped"
    return ""


def _tear_down(finalizers: list[Callable[[], object]], keep: int) -> BaseException | None:
    """Call all that were added, the last one first; the first exception of any."""
    error: BaseException | None = None
    while len(finalizers) > keep:
        try:
            finalizers.pop()()
        except BaseException as exc:
            error = error or exc
    return error


def _forget_output(item: pytest.Function) -> None:
    """What an execution before has printed or logged is not this one's, and thousands of them fill the memory."""
    capture: Any = item.config.pluginmanager.getplugin("capturemanager")
    if capture is not None and capture.is_globally_capturing():
        capture.read_global_capture()
    for handler in logging.getLogger().handlers:
        if type(handler).__module__ == "_pytest.logging" and hasattr(handler, "clear"):
            handler.clear()


def _forget_folder(item: pytest.Function) -> None:
    """The `tmp_path` of an execution that has passed: numbering the next gets slow where there are thousands."""
    folder = item.funcargs.get("tmp_path")
    if isinstance(folder, Path):
        shutil.rmtree(folder, ignore_errors=True)


def _is_terminal(reporter: Any) -> bool:
    # An attribute up to pytest 9.1, now a method.
    return bool(reporter.isatty() if callable(reporter.isatty) else reporter.isatty)


@contextlib.contextmanager
def _progress(item: pytest.Function) -> Iterator[Callable[[Exploration], object] | None]:
    """What writes a line of progress, where somebody sees it; the line is gone afterwards."""
    reporter: Any = item.config.pluginmanager.getplugin("terminalreporter")
    if reporter is None or reporter.verbosity < 0 or not _is_terminal(reporter):
        yield None
        return
    capture: Any = item.config.pluginmanager.getplugin("capturemanager")
    began = last = _now()
    written = 0

    def write(text: str) -> None:
        nonlocal written
        with capture.global_and_fixture_disabled() if capture is not None else contextlib.nullcontext():
            if not written:
                reporter.ensure_newline()
            text = text[: reporter._tw.fullwidth - 1]
            reporter._tw.write(f"\r{text:{written}}", flush=True)
            written = len(text)

    def progress(found: Exploration) -> None:
        nonlocal last
        now = _now()
        if now - last >= _EVERY:
            last = now
            rate = found.executions / (now - began)
            write(f"{item.name}: {found.executions} executions, {rate:.0f} a second; {found.coverage}")

    try:
        yield progress
    finally:
        if written:
            write("")
            write("")


