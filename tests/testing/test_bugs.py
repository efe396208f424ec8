"""Programs with a bug and their repaired twins: the bug is found, shrunk and replayed; the twin is left alone."""

from __future__ import annotations

import functools
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from bugs import Pair, load
from bugs.table import Row, measure, page, render

from greenthreads.testing import explore, replay
from greenthreads.testing._memory import Memory, root_of
from greenthreads.testing._session import Session
from scheduler import trace as traces
from scheduler.strategies import Replay

if TYPE_CHECKING:
    from collections.abc import Callable

PAIRS = load()
# The options of `explore` that say how an execution runs.
HOW = ("memory", "timeouts", "max_steps", "check_locks", "check_joined")


def test_there_are_many_and_of_all_kinds() -> None:
    assert len(PAIRS) == len({pair.name for pair in PAIRS}) >= 50
    kinds = {pair.kind for pair in PAIRS}
    assert kinds == {"assertion", "exception", "deadlock", "livelock", "lock left held", "thread not joined"}
    assert all(pair.program.__doc__ for pair in PAIRS)


def test_many_are_at_plain_memory() -> None:
    plain = [pair for pair in PAIRS if pair.family in ("fields", "containers")]
    assert len(plain) >= 50
    assert all(pair.options["memory"] for pair in plain)
    # Nothing in them tells where a switch does harm.
    told = re.compile(r"pause|sleep|yield_now|checkpoint|Event|Condition|Queue|Barrier")
    assert [pair.name for pair in plain if told.search(inspect.getsource(pair.program))] == []


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_the_bug_is_found_and_replayed_a_hundred_times(pair: Pair) -> None:
    broken: Callable[[], None] = functools.partial(pair.program, False)
    found = explore(broken, max_executions=2000, max_seconds=None, **pair.options)
    failure = found.failure
    assert failure is not None
    assert failure.kind == pair.kind
    assert failure.preemptions <= 3
    how = {name: value for name, value in pair.options.items() if name in HOW}
    with pytest.raises(type(failure.exception)):
        replay(broken, failure.trace, **how)
    memory = Memory((), root_of(broken)) if how.pop("memory") else None
    how["early"] = how.pop("timeouts", "due") == "early"
    with Session(broken, memory=memory, **how) as session:
        decisions = session.numbered(traces.decode(failure.trace))
        outcomes = [session.run(Replay(decisions)) for _ in range(100)]
        assert {None if outcome is None else outcome.kind for outcome in outcomes} == {pair.kind}
        assert len({outcome.signature for outcome in outcomes if outcome is not None}) == 1
        assert len({tuple(outcome.decisions) for outcome in outcomes if outcome is not None}) == 1


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_the_repaired_twin_does_not_fail(pair: Pair) -> None:
    repaired = functools.partial(pair.program, True)
    found = explore(repaired, max_executions=150, max_seconds=None, seed=1, **pair.options)
    assert found.failure is None, found.failure.report()
    if pair.small:
        everything = explore(repaired, strategy="dfs", max_executions=4000, max_seconds=None, **pair.options)
        assert everything.failure is None, everything.failure.report()
        assert everything.exhausted


@pytest.mark.parametrize("pair", [pair for pair in PAIRS if not pair.large], ids=lambda pair: pair.name)
def test_the_repaired_twin_is_proven_with_its_memory(pair: Pair) -> None:
    how = {**pair.options, "strategy": "dpor", "memory": True}
    found = explore(functools.partial(pair.program, True), max_executions=400, max_seconds=None, **how)
    assert found.failure is None, found.failure.report()
    assert found.exhausted


def test_the_table() -> None:
    lost_update = next(pair for pair in PAIRS if pair.name == "lost_update")
    row = measure(lost_update)
    where = ("lost_update", "sharing", "assertion", "round_robin", 1, 0)
    assert row == Row(*where, row.steps, row.executions, True, row.seconds)
    assert render([row._replace(steps=9, executions=298)]) == (
        "program      family   failure    found by     executions  preemptions  steps  twin: executions\n"
        "lost_update  sharing  assertion  round_robin           1            0      9     298, all there are\n"
    )
    shown = page([row._replace(steps=9, executions=4000, exhausted=False)])
    assert shown.endswith("\n| lost_update | sharing | assertion | round_robin | 1 | 0 | 9 | 4,000 |\n")


def test_the_page_shows_all() -> None:
    root = Path(__file__).resolve().parents[2]
    text = (root / "docs" / "bug-programs.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| (\w+) \| \w+ \| [\w ]+ \| \w+ \| \d+ \|", text, re.MULTILINE)
    assert named == [pair.name for pair in PAIRS]
