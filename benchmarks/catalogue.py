"""All scenarios, in the order of the report."""

from __future__ import annotations

from benchmarks import crossing, events, keeping, locking, parking, queues, serving, sleeping, spawning, yielding

__all__ = ["SCENARIOS"]

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        *yielding.SCENARIOS,
        *spawning.SCENARIOS,
        *parking.SCENARIOS,
        *sleeping.SCENARIOS,
        *locking.SCENARIOS,
        *events.SCENARIOS,
        *queues.SCENARIOS,
        *crossing.SCENARIOS,
        *keeping.SCENARIOS,
        *serving.SCENARIOS,
        *parking.MILLION,
    )
}
