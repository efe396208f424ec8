"""Mutation of synchronisation: does any test notice if a lock is not there?

The tests run once as they are; that shows which of them reach which lock. Then one place at a time is made worse (see
`_sites`), and the tests that reach it are explored again until one fails: it has *killed* the mutant. If none does, the
mutant has *survived*: nothing that the tests do depends on the lock being so.

Sources stay as they are, on disk and in memory: a mutant is a module's instrumented code, which functions are lent for
an exploration.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from greenthreads.testing._mutants import Mutant, Mutants
from greenthreads.testing.explore import explore, raise_failure
from scheduler.errors import ReplayDivergence

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenthreads.testing._exploration import Exploration

__all__ = ["Mutation", "Trial", "Verdict", "mutate"]

_now = time.monotonic
# How many places are named that no test came by.
_SHOWN: Final = 8
# The seconds that a test has whose turn comes when the time is up: it may still fail at once.
_LEAST: Final = 0.001


class Trial(NamedTuple):
    """A test under a mutant: the kind of its failure, or None; whether every schedule was tried, in how many."""

    failure: str | None
    exhausted: bool
    executions: int


class Verdict(NamedTuple):
    """What became of a mutant. `killed_by` is the test that noticed, in the last of `executions`; else it has survived.

    `exhausted` says that it has survived every schedule of all `tests` that reach it.
    """

    mutant: Mutant
    killed_by: str | None
    failure: str | None
    executions: int
    exhausted: bool
    tests: int

    @property
    def place(self) -> str:
        """Where: file and line."""
        return f"{_short(self.mutant.site.filename)}:{self.mutant.site.line}"

    def __str__(self) -> str:
        count = f"{self.executions} execution{'s' * (self.executions != 1)}"
        if self.killed_by is not None:
            return f"killed by {self.killed_by} after {count} ({self.failure})"
        tests = f"{self.tests} test{'s' * (self.tests != 1)}"
        return f"SURVIVED {tests}, {count}, {'every schedule' if self.exhausted else 'not exhausted'}"


class Mutation:
    """All mutants of the code that some tests reach, and what became of each.

    `verdicts` has an entry for each mutant, in the order of the source; `survivors` are those that no test noticed;
    `unreached` the places that might be locks, and that no test came by. As text it is a table.
    """

    def __init__(self, spared: Callable[[str], bool] = lambda _filename: False) -> None:
        """Files for which `spared` is true are left alone."""
        self.mutants_of = Mutants(spared)
        self.verdicts: list[Verdict] = []

    def mutants(self) -> list[Mutant]:
        """All changes of places that a test has reached."""
        known = self.mutants_of
        return [
            Mutant(site, change)
            for filename in sorted(known.sites)
            for site, changes in known.sites[filename]
            if site in known.reached
            for change in changes
            # By a guard, the lock alone is changed; statements move whatever is entered.
            if change.how == "removed" or site not in known.others
        ]

    def judge(self, mutant: Mutant, run: Callable[[str, float, str | None], Trial], seconds: float) -> Verdict:
        """Run the tests that reach a mutant until one fails, at most about `seconds` altogether.

        `run` is given a test, the seconds for it, and the test that comes next.
        """
        tests = list(self.mutants_of.reached[mutant.site])
        end = _now() + seconds
        executions = 0
        exhausted = True
        for index, test in enumerate(tests):
            share = max(end - _now(), _LEAST) / (len(tests) - index)
            with self.mutants_of.applied(mutant):
                trial = run(test, share, tests[index + 1] if index + 1 < len(tests) else None)
            executions += trial.executions
            exhausted = exhausted and trial.exhausted
            if trial.failure is not None:
                return self._end(Verdict(mutant, test, trial.failure, executions, False, len(tests)))
        return self._end(Verdict(mutant, None, None, executions, exhausted, len(tests)))

    def _end(self, verdict: Verdict) -> Verdict:
        self.verdicts.append(verdict)
        return verdict

    @property
    def survivors(self) -> list[Verdict]:
        """The mutants that no test has noticed."""
        return [verdict for verdict in self.verdicts if verdict.killed_by is None]

    @property
    def unreached(self) -> list[str]:
        """Places that no test came by, so that nobody knows whether a lock is there; in files where others are."""
        known = self.mutants_of
        files = {site.filename for site in known.reached}
        return [
            f"{_short(site.filename)}:{site.line} {site.text}"
            for filename in sorted(files)
            for site, _changes in known.sites[filename]
            if site not in known.reached and site not in known.others
        ]

    def __str__(self) -> str:
        places = max((len(verdict.place) for verdict in self.verdicts), default=0)
        changes = max((len(verdict.mutant.change.text) for verdict in self.verdicts), default=0)
        lines = [f"{each.place:{places}}  {each.mutant.change.text:{changes}}  {each}" for each in self.verdicts]
        count = len(self.verdicts)
        if count:
            lines.append(f"{count} mutant{'s' * (count != 1)}, {len(self.survivors)} survived")
        else:
            lines.append("no lock of the code under test was reached: there is nothing to mutate")
        if self.unreached:
            more = len(self.unreached) - _SHOWN
            shown = ", ".join(self.unreached[:_SHOWN]) + (f", and {more} more" if more > 0 else "")
            lines.append(f"never reached, whatever they are: {shown}")
        return "\n".join(lines)


def _short(filename: str) -> str:
    path = os.path.relpath(filename)
    return os.path.basename(filename) if path.startswith(os.pardir) else path


def mutate(*tests: Callable[[], object], seconds: float = 10.0, **options: Any) -> Mutation:
    """Remove or narrow each lock that `tests` reach, one at a time, and explore the tests until one fails.

    `options` are those of `explore`, which decide on the modules as well: those below the project's root, with those
    of the tests. `seconds` is for one mutant, by all tests together. Blocks.

    The tests must pass as they are: what one of them raises is raised. ValueError if `seconds` is not above 0.
    """
    if seconds <= 0:
        raise ValueError(f"seconds must be above 0, not {seconds!r}")
    mutation = Mutation()
    by_name: dict[str, Callable[[], object]] = {}
    for test in tests:
        name = getattr(test, "__qualname__", repr(test))
        by_name[name] = test
        with mutation.mutants_of.observing(name):
            found = explore(test, **options)
        if found.failure is not None:
            raise_failure(found.failure, note=True)

    def run(name: str, share: float, _following: str | None) -> Trial:
        try:
            return trial_of(explore(by_name[name], **for_mutants(options, share)))
        except ReplayDivergence:
            # It does not do the same again under the same schedule: that does not go unnoticed, either.
            return Trial("divergence", False, 0)

    for mutant in mutation.mutants():
        mutation.judge(mutant, run, seconds)
    mutation.mutants_of.end()
    return mutation


def for_mutants(options: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The options of a test for its exploration under a mutant: nobody will read of its failure, or have it again."""
    most = options.get("max_seconds", 10.0)
    changed = {**options, "max_seconds": seconds if most is None else min(most, seconds), "shrinking": False}
    if options.get("races", "report") == "report":
        changed["races"] = "off"
    return {**changed, "store": None, "first": ()}


def trial_of(found: Exploration) -> Trial:
    """What an exploration has found, for a verdict."""
    return Trial(None if found.failure is None else found.failure.kind, found.exhausted, found.executions)
