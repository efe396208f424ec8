"""The table of bugs: what found each, how soon, and how small it became. `python -m bugs` prints it.

`python -m bugs page` prints docs/bug-programs.md.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

from greenthreads.testing import explore
from scheduler import trace as traces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bugs import Pair

__all__ = ["Row", "measure", "page", "render"]

PAGE = """\
# Programs with a bug

{count} small programs, each with one bug of a kind that is met in practice, and its repaired twin. They are in
tests/testing/bugs; `python -m bugs page`, there, makes this page. A bug is looked for by `explore` as it is, with
`strategy="auto"`; it is shrunk, and its replay fails 100 times of 100. A twin has every schedule run, up to the order
of independent steps, by `strategy="dpor"` with accesses to memory for choice points ({most:,} where there are more):
none fails.

{memory} of the programs (families `fields` and `containers`) are ordinary code on plain memory: no yield, no sleep, no
marked point. The others are about locks, conditions, queues, events, executors; their bugs are looked for with
`memory=False`, so that operations on primitives are the only choice points.

The slowest was found and shrunk in {slowest:.1f} s, on a machine that was busy with other things. "Executions" are
those until it failed, "preemptions" and "steps" of what it was shrunk to.

| program | family | failure | found by | executions | preemptions | steps | executions of the twin |
|---|---|---|---|---|---|---|---|
{rows}
"""


class Row(NamedTuple):
    """What became of a pair: of the bug, up to `steps`; and how many executions of its twin did not fail."""

    name: str
    family: str
    kind: str
    strategy: str
    found_after: int
    preemptions: int
    steps: int
    executions: int
    exhausted: bool
    # Until the bug was found and shrunk.
    seconds: float


def measure(pair: Pair, most: int = 4000) -> Row:
    """Explore both; RuntimeError if the bug is not found, or its twin has one."""
    bug = explore(functools.partial(pair.program, False), max_executions=most, max_seconds=None, **pair.options)
    if bug.failure is None:
        raise RuntimeError(f"{pair.name}: not found in {bug.executions} executions")
    how = {**pair.options, "strategy": "dpor", "memory": True}
    twin = explore(functools.partial(pair.program, True), max_executions=most, max_seconds=None, **how)
    if twin.failure is not None:
        raise RuntimeError(f"{pair.name}: the repaired twin fails\n{twin.failure.report()}")
    steps = len(traces.decode(bug.failure.trace))
    return Row(
        pair.name, pair.family, pair.kind, bug.strategy, bug.executions, bug.failure.preemptions, steps,
        twin.executions, twin.exhausted, bug.seconds,
    )  # fmt: skip


def render(rows: Sequence[Row]) -> str:
    """The table, a line for each row."""
    names = max(len(row.name) for row in rows)
    families = max(len(row.family) for row in rows)
    kinds = max(len(row.kind) for row in rows)
    finders = max(len(row.strategy) for row in rows)
    head = f"{'program':{names}}  {'family':{families}}  {'failure':{kinds}}  {'found by':{finders}}"
    lines = [f"{head}  executions  preemptions  steps  twin: executions"]
    for row in rows:
        names_of_row = f"{row.name:{names}}  {row.family:{families}}  {row.kind:{kinds}}  {row.strategy:{finders}}"
        twin = f"{row.executions:6}{', all there are' if row.exhausted else ', no failure'}"
        lines += [f"{names_of_row}  {row.found_after:10}  {row.preemptions:11}  {row.steps:5}  {twin}"]
    return "\n".join(lines) + "\n"


def page(rows: Sequence[Row], most: int = 4000) -> str:
    """The page of the documentation."""
    lines = [
        f"| {row.name} | {row.family} | {row.kind} | {row.strategy} | {row.found_after} | {row.preemptions} "
        f"| {row.steps} | {row.executions:,}{', all there are' if row.exhausted else ''} |"
        for row in rows
    ]
    memory = sum(row.family in ("fields", "containers") for row in rows)
    slowest = max(row.seconds for row in rows)
    return PAGE.format(count=len(rows), most=most, memory=memory, slowest=slowest, rows="\n".join(lines))
