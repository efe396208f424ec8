"""Failing schedules, kept between runs: tried first the next time, and forgotten once they no longer fail.

A folder beside the tests, in it a small text file for each test that has failed, with a trace a line, the latest first.
It can be read, mailed, edited and deleted; lines that are no trace are skipped. Several processes may work on one
folder: a file is read and rewritten under a lock that the system lets go of when a process dies.

This is a memory of hints: what is lost (a full disk, a folder that can't be written) costs a search, and is no error.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from scheduler import trace as traces

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO

__all__ = ["Store"]

_MOST_TRACES = 20
_LONGEST_LINE = 1_000_000


class Store:
    """The failing schedules of tests, in `folder`, which is made when there is something to keep."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def path(self, test: str) -> Path:
        """The file of a test: its name as far as file systems take it, and a hash that tells alike ones apart."""
        name = re.sub(r"[^A-Za-z0-9_.-]+", "_", test).strip("_.")[-80:]
        return self.folder / f"{name}-{hashlib.sha256(test.encode()).hexdigest()[:8]}.txt"

    def traces(self, test: str) -> list[str]:
        """The traces that are known to fail, the latest first."""
        try:
            with open(self.path(test), encoding="utf-8", errors="replace") as file:
                if fcntl is not None:
                    fcntl.flock(file, fcntl.LOCK_SH)
                return _traces_in(file.read())
        except OSError:
            return []

    def add(self, test: str, trace: str) -> None:
        """Keep a trace that fails."""
        self._change(test, lambda known: [trace, *(each for each in known if each != trace)])

    def remove(self, test: str, trace: str) -> None:
        """Forget a trace that no longer fails; with the last one goes the file."""
        if self.path(test).exists():
            self._change(test, lambda known: [each for each in known if each != trace])

    def _change(self, test: str, change: Callable[[list[str]], list[str]]) -> None:
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            with _locked(self.path(test)) as file:
                known = change(_traces_in(file.read()))[:_MOST_TRACES]
                if not known:
                    self.path(test).unlink()
                    return
                file.seek(0)
                file.truncate()
                file.write(f"# Failing schedules of {test!r}, tried first. Delete this file to forget them.\n")
                file.writelines(f"{each}\n" for each in known)


def _traces_in(text: str) -> list[str]:
    found = []
    for line in text.splitlines():
        line = line.strip()
        if line and not line.startswith("#") and len(line) < _LONGEST_LINE and line not in found:
            with contextlib.suppress(traces.TraceError):
                traces.decode(line)
                found.append(line)
    return found


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[IO[str]]:
    """The file, open for reading and writing, and nobody else's until it is closed."""
    while True:
        file = open(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+", encoding="utf-8", errors="replace")  # noqa: SIM115
        with file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)
                # Whoever had the lock before may have deleted the file, and this one is in no folder any more.
                try:
                    if not os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                        continue
                except FileNotFoundError:
                    continue
            yield file
            return
