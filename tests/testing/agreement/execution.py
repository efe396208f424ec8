"""The same small programs as real code, and a driver that runs every execution a strategy has, past failures."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import greenthreads
from greenthreads import queue
from greenthreads.testing._session import Session
from scheduler import control

if TYPE_CHECKING:
    from collections.abc import Callable

    from agreement.programs import Op, Program
    from scheduler.strategy import Strategy

__all__ = ["run_all"]

_MAKE: dict[str, Callable[[int], Any]] = {
    "lock": lambda _: greenthreads.Lock(),
    "rlock": lambda _: greenthreads.RLock(),
    "semaphore": greenthreads.Semaphore,
    "bounded": greenthreads.BoundedSemaphore,
    "condition": lambda _: greenthreads.Condition(),
    "condition of a lock": lambda _: greenthreads.Condition(greenthreads.Lock()),
    "event": lambda _: greenthreads.Event(),
    "queue": queue.Queue,
    "barrier": greenthreads.Barrier,
}


class Variable:
    """Shared memory that says when it is touched, if anybody wants to know, as instrumented code does."""

    def __init__(self) -> None:
        self._value = 0

    @property
    def value(self) -> int:
        """The value, read by the program."""
        if control.access is not None:
            control.access(self, (("value", False),))
        return self._value

    @value.setter
    def value(self, value: int) -> None:
        if control.access is not None:
            control.access(self, (("value", True),))
        self._value = value


def poll(is_over: Callable[[], object], pause: Callable[[], object] = int) -> None:
    """Ask until it is so, and say where rounds begin, as instrumented code does."""
    if control.rounds is not None:
        control.rounds("", True)
    while (control.rounds is None or control.rounds("", False) is None) and not is_over():
        pause()


def body_of(program: Program, report: Callable[[tuple[Any, ...]], object]) -> Callable[[], None]:
    """A function that does what the program says; `report` gets the outcome, if there is one."""

    def main() -> None:
        objects = [_MAKE[kind](argument) for kind, argument in program.objects]
        variables = [Variable() for _ in range(program.variables)]
        logs: list[list[Any]] = [[] for _ in program.threads]
        threads: list[greenthreads.Thread] = []

        def run(number: int, ops: tuple[Op, ...], log: list[Any]) -> None:
            register = 0
            for name, target, argument in ops:
                if name == "load":
                    register = variables[target].value
                    log.append(register)
                elif name == "store":
                    variables[target].value = register + 1
                elif name == "until":
                    poll(partial(getattr, variables[target], "value"), greenthreads.yield_now)
                elif name in ("until set", "until got"):
                    obj = objects[target]
                    poll(obj.is_set if name == "until set" else partial(obj.acquire, False))
                elif name == "yield":
                    greenthreads.yield_now()
                elif name == "sleep":
                    greenthreads.sleep(argument)
                elif name == "join":
                    threads[target - 1].join(argument)
                else:
                    kind = program.objects[target][0]
                    item = (number, register) if name == "put" else None
                    result = _do(objects[target], kind, name, argument, item)
                    if result is not None:
                        log.append(result)

        for number, (ops, log) in enumerate(zip(program.threads, logs, strict=True), 1):
            threads.append(greenthreads.Thread(target=run, args=(number, ops, log)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        report(("done", tuple(variable._value for variable in variables), tuple(map(tuple, logs))))

    return main


def _do(obj: Any, kind: str, name: str, argument: Any, item: Any) -> Any:
    if kind == "queue":
        return _do_on_queue(obj, name, argument, item)
    if kind == "barrier":
        try:
            return obj.wait(argument) if name == "wait" else getattr(obj, name)()
        except greenthreads.BrokenBarrierError:
            return "Broken"
    if name == "acquire":
        if argument is None:
            return obj.acquire()
        return obj.acquire(blocking=False) if argument == 0 else obj.acquire(timeout=argument)
    if name in ("wait", "notify"):
        return getattr(obj, name)(argument)
    return getattr(obj, name)()


def _do_on_queue(obj: Any, name: str, argument: Any, item: Any) -> Any:
    try:
        if name == "put":
            return obj.put(item, block=argument != 0, timeout=argument or None)
        if name == "get":
            return obj.get(block=argument != 0, timeout=argument or None)
        return obj.shutdown(argument) if name == "shutdown" else obj.qsize()
    except (queue.Full, queue.Empty, queue.ShutDown) as error:
        return type(error).__name__


class Seen:
    """What the executions of a strategy have shown."""

    def __init__(self) -> None:
        self.outcomes: set[tuple[Any, ...]] = set()
        # Each execution: its decisions, and how many of them are preemptions.
        self.schedules: list[tuple[tuple[tuple[int, str], ...], int]] = []
        self.exhausted = False
        self.complete = False
        self.fairness_used = False
        self.has_assumed = False


def run_all(
    program: Program,
    strategy: Strategy,
    early: bool = False,
    most: int = 20_000,
    memory: bool = False,
    max_steps: int = 2000,
) -> Seen:
    """Run every execution that `strategy` has, also after one has failed; at most `most`.

    With `memory` each access to a variable is a step.
    """
    seen = Seen()
    reported: list[tuple[Any, ...]] = []
    with Session(body_of(program, reported.append), early=early, max_steps=max_steps) as session:
        if memory:
            control.access = session.scheduler.memory_steps.access  # type: ignore[attr-defined,unused-ignore]
            control.rounds = session.scheduler.memory_steps.rounds
        try:
            while len(seen.schedules) < most and strategy.begin():
                reported.clear()
                failed = session.run(strategy)
                if failed is None:
                    # Nothing, if the strategy has seen on the way that this leads nowhere new.
                    seen.outcomes.update(reported)
                elif failed.kind == "deadlock":
                    seen.outcomes.add(("deadlock",))
                else:
                    seen.outcomes.add((failed.kind, type(failed.exception).__name__))
                scheduler = session.scheduler
                seen.schedules.append((tuple(scheduler.trace), len(scheduler.preemptions)))
        finally:
            control.access = control.rounds = None
        seen.fairness_used = session.scheduler.patience.was_used
        seen.has_assumed = session.scheduler.patience.has_assumed
    # As an exploration says it.
    seen.exhausted, seen.complete = strategy.exhausted and not seen.has_assumed, strategy.complete
    return seen
