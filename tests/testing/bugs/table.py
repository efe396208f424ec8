"""The table of bugs: what found each, how soon, and how small it became. `python -m bugs` prints it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

from greenthreads.testing import explore
from scheduler import trace as traces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bugs import Pair

__all__ = ["Row", "measure", "render"]


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


def measure(pair: Pair, most: int = 4000) -> Row:
    """Explore both; RuntimeError if the bug is not found, or its twin has one."""
    bug = explore(functools.partial(pair.program, False), max_executions=most, max_seconds=None, **pair.options)
    if bug.failure is None:
        raise RuntimeError(f"{pair.name}: not found in {bug.executions} executions")
    twin = explore(
        functools.partial(pair.program, True), strategy="dfs", max_executions=most, max_seconds=None, **pair.options
    )
    if twin.failure is not None:
        raise RuntimeError(f"{pair.name}: the repaired twin fails\n{twin.failure.report()}")
    steps = len(traces.decode(bug.failure.trace))
    return Row(
        pair.name, pair.family, pair.kind, bug.strategy, bug.executions, bug.failure.preemptions, steps,
        twin.executions, twin.exhausted,
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
