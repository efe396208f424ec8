"""The engine: user threads, parking and waking, deadlines, and the loop that runs them.

It knows nothing of `threading`'s API; that is `greenthreads`, over it. The chapters, in the order to read them:
`task` (what a thread is to the engine, and its states), `continuation` (the stacks that threads run on), `loop` (who
runs next), `timers` and `clock`, `waitqueue` (how threads wait), `kernel` (kernel threads in the same queues),
`deadlock`, `signals`, `fork`, `timeslices` and `stepping`, `policy`, `observers`, `control`; then, for explored
executions, `controlled_task`, `controlled`, `patience` and `polling`, `strategy`, `dependence` and `races`.
"""

from __future__ import annotations

from scheduler.clock import Clock, MonotonicClock, VirtualClock
from scheduler.errors import Deadlock, ReplayDivergence, SchedulerBug, SchedulerError, TaskExit
from scheduler.functions import run_scheduler, sleep, yield_now
from scheduler.kernel import current_task
from scheduler.loop import Scheduler
from scheduler.observers import Observer
from scheduler.policy import Policy
from scheduler.task import State, Task
from scheduler.timeslices import Steps, no_preemption
from scheduler.waitqueue import WaitQueue

__all__ = [
    "Clock",
    "Deadlock",
    "MonotonicClock",
    "Observer",
    "Policy",
    "ReplayDivergence",
    "Scheduler",
    "SchedulerBug",
    "SchedulerError",
    "State",
    "Steps",
    "Task",
    "TaskExit",
    "VirtualClock",
    "WaitQueue",
    "current_task",
    "no_preemption",
    "run_scheduler",
    "sleep",
    "yield_now",
]
