"""What `threading` promises, as an interpreter of small programs, and everything that can come of one.

Written against the documentation of `threading` and `queue`, and on purpose in another way than the library: no
threads, no scheduler, no strategy. A state is a tuple; a step makes another one of it; all of them are visited.

Its assumptions are those that an exploration states. A step is an operation on a primitive with the plain code after
it; with `memory` each access to a variable is a step as well. Of all threads that could go on any may be next: whom a
release lets through is not determined, and only `notify` wakes the oldest (it says so). Time passes only when nothing
else can happen, and then to the next deadline; a wait that is due may end at any moment from then on. With `early` a
timed wait may end at any moment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agreement.programs import Op, Program

__all__ = ["TooManyStates", "outcomes", "schedules"]

_MOST_STATES = 60_000


class TooManyStates(Exception):
    """The program is not small."""


class Failed(Exception):
    """An exception that leaves a thread of the program."""


class Thread:
    """Where a thread is: `phase` says what it is about to do at operation `at`."""

    __slots__ = ("at", "deadline", "expired", "log", "phase", "register", "saved")

    def __init__(self) -> None:
        self.phase = "new"
        self.at = 0
        self.register = 0
        self.log: tuple[Any, ...] = ()
        self.deadline: float | None = None
        self.expired = False
        self.saved: Any = None

    def copy(self) -> Thread:
        """Another one in the same place."""
        other = Thread.__new__(Thread)
        for name in Thread.__slots__:
            setattr(other, name, getattr(self, name))
        return other

    def key(self) -> tuple[Any, ...]:
        """What tells two states of it apart."""
        return tuple(getattr(self, name) for name in Thread.__slots__)


class State:
    """Everything: threads, objects, variables, the time."""

    def __init__(self, program: Program, memory: bool = False) -> None:
        self.memory = memory
        self.code: tuple[tuple[Op, ...], ...] = (program.main(), *program.threads)
        self.kinds = [kind for kind, _ in program.objects]
        self.arguments = [argument for _, argument in program.objects]
        self.objects = [_new_object(kind, argument) for kind, argument in program.objects]
        self.variables = [0] * program.variables
        self.threads = [Thread() for _ in self.code]
        self.threads[0].phase = "begin"
        self.now = 0.0

    def copy(self) -> State:
        """Another one like it."""
        other = State.__new__(State)
        other.code, other.kinds, other.arguments, other.now = self.code, self.kinds, self.arguments, self.now
        other.memory = self.memory
        other.objects, other.variables = list(self.objects), list(self.variables)
        other.threads = [thread.copy() for thread in self.threads]
        return other

    def key(self) -> tuple[Any, ...]:
        """What tells two states apart."""
        return (*self.objects, *self.variables, self.now, *(thread.key() for thread in self.threads))

    # ---- Who could go on ---------------------------------------------------------------------------------------------

    def op(self, n: int) -> Op:
        """The operation that thread `n` is at."""
        return self.code[n][self.threads[n].at]

    def label(self, n: int) -> str:
        """What thread `n` is about to do, in the words of a trace."""
        thread = self.threads[n]
        if thread.phase == "op":
            name = self.op(n).name
            return {"notify_all": "notify", "load": "read", "store": "write"}.get(name, name)
        return {"parked": "resume", "retake": "acquire"}.get(thread.phase, thread.phase)

    def is_blocked(self, n: int) -> bool:
        """Whether thread `n` has to wait for others, or for time to pass."""
        thread = self.threads[n]
        if thread.phase == "parked":
            return True
        if thread.phase in ("wake", "retake"):
            waiters, lock = self.objects[self.op(n).target]
            return lock[0] is not None or (thread.phase == "wake" and n in waiters)
        if thread.phase != "op":
            return thread.phase in ("new", "done")
        op = self.op(n)
        if op.name == "sleep":
            return True
        if op.name == "join":
            return op.argument != 0 and self.threads[op.target].phase != "done"
        if op.name not in ("acquire", "put", "get") or op.argument == 0:
            return False
        return self.would_wait(n, op)

    def would_wait(self, n: int, op: Op) -> bool:
        """Whether `op` finds its object in a state in which it can't be done."""
        obj, kind = self.objects[op.target], self.kinds[op.target]
        if kind == "lock":
            return obj[0] is not None
        if kind == "rlock":
            return obj[0] not in (None, n)
        if kind == "condition":
            return obj[1][0] not in (None, n)
        if kind == "condition of a lock":
            return obj[1][0] is not None
        if kind in ("semaphore", "bounded"):
            return bool(obj == 0)
        items, is_shut = obj
        if op.name == "put":
            return not is_shut and 0 < self.arguments[op.target] <= len(items)
        return not is_shut and not items

    def choices(self, early: bool) -> list[tuple[int, bool]]:
        """Who could take the next step: (thread, whether by ending a timed wait). Lets time pass if need be."""
        while True:
            if self.is_deadlocked():
                return []
            found = []
            for n, thread in enumerate(self.threads):
                if thread.expired or not self.is_blocked(n):
                    found.append((n, False))
                elif thread.deadline is not None and (early or thread.deadline <= self.now):
                    found.append((n, True))
            # While all others poll in vain, time passes, if it can.
            if any(ends_wait or not self.polls_in_vain(n) for n, ends_wait in found):
                return found
            if not any(thread.deadline is not None for thread in self.threads):
                return found
            waiting = [(t.deadline, n) for n, t in enumerate(self.threads) if t.deadline is not None]
            if not waiting:
                return []
            self.now = min(waiting)[0]
            due = [n for deadline, n in waiting if deadline == self.now]
            for n in due:
                # Nothing but time could help a sleeper, and nobody else one who is alone.
                if len(due) == 1 or (self.threads[n].phase == "op" and self.op(n).name == "sleep"):
                    self.expire(n)

    def polls_in_vain(self, n: int) -> bool:
        """Whether thread `n` is in a loop that will go on."""
        if self.threads[n].phase != "op" or self.op(n).name not in _LOOPS:
            return False
        return not self.is_over(self.op(n))

    def is_over(self, op: Op) -> bool:
        """Whether a loop has what it asks for."""
        if op.name == "until":
            return self.variables[op.target] != 0
        obj = self.objects[op.target]
        if op.name == "until set":
            return bool(obj[1])
        return bool(obj != 0 if self.kinds[op.target] == "semaphore" else obj[0] is None)

    def poll(self, n: int, op: Op) -> None:
        """Ask once; or the yield after that."""
        thread = self.threads[n]
        if thread.saved == "yield":
            thread.saved = None
        elif not self.is_over(op):
            thread.saved = "yield" if op.name == "until" else None
        elif op.name == "until got":
            kind = self.kinds[op.target]
            self.objects[op.target] = self.objects[op.target] - 1 if kind == "semaphore" else (n, 1)
            self.go_on(n)
        else:
            self.go_on(n)

    def is_deadlocked(self) -> bool:
        """Do threads wait in a ring for one another's end, or for what only its holder can release?"""
        for n in range(len(self.threads)):
            seen = []
            while n not in seen:
                seen.append(n)
                thread = self.threads[n]
                if thread.phase != "op" or thread.deadline is not None or thread.expired or not self.is_blocked(n):
                    break
                op = self.op(n)
                if op.name == "join":
                    n = op.target
                elif self.kinds[op.target] == "rlock":
                    n = self.objects[op.target][0]
                elif self.kinds[op.target] == "condition":
                    n = self.objects[op.target][1][0]
                else:
                    break
            else:
                return True
        return False

    # ---- A step ------------------------------------------------------------------------------------------------------

    def expire(self, n: int) -> None:
        """The deadline of thread `n` has passed."""
        thread = self.threads[n]
        thread.deadline, thread.expired = None, True
        if thread.phase == "parked" and self.kinds[self.op(n).target] == "event":
            self.objects[self.op(n).target] = self.without(n)

    def without(self, n: int) -> tuple[Any, ...]:
        """The object that thread `n` waits at, when it waits there no more."""
        waiters, rest = self.objects[self.op(n).target]
        return tuple(w for w in waiters if w != n), rest

    def step(self, n: int, ends_wait: bool) -> None:
        """Thread `n` takes its step. Raises what leaves the thread."""
        if ends_wait:
            self.expire(n)
        thread = self.threads[n]
        too_late, thread.expired, thread.deadline = thread.expired, False, None
        phase = thread.phase
        if phase == "begin":
            self.announce(n)
        elif phase == "end":
            thread.phase = "done"
        elif phase == "op":
            op = self.op(n)
            if op.name == "start":
                self.threads[op.target].phase = "begin"
                self.go_on(n)
            elif op.name in ("yield", "sleep", "join"):
                self.go_on(n)
            elif op.name in ("load", "store"):
                self.access(n, op)
                self.go_on(n)
            elif op.name in _LOOPS:
                self.poll(n, op)
            else:
                kind = self.kinds[op.target]
                _OPERATIONS[kind](self, n, op, too_late or (op.argument == 0 and op.name in _CAN_WAIT
                                                            and self.would_wait(n, op)))  # fmt: skip
        elif phase == "wake":
            waiters, _lock = self.objects[self.op(n).target]
            was_notified = n not in waiters
            self.objects[self.op(n).target] = self.without(n)
            if too_late:
                thread.phase, thread.saved = "retake", (thread.saved, was_notified)
            else:
                self.take_back(n, thread.saved, True)
        elif phase == "retake":
            self.take_back(n, *thread.saved)
        elif self.kinds[self.op(n).target] == "event":
            self.go_on(n, not too_late)
        else:
            _resume_at_barrier(self, n)

    def take_back(self, n: int, count: int, was_notified: bool) -> None:
        """A condition's lock is its waiter's again."""
        target = self.op(n).target
        self.objects[target] = (self.objects[target][0], (n, count))
        self.go_on(n, was_notified)

    def go_on(self, n: int, *results: Any) -> None:
        """An operation is done; on to the next one."""
        thread = self.threads[n]
        thread.log += results
        thread.at += 1
        thread.saved = None
        self.announce(n)

    def access(self, n: int, op: Op) -> None:
        """Read or write a variable."""
        thread = self.threads[n]
        if op.name == "load":
            thread.register = self.variables[op.target]
            thread.log += (thread.register,)
        else:
            self.variables[op.target] = thread.register + 1

    def announce(self, n: int) -> None:
        """Do what is no operation on a primitive, up to one that is."""
        thread, code = self.threads[n], self.code[n]
        while not self.memory and thread.at < len(code) and code[thread.at].name in ("load", "store"):
            self.access(n, code[thread.at])
            thread.at += 1
        if thread.at == len(code):
            thread.phase = "end"
            return
        thread.phase = "op"
        op = code[thread.at]
        timed = op.name == "sleep" or (op.name in ("acquire", "put", "get", "join") and op.argument)
        if op.name == "put" and self.arguments[op.target] == 0:
            timed = False  # There is always room.
        thread.deadline = self.now + op.argument if timed else None


_LOOPS = ("until", "until set", "until got")
_CAN_WAIT = ("acquire", "put", "get")


def _new_object(kind: str, argument: int) -> Any:
    if kind in ("lock", "rlock"):
        return (None, 0)  # who has it, how often
    if kind in ("semaphore", "bounded"):
        return argument
    if kind == "queue":
        return ((), False)  # the items, whether it is shut down
    if kind == "barrier":
        return ((), False)  # who has come, whether it is broken
    if kind == "event":
        return ((), False)  # who waits, the flag
    return ((), (None, 0))  # who waits, the lock


# ---- The operations: what the documentation says, one function a kind -----------------------------------------------


def _lock(state: State, n: int, op: Op, too_late: bool) -> None:
    holder, count = state.objects[op.target]
    state.objects[op.target], results = _changed_lock(state.kinds[op.target], holder, count, n, op, too_late)
    state.go_on(n, *results)


def _changed_lock(kind: str, holder: Any, count: int, n: int, op: Op, too_late: bool) -> tuple[Any, tuple[Any, ...]]:
    is_reentrant = kind in ("rlock", "condition")
    if op.name == "acquire":
        if too_late:
            return (holder, count), (False,)
        return (n, count + 1), (True,)
    if holder is None or (is_reentrant and holder != n):
        raise Failed("RuntimeError")
    return ((None, 0) if count == 1 else (holder, count - 1)), ()


def _semaphore(state: State, n: int, op: Op, too_late: bool) -> None:
    value = state.objects[op.target]
    if op.name == "release":
        if state.kinds[op.target] == "bounded" and value == state.arguments[op.target]:
            raise Failed("ValueError")
        state.objects[op.target] = value + 1
        state.go_on(n)
    elif too_late:
        state.go_on(n, False)
    else:
        state.objects[op.target] = value - 1
        state.go_on(n, True)


def _condition(state: State, n: int, op: Op, too_late: bool) -> None:
    waiters, (holder, count) = state.objects[op.target]
    kind = state.kinds[op.target]
    if op.name in ("acquire", "release"):
        lock, results = _changed_lock(kind, holder, count, n, op, too_late)
        state.objects[op.target] = (waiters, lock)
        state.go_on(n, *results)
        return
    # A plain lock can't say who has it.
    if holder is None or (kind == "condition" and holder != n):
        raise Failed("RuntimeError")
    if op.name == "wait":
        thread = state.threads[n]
        state.objects[op.target] = ((*waiters, n), (None, 0))
        thread.phase, thread.saved = "wake", count
        if op.argument == 0:
            thread.expired = True
        elif op.argument is not None:
            thread.deadline = state.now + op.argument
    else:
        woken = len(waiters) if op.name == "notify_all" else op.argument
        state.objects[op.target] = (waiters[woken:], (holder, count))
        state.go_on(n)


def _event(state: State, n: int, op: Op, too_late: bool) -> None:
    waiters, flag = state.objects[op.target]
    if op.name == "is_set":
        state.go_on(n, flag)
    elif op.name == "clear":
        state.objects[op.target] = (waiters, False)
        state.go_on(n)
    elif op.name == "set":
        for w in waiters:
            state.threads[w].phase, state.threads[w].deadline = "resume", None
        state.objects[op.target] = ((), True)
        state.go_on(n)
    elif flag or op.argument == 0:
        state.go_on(n, flag)
    else:
        thread = state.threads[n]
        state.objects[op.target] = ((*waiters, n), flag)
        thread.phase, thread.deadline = "parked", None if op.argument is None else state.now + op.argument


def _queue(state: State, n: int, op: Op, too_late: bool) -> None:
    items, is_shut = state.objects[op.target]
    if op.name == "qsize":
        state.go_on(n, len(items))
    elif op.name == "shutdown":
        state.objects[op.target] = (() if op.argument else items, True)
        state.go_on(n)
    elif op.name == "put":
        if is_shut:
            state.go_on(n, "ShutDown")
        elif too_late:
            state.go_on(n, "Full")
        else:
            state.objects[op.target] = ((*items, (n, state.threads[n].register)), is_shut)
            state.go_on(n)
    elif too_late and not (is_shut and not items):
        state.go_on(n, "Empty")
    elif not items:
        state.go_on(n, "ShutDown")
    else:
        state.objects[op.target] = (items[1:], is_shut)
        state.go_on(n, items[0])


def _barrier(state: State, n: int, op: Op, too_late: bool) -> None:
    come, is_broken = state.objects[op.target]
    if op.name in ("reset", "abort"):
        _end_round(state, op.target, come, False)
        state.objects[op.target] = ((), op.name == "abort" or (is_broken and op.name != "reset"))
        state.go_on(n)
    elif is_broken:
        state.go_on(n, "Broken")
    elif len(come) + 1 == state.arguments[op.target]:
        _end_round(state, op.target, come, True)
        state.objects[op.target] = ((), False)
        state.go_on(n, len(come))
    else:
        thread = state.threads[n]
        if op.argument == 0:  # It has waited long enough, and that breaks the barrier.
            _end_round(state, op.target, come, False)
            state.objects[op.target] = ((), True)
            state.go_on(n, "Broken")
            return
        state.objects[op.target] = ((*come, n), False)
        thread.phase, thread.saved = "parked", (len(come), None)
        if op.argument is not None:
            thread.deadline = state.now + op.argument


def _end_round(state: State, target: int, come: tuple[int, ...], passed: bool) -> None:
    for w in come:
        thread = state.threads[w]
        thread.saved = (thread.saved[0], passed)
        thread.deadline = None
        if not thread.expired:
            thread.phase = "resume"


def _resume_at_barrier(state: State, n: int) -> None:
    index, passed = state.threads[n].saved
    if passed is None:  # Nobody else has given the verdict: it was too late.
        target = state.op(n).target
        _end_round(state, target, state.objects[target][0], False)
        state.objects[target] = ((), True)
    state.go_on(n, index if passed else "Broken")


_OPERATIONS = {
    "lock": _lock, "rlock": _lock, "semaphore": _semaphore, "bounded": _semaphore, "condition": _condition,
    "condition of a lock": _condition, "event": _event, "queue": _queue, "barrier": _barrier,
}  # fmt: skip


# ---- All of them -----------------------------------------------------------------------------------------------------


def _ending(state: State) -> tuple[Any, ...]:
    if all(thread.phase == "done" for thread in state.threads):
        return ("done", tuple(state.variables), tuple(thread.log for thread in state.threads[1:]))
    return ("deadlock",)


def outcomes(
    program: Program, early: bool = False, memory: bool = False, bound: int | None = None
) -> set[tuple[Any, ...]]:
    """Every outcome that the program can have; with at most `bound` preemptions, if there is one."""
    found = set()
    seen = set()
    # A state, who took the last step, and how many preemptions it took to get there. (Without a bound: 0, it is one.)
    to_visit: list[tuple[State, int | None, int]] = [(State(program, memory), None, 0)]
    while to_visit:
        state, last, preemptions = to_visit.pop()
        now = state.now
        choices = state.choices(early)
        if state.now != now:
            last = None  # It could not go on, or time would not have passed.
        if not choices:
            found.add(_ending(state))
        elif all(not ends_wait and state.polls_in_vain(n) for n, ends_wait in choices):
            found.add(("livelock", "Livelock"))
            continue
        could_go_on = bound is not None and (last, False) in choices and state.label(last or 0) != "yield"
        for n, ends_wait in choices:
            cost = preemptions + (could_go_on and (n, ends_wait) != (last, False))
            if bound is not None and cost > bound:
                continue
            following = state.copy()
            try:
                following.step(n, ends_wait)
            except Failed as error:
                found.add(("exception", str(error)))
                continue
            key = (following.key(), None if bound is None else n, cost)
            if key not in seen:
                seen.add(key)
                if len(seen) > _MOST_STATES:
                    raise TooManyStates
                to_visit.append((following, n, cost))
    return found


def schedules(program: Program, early: bool = False, most: int = 20_000) -> Iterator[tuple[tuple[Any, ...], int]]:
    """Every schedule, as the threads that took its steps and what they did, with its number of preemptions."""
    to_visit: list[tuple[State, tuple[Any, ...], int]] = [(State(program), (), 0)]
    count = 0
    while to_visit:
        state, path, preemptions = to_visit.pop()
        now = state.now
        choices = state.choices(early)
        if not choices:
            count += 1
            yield path, preemptions
        if count > most:
            raise TooManyStates
        last = path[-1][0] if path and state.now == now else None
        could_go_on = (last, False) in choices and state.label(last or 0) != "yield"
        for n, ends_wait in choices:
            following = state.copy()
            decision = (n, ("timeout" if early else "expire") if ends_wait else state.label(n))
            cost = preemptions + (could_go_on and (n, ends_wait) != (last, False))
            try:
                following.step(n, ends_wait)
            except Failed:
                count += 1
                yield (*path, decision), cost
                continue
            to_visit.append((following, (*path, decision), cost))
