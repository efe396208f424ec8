"""What pytest loads at its start: the options, the marker, the summary. The work is in `greenthreads.pytest_plugin`.

A module of its own, outside of the package, so that a project without any test for the harness doesn't even import it:
it would cost time, come before a coverage measurement begins, and be there where nobody asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

__all__: list[str] = []

# The report of a failure, left by the plugin for the report of the test.
FAILURE = pytest.StashKey[str]()
# The name under which a test's summary travels, also from a process of pytest-xdist to the one with the terminal.
PROPERTY = "interleave"


def pytest_addoption(parser: pytest.Parser) -> None:
    """See pytest."""
    group = parser.getgroup("interleave", "exploring the schedules of threaded tests (greenthreads)")
    group.addoption("--interleave", action="store_true", help="run every test under many schedules")
    group.addoption("--interleave-replay", metavar="TRACE", help="run the selected tests under this schedule")
    group.addoption("--interleave-seed", type=int, metavar="N", help="the seed of the strategies (default 0)")
    group.addoption("--interleave-seconds", type=float, metavar="S", help="how long to look for a failure, per test")
    group.addoption("--interleave-mutate", action="store_true", help="say which locks no test would miss")
    group.addoption(
        "--interleave-mutate-seconds", type=float, default=10.0, metavar="S", help="for each mutant (default 10)"
    )


def pytest_configure(config: pytest.Config) -> None:
    """See pytest."""
    line = "interleave(**options): run the test under many schedules; options of greenthreads.testing.explore"
    config.addinivalue_line("markers", line)
    config.pluginmanager.register(_Summary(), "interleave-summary")
    if config.getoption("interleave_mutate"):
        if config.getoption("numprocesses", None) or hasattr(config, "workerinput"):
            raise pytest.UsageError("--interleave-mutate is for one process: leave out -n of pytest-xdist")
        if config.getoption("usepdb"):
            raise pytest.UsageError("--interleave-mutate makes tests fail on purpose: leave out --pdb")
        if config.getoption("interleave_mutate_seconds") <= 0:
            raise pytest.UsageError("--interleave-mutate-seconds must be above 0")
        from greenthreads import pytest_plugin

        config.pluginmanager.register(pytest_plugin.Mutating(config), pytest_plugin.Mutating.name)


def _is_for_us(item: pytest.Item) -> bool:
    if item.get_closest_marker("interleave") is not None or _is_decorated(item):
        return True
    return bool(item.config.getoption("interleave") or item.config.getoption("interleave_replay"))


def _is_decorated(item: pytest.Item) -> bool:
    function = getattr(item, "obj", None)
    function = getattr(function, "__func__", function)
    return function is not None and getattr(function, "interleaved", None) is function


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """See pytest."""
    if _is_for_us(item):
        from greenthreads import pytest_plugin

        pytest_plugin.prepare(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Generator[None, Any, Any]:
    """See pytest."""
    report = yield
    text = item.stash.get(FAILURE, None)
    if call.when == "call" and text is not None:
        del item.stash[FAILURE]
        if hasattr(report.longrepr, "addsection"):
            report.longrepr.addsection("the failing schedule", text)
    return report


class _Summary:
    """A line for each test, at the end; those of pytest-xdist's processes come with their reports."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """See pytest."""
        if report.when == "call":
            found = [value for name, value in report.user_properties if name == PROPERTY]
            self._lines += [f"{report.nodeid}: {value}" for value in found]

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """See pytest."""
        if self._lines:
            terminalreporter.write_sep("=", "interleave")
            for line in self._lines:
                terminalreporter.write_line(line)
