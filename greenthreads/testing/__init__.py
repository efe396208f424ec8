"""The test harness: run ordinary threaded code under many schedules, and find the one that breaks it.

    from greenthreads.testing import interleave

    @interleave()
    def test_transfer():
        ...             # ordinary code, with `import threading`

`explore` does the same for a function, and returns what it found; `replay` runs one schedule again.
`check_linearizable` makes up the threads itself: it needs an object, and the calls that may be made on it.
"""

from __future__ import annotations

from greenthreads.testing._mutation import Mutation, Verdict, mutate
from greenthreads.testing._patterns import Pattern
from greenthreads.testing._store import Store
from greenthreads.testing.explore import Exploration, Failure, explore, interleave, replay
from greenthreads.testing.interleaving import ImpossibleOrder, Interleaving, checkpoint
from greenthreads.testing.linearizability import Call, Linearizability, NotLinearizable, check_linearizable
from scheduler.errors import ReplayDivergence
from scheduler.trace import TraceError

__all__ = [
    "Call",
    "Exploration",
    "Failure",
    "ImpossibleOrder",
    "Interleaving",
    "Linearizability",
    "Mutation",
    "NotLinearizable",
    "Pattern",
    "ReplayDivergence",
    "Store",
    "TraceError",
    "Verdict",
    "check_linearizable",
    "checkpoint",
    "explore",
    "interleave",
    "mutate",
    "replay",
]
