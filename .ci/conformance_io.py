"""Run CPython's own tests of blocking I/O on greenthreads: those of the interpreter that runs this.

    python .ci/conformance_io.py [SUITE ...] [--timeout SECONDS]

`run_scheduler` runs each suite as its main user thread, patched, in an interpreter of its own, with `unittest` as it
is. A test that fails runs again alone, since these tests have ports and time in them. The tests that may fail stand in
docs/conformance-io.md, with the reason of each. The exit status is 1 if any other one fails.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from recording import FAILED, PASSED, Recording, flat

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "conformance-io.md"

SUITES = (
    "test_select", "test_selectors", "test_socket", "test_socketserver", "test_ssl", "test_subprocess",
    "test_httpservers", "test_smtplib", "test_poplib", "test_ftplib",
)  # fmt: skip
# Hangs without the library, too, where VSOCK has no loopback.
LEFT_OUT = ("ThreadedVSOCKSocketStreamTest",)


# ---- In the interpreter that runs a suite ----------------------------------------------------------------------------


def run(suite: str, only: list[str], out: str) -> None:
    """Run a suite, or some of its tests; write a line for each."""
    import unittest

    tests = flat(unittest.defaultTestLoader.loadTestsFromName(f"test.{suite}"))
    chosen = [each for each in tests if type(each).__name__ not in LEFT_OUT and (not only or _name(each) in only)]
    with open(out, "a", encoding="utf-8", buffering=1) as lines:
        unittest.TestSuite(chosen).run(Recording(lines, _name))


def _name(test: Any) -> str:
    return str(test.id()).removeprefix("test.")


# ---- Outside ---------------------------------------------------------------------------------------------------------


def outcomes(suite: str, seconds: float, only: tuple[str, ...] = ()) -> dict[str, tuple[str, str]]:
    """What became of each test of a suite."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        out.touch()
        command = [sys.executable, "-W", "ignore", "-m", "greenthreads", __file__, "--run", suite, str(out), *only]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        error = ""
        try:
            done = subprocess.run(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                errors="replace", timeout=seconds, check=False,
            )  # fmt: skip
            if done.returncode:
                error = f"exit status {done.returncode}\n{done.stderr[-2000:]}"
        except subprocess.TimeoutExpired:
            error = f"no end after {seconds:g} seconds"
        found = {}
        for line in out.read_text(encoding="utf-8").splitlines():
            name, outcome, reason = json.loads(line)
            found[name] = outcome, reason
    if error:
        found[suite] = FAILED, error
    return found


def expected() -> dict[str, str]:
    """The tests that may fail, and why."""
    rows = re.findall(r"^\| `(test_[\w.]+\.[\w.]+)` \| ([^|]+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {test: reason.strip() for test, reason in rows}


def main() -> int:
    """Run the suites and compare with the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("suites", nargs="*", default=SUITES, metavar="SUITE", help=f"default: {' '.join(SUITES)}")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds for a suite")
    options = parser.parse_args()
    known = expected()
    status = 0
    for suite in options.suites:
        found = outcomes(suite, options.timeout)
        failed = [test for test, (outcome, _) in found.items() if outcome == FAILED and test not in known]
        if again := tuple(test for test in failed if test != suite):
            found.update(outcomes(suite, options.timeout, again))
        results = [outcome for outcome, _ in found.values()]
        passed = results.count(PASSED)
        print(f"{suite}: {passed} / {passed + results.count(FAILED)}", flush=True)
        for test, (outcome, reason) in found.items():
            if outcome != FAILED:
                continue
            if test in known:
                print(f"  failed, as expected: {test}: {known[test]}")
            else:
                print(f"  failed: {test}\n{reason}")
                status = 1
    return status


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        run(sys.argv[2], sys.argv[4:], sys.argv[3])
    else:
        sys.exit(main())
