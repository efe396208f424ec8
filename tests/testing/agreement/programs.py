"""Small programs as data, and how Hypothesis draws them.

A program is objects, variables and threads; a thread is a list of operations, `(name, target, argument)`. The main
thread starts the others in order, and joins them. What a thread finds out (what it got, whether it was in time, what a
variable held) goes to its log: the logs and the variables at the end are the program's outcome.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from hypothesis import strategies as st

__all__ = ["Op", "Program", "programs"]


class Op(NamedTuple):
    """One operation. `target` is an object, a variable or a thread, by number; `argument` a timeout, mostly."""

    name: str
    target: int = 0
    argument: Any = None


class Program(NamedTuple):
    """`objects`: (kind, argument) each; `threads`: those that the main one starts."""

    objects: tuple[tuple[str, int], ...]
    threads: tuple[tuple[Op, ...], ...]
    variables: int = 2

    def main(self) -> tuple[Op, ...]:
        """What the main thread does."""
        numbers = range(1, len(self.threads) + 1)
        return (*(Op("start", n) for n in numbers), *(Op("join", n) for n in numbers))


# How long timed operations wait. Few values, so that some deadlines are equal.
_SECONDS = (1.0, 2.0)
_timeouts = st.sampled_from((None, None, None, 0, *_SECONDS))


def _operations_on(kind: str, n: int, draw: Any) -> list[Op]:
    """A few operations on object `n`: mostly sensible ones, now and then a mistake."""
    inside = [Op("load", draw(st.integers(0, 1)))] if draw(st.booleans()) else []
    if inside and draw(st.booleans()):
        inside += [Op("yield"), Op("store", inside[0].target)]
    if kind in ("lock", "rlock", "semaphore", "bounded"):
        op = draw(st.sampled_from(("with", "with", "with", "acquire", "release")))
        if op == "release":
            return [Op("release", n)]
        acquire = Op("acquire", n, draw(_timeouts))
        return [acquire, *inside] if op == "acquire" else [acquire, *inside, Op("release", n)]
    if kind in ("condition", "condition of a lock"):
        op = draw(st.sampled_from((
            Op("wait", n), Op("wait", n), Op("wait", n, 0), Op("wait", n, 1.0), Op("wait", n, 2.0),
            Op("notify", n, 1), Op("notify", n, 1), Op("notify", n, 2), Op("notify_all", n),
        )))  # fmt: skip
        if draw(st.integers(0, 9)) == 0:
            return [op]  # without the lock
        return [Op("acquire", n), *inside, op, Op("release", n)]
    if kind == "event":
        return [Op(draw(st.sampled_from(("set", "set", "clear", "is_set"))), n)] if draw(st.booleans()) else [
            Op("wait", n, draw(_timeouts))
        ]  # fmt: skip
    if kind == "barrier":
        return [Op(draw(st.sampled_from(("wait", "wait", "wait", "reset", "abort"))), n, draw(_timeouts))]
    assert kind == "queue"
    name = draw(st.sampled_from(("put", "put", "put", "get", "get", "get", "qsize", "shutdown")))
    if name == "shutdown":
        return [Op(name, n, draw(st.booleans()))]
    return [Op(name, n, draw(_timeouts) if name in ("put", "get") else None)]


def _polling(kind: str, n: int, draw: Any) -> Op:
    """A loop that asks again and again: of object `n`, or of a variable, where it yields."""
    if kind == "event" and draw(st.booleans()):
        return Op("until set", n)
    if kind in ("lock", "semaphore") and draw(st.booleans()):
        return Op("until got", n)
    return Op("until", draw(st.integers(0, 1)))


_KINDS = (
    "lock", "rlock", "semaphore", "bounded", "condition", "condition of a lock", "event", "queue", "barrier",
)  # fmt: skip
_ARGUMENTS = {"semaphore": (0, 2), "bounded": (1, 2), "queue": (0, 2), "barrier": (2, 2)}


@st.composite
def programs(draw: Any, most_threads: int = 3, most_operations: int = 5, polling: bool = False) -> Program:
    """Programs of 2 or 3 threads with a few operations each; with `polling` some are loops until something is so."""
    objects = []
    for _ in range(draw(st.integers(1, 2))):
        kind = draw(st.sampled_from(_KINDS))
        objects.append((kind, draw(st.integers(*_ARGUMENTS.get(kind, (0, 0))))))
    count = draw(st.integers(2, most_threads))
    # Three threads are shorter: what there is to see grows fast.
    most = most_operations if count == 2 else max(2, most_operations - 2)
    threads = []
    for number in range(1, count + 1):
        ops: list[Op] = []
        while len(ops) < most and draw(st.integers(0, 4)):
            what = draw(st.integers(0, 9))
            if polling and what in (0, 1, 8):
                n = draw(st.integers(0, len(objects) - 1))
                ops.append(_polling(objects[n][0], n, draw))
            elif what < 6:
                n = draw(st.integers(0, len(objects) - 1))
                ops += _operations_on(objects[n][0], n, draw)
            elif what == 6:
                ops.append(Op(draw(st.sampled_from(("load", "store"))), draw(st.integers(0, 1))))
            elif what == 7:
                ops.append(Op("yield"))
            elif what == 8:
                ops.append(Op("sleep", 0, draw(st.sampled_from(_SECONDS))))
            elif number > 1:
                ops.append(Op("join", draw(st.integers(1, number - 1)), draw(_timeouts)))
        threads.append(tuple(ops[: most + 2]))
    return Program(tuple(objects), tuple(threads))
