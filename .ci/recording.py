"""How `unittest` tells what became of each test: a line of JSON for each, with its name, the outcome and the reason."""

from __future__ import annotations

import json
import traceback
import unittest
from collections.abc import Callable, Iterator
from typing import Any

PASSED, FAILED, SKIPPED, HUNG = "passed", "failed", "skipped", "hung"


def flat(suite: Any) -> Iterator[Any]:
    """The tests of a suite, and of the suites in it."""
    for each in suite:
        if hasattr(each, "__iter__"):
            yield from flat(each)
        else:
            yield each


class Recording(unittest.TestResult):
    """Writes to `lines`; with `begins` also a line for each test that begins, which counts if no other follows."""

    def __init__(self, lines: Any, name: Callable[[Any], str], *, begins: bool = False) -> None:
        super().__init__()
        self._lines, self._name, self._begins = lines, name, begins
        self._outcome, self._reason = PASSED, ""

    def _write(self, *line: str) -> None:
        print(json.dumps(line), file=self._lines)

    def startTest(self, test: Any) -> None:
        super().startTest(test)
        self._outcome, self._reason = PASSED, ""
        if self._begins:
            self._write(self._name(test), HUNG, "")

    def stopTest(self, test: Any) -> None:
        super().stopTest(test)
        self._write(self._name(test), self._outcome, self._reason)

    def addError(self, test: Any, err: Any) -> None:
        self._fail(err)
        if not isinstance(test, unittest.TestCase):  # The set-up of a class or a module: no test stops.
            self._write(str(test), self._outcome, self._reason)

    def addFailure(self, test: Any, err: Any) -> None:
        self._fail(err)

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        if err is not None:
            self._fail(err)

    def addUnexpectedSuccess(self, test: Any) -> None:
        self._outcome, self._reason = FAILED, "unexpected success"

    def addSkip(self, test: Any, reason: str) -> None:
        self._outcome, self._reason = SKIPPED, reason

    def _fail(self, err: Any) -> None:
        self._outcome, self._reason = FAILED, "".join(traceback.format_exception(*err))
