"""Which known pattern a failure is of: lost update, check-then-act, torn read, order violation, lost wakeup.

Most bugs of threads are of a few kinds. Lu, Park, Seo and Zhou, "Learning from mistakes" (ASPLOS 2008), found that 97 %
of those that are no deadlocks violate atomicity, or an order that was meant. Of one location, AVIO (Lu, Tucek, Qin and
Zhou, ASPLOS 2006) lists which interleavings of two accesses with one of another thread have no serial equivalent; of
several, MUVI (Lu et al., SOSP 2007) looks at those that are accessed together.

    lost update      T1 reads x         T2 writes x        T1 writes x, made of what it has read
    check-then-act   T1 reads x         T2 changes x       T1 does what it does only because of what it has read
    torn read        T1 reads x         T2 writes x and y  T1 reads y; or T1's reads are between T2's writes
    order violation  T1 reads x                            T2 would have written it first
    lost wakeup      T2 notifies        T1 waits           (nobody else notifies)

To find such steps in an execution is not enough: a correct program has plenty of them. Two things more are asked for.
The *source* must say that the second access hangs on the first one (`_statements`). And the pattern must be the *cause*
(Choi and Zeller, "Isolating failure-inducing thread schedules", ISSTA 2002): the same schedule is run again, but with
the two accesses in one piece, once before and once after what the other thread did in between. If it still fails, it
was something else. Where no pattern is left, nothing is said.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from greenthreads.testing._recorder import Line, stack_of
from greenthreads.testing._statements import Statements
from scheduler.control import WHOLE, Part
from scheduler.strategies.replay import Lenient
from scheduler.strategy import READS

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator
    from typing import TypeAlias

    from greenthreads.testing._recorder import Place, Recorder
    from greenthreads.testing._session import Outcome
    from scheduler.strategy import Strategy

    # Runs an execution under a strategy: how it failed, if it did, and each of its steps.
    Run: TypeAlias = Callable[[Strategy], tuple[Outcome | None, Recorder]]

__all__ = ["Pattern", "find"]

# How many executions are spent to tell whether a pattern is the cause, of how many steps at most.
_MOST_TRIALS = 40
_MOST_STEPS = 1_000
# Enough for a thread to come to its end, or to where it has to wait.
_LONG = 400
# How many of a thread's last reads may have been too early.
_LAST_READS = 6
# By which a thread looks at a primitive, to act on what it sees; by which it changes one.
_CHECKS = frozenset(("broken", "is_set", "locked", "n_waiting", "qsize"))
_CHANGES = frozenset(("abort", "acquire", "clear", "get", "notify", "put", "release", "reset", "set", "shutdown"))


class LineToSee(NamedTuple):
    """A line of the program, and what happens there."""

    what: str
    file: str
    line: int


@dataclass(frozen=True)
class Pattern:
    """What kind of bug a failure is.

    `name` is "lost update", "check-then-act", "torn read", "order violation" or "lost wakeup"; `what` the memory or the
    primitive, as the program calls it; `sentence` says who did what; `lines` are the two lines to look at (fewer where
    a thread runs no code of the program), each with what happens there.
    """

    name: str
    what: str
    sentence: str
    lines: tuple[LineToSee, ...]

    def __str__(self) -> str:
        return f"{self.name} of {self.what}: {self.sentence}"


class _Torn(NamedTuple):
    """The first and the last step of a piece that was torn, and what it would be if that is the cause."""

    begin: int
    end: int
    pattern: Pattern


def find(outcome: Outcome, recorder: Recorder, run: Run) -> Pattern | None:
    """The pattern of a failing execution, as far as it is known. Runs it again and again, changed a little."""
    if outcome.kind not in ("assertion", "exception", "deadlock") or len(recorder.lines) > _MOST_STEPS:
        return None
    return _Search(outcome, recorder, run).find()


class _Search:
    def __init__(self, outcome: Outcome, recorder: Recorder, run: Run) -> None:
        self._outcome = outcome
        self._recorder = recorder
        self._run = run
        self._trials = 0
        self._names = recorder.aliases.names()
        self._statements = Statements()
        self._steps = [(number, op == "timeout") for number, op in outcome.decisions]
        # What threads were about to do that wait for ever comes last: they act on what they have seen, too.
        waiting = [
            Line(each.thread, each.op, each.obj, each.stack[0], stack=tuple(each.stack))
            for each in recorder.blocked
            if each.stack
        ]
        self._lines = [*recorder.lines, *waiting]
        if outcome.kind != "deadlock":
            stack = stack_of(outcome.exception)
            if stack:
                self._lines.append(Line(outcome.thread, "raise", None, stack[0], stack=stack))

    def find(self) -> Pattern | None:
        if any(each.in_cycle and each.holder is not None and each.op != "join" for each in self._recorder.blocked):
            return None  # The report says who holds what: to that there is nothing to add.
        if self._outcome.kind == "deadlock":
            pattern = self._lost_wakeup()
            if pattern is not None:
                return pattern
        for torn in (self._lost_updates(), self._checks(), self._torn_reads()):
            # The shorter the piece, the more it says.
            for each in sorted(torn, key=lambda piece: piece.end - piece.begin):
                if self._is_the_cause(each):
                    return each.pattern
        return None if self._outcome.kind == "deadlock" else self._order_violation()

    # ---- What happens otherwise --------------------------------------------------------------------------------------

    def _is_the_cause(self, torn: _Torn) -> bool:
        """Whether the failure is gone if the torn piece is in one, and what came in between before or after it."""
        steps, begin, end = self._steps, torn.begin, torn.end
        me = steps[begin][0]
        mine = [step for step in steps[begin : end + 1] if step[0] == me]
        if end >= len(steps):
            # What it waits to do, or has failed to do: how much more would belong to that is not known.
            mine += [(me, False)] * (1 if self._lines[end].op != "raise" else _LONG)
        others = [step for step in steps[begin : end + 1] if step[0] != me]
        before, after = steps[:begin], steps[end + 1 :]
        first, last = [*before, *mine, *others, *after], [*before, *others, *mine, *after]
        return self._passes(first) is not None and self._passes(last) is not None

    def _passes(self, steps: list[tuple[int, bool]]) -> Recorder | None:
        """What happens if these steps are taken, as far as they can be; None if that fails, too."""
        self._trials += 1
        if self._trials > _MOST_TRIALS:
            return None
        outcome, recorder = self._run(Lenient(steps))
        return recorder if outcome is None else None

    def _with_first(self, at: int, thread: str) -> Recorder | None:
        """What happens if that thread comes to its end, or has to wait, before step `at` is taken; None: a failure."""
        number = self._recorder.session.scheduler.descent.number_of(thread)
        return self._passes([*self._steps[:at], *[(number, False)] * _LONG, *self._steps[at:]])

    # ---- Torn pieces -------------------------------------------------------------------------------------------------

    def _ends(self, begin: int) -> Iterator[tuple[int, list[Line]]]:
        """The later steps of the same thread, with what others did in between, if they did anything."""
        thread = self._lines[begin].thread
        others: list[Line] = []
        for end in range(begin + 1, len(self._lines)):
            line = self._lines[end]
            if line.thread != thread:
                others.append(line)
            elif others:
                yield end, others

    def _lost_updates(self) -> Iterator[_Torn]:
        for begin, read in enumerate(self._lines):
            part = _part(read)
            if read.op != "read" or part is None:
                continue
            for end, others in self._ends(begin):
                write = self._lines[end]
                if write.obj != read.obj or not _touches(write, part):
                    continue
                other = next((each for each in others if each.obj == read.obj and (part, True) in each.footprint), None)
                if other is not None and self._is_update(read, write):
                    one, two = read.thread, other.thread
                    yield _Torn(begin, end, self._pattern(
                        "lost update", self._name(write),
                        f"thread {two} writes it after thread {one} has read it, and thread {one} overwrites that",
                        (f"thread {one} reads", read.place), (f"thread {one} overwrites", write.place),
                    ))  # fmt: skip
                break  # From here on it has seen, or overwritten, what the others did.

    def _is_update(self, read: Line, write: Line) -> bool:
        """Whether what is written is made of what was read."""
        if (_part(read), True) not in write.footprint or not self._statements.stores(write.place, write.part):
            return False
        return self._statements.feeds(read.stack, write.stack, write.part)

    def _checks(self) -> Iterator[_Torn]:
        for begin, check in enumerate(self._lines):
            if not (check.op == "read" or check.op in _CHECKS) or not isinstance(check.obj, int):
                continue
            for end, others in self._ends(begin):
                other = next((each for each in others if _changes(each, check)), None)
                if other is None:
                    continue
                act = self._lines[end]
                again = _looks_again(act, check)
                if (again or act.op not in READS) and act.op != "end":
                    if self._decides(check, act):
                        one, two = check.thread, other.thread
                        yield _Torn(begin, end, self._pattern(
                            "check-then-act", self._name(check),
                            f"thread {two} changes it after thread {one} has looked at it, and thread {one} acts on "
                            "what it saw",
                            (f"thread {one} looks", check.place), (f"thread {one} acts", self._act_on(check, end)),
                        ))  # fmt: skip
                if again and not self._statements.stores(act.place, act.part):
                    break  # From here on it knows. (Who looks in order to write, as in `+=`, goes by the first look.)

    def _decides(self, check: Line, act: Line) -> bool:
        return self._statements.decides(check.stack, act.stack, self._name(check) if act.obj == check.obj else None)

    def _act_on(self, check: Line, end: int) -> Place:
        """Where a thread acts on what it has looked at: a line that is about the same thing says most."""
        for line in self._lines[end:]:
            if line.thread == check.thread and line.obj == check.obj:
                if self._decides(check, line):
                    return line.place
        return self._lines[end].place

    def _torn_reads(self) -> Iterator[_Torn]:
        """Two parts of one thing, read by one thread, written by another, and neither of them in one piece."""
        for begin, one in enumerate(self._lines):
            if one.op not in ("read", "write") or _part(one) is None:
                continue
            for end, others in self._ends(begin):
                two = self._lines[end]
                if one.op != two.op or not _are_parts_of_one(one, two):
                    continue
                for thread in sorted({each.thread for each in others}):
                    reader = one.thread if one.op == "read" else thread
                    if self._writes_either(reader, one, two) or (reader == thread and not self._started(thread, begin)):
                        continue
                    theirs = [each for each in others if each.thread == thread and each.op != one.op]
                    first = next((each for each in theirs if _is_of(each, one)), None)
                    second = next((each for each in theirs if _is_of(each, two)), None)
                    if first is not None and second is not None:
                        yield _Torn(begin, end, self._torn_read(one, two, first, second))

    def _writes_either(self, reader: str, one: Line, two: Line) -> bool:
        """Who reads and writes both is no reader that sees half of something: there it is the writing that is torn."""
        mine = [each for each in self._lines if each.thread == reader and each.op == "write"]
        return any(_is_of(each, part) for each in mine for part in (one, two))

    def _started(self, thread: str, at: int) -> bool:
        return thread == "0" or any(line.op == "start" and line.obj == thread for line in self._lines[:at])

    def _torn_read(self, one: Line, two: Line, first: Line, second: Line) -> Pattern:
        """Of two accesses of one thread, and two of another one to the same."""
        if one.op == "read":
            reads, writer = (one, two), first.thread
            sentence = f"thread {one.thread} reads the one before thread {writer} writes both, and the other after that"
        else:
            reads, writer = (first, second), one.thread
            sentence = f"thread {first.thread} reads both when thread {writer} has written only one of them yet"
        return self._pattern(
            "torn read", f"{self._name(one)} and {self._name(two)}", sentence,
            *((f"thread {each.thread} reads", each.place) for each in reads),
        )  # fmt: skip

    # ---- What comes too early ----------------------------------------------------------------------------------------

    def _order_violation(self) -> Pattern | None:
        """The failing thread has read what another one would have written, if it had come first."""
        thread = self._outcome.thread
        for at, read in self._last_reads(thread, stack_of(self._outcome.exception)):
            for writer in self._still_going_on(at, thread):
                if any(_changes(line, read) and line.thread == writer for line in self._recorder.lines):
                    continue
                other = self._with_first(at, writer)
                write = None if other is None else _written_by(writer, other.lines[at:], read)
                if write is not None:
                    return self._too_early(at, read, write)
        return None

    def _last_reads(self, thread: str, failing: tuple[Place, ...]) -> list[tuple[int, Line]]:
        """What the failing thread has read that may have made it fail, the latest first."""
        found: dict[object, tuple[int, Line]] = {}
        at = len(self._recorder.lines)
        turn = True
        while at and len(found) < _LAST_READS:
            at -= 1
            line = self._recorder.lines[at]
            turn = turn and line.thread == thread
            key = (line.place, line.obj, line.footprint)
            if line.thread != thread or line.op != "read" or not self._leads_to(line, failing):
                continue
            # To explain what has failed, an assertion of pytest's reads it all again: the first time counts.
            if line.footprint and (turn or key not in found):
                found[key] = at, line
        return list(found.values())

    def _leads_to(self, read: Line, failing: tuple[Place, ...]) -> bool:
        if not failing:
            return False
        return read.place == failing[0] or self._statements.feeds(read.stack, failing)

    def _too_early(self, at: int, read: Line, write: Line) -> Pattern:
        """Named after what else the reader has read: if the writer had written that already, it was torn."""
        for line in reversed(self._recorder.lines[:at]):
            if line.thread == read.thread and line.op == "read" and _are_parts_of_one(line, read):
                if self._writes_either(read.thread, line, read):
                    break
                before = [each for each in self._recorder.lines[:at] if _is_of(each, line) and each.op == "write"]
                if before and before[-1].thread == write.thread and before[-1].place[2] == write.place[2]:
                    return self._torn_read(before[-1], write, line, read)
        return self._pattern(
            "order violation", self._name(read),
            f"thread {read.thread} reads it before thread {write.thread} has written it",
            (f"thread {read.thread} reads", read.place), (f"thread {write.thread} is to write", write.place),
        )  # fmt: skip

    def _still_going_on(self, at: int, but: str) -> list[str]:
        lines = self._recorder.lines[:at]
        ended = {line.thread for line in lines if line.op == "end"}
        started = ["0", *(line.obj for line in lines if line.op == "start" and isinstance(line.obj, str))]
        return [thread for thread in started if thread != but and thread not in ended]

    def _lost_wakeup(self) -> Pattern | None:
        """A thread waits for what has been announced before, and nobody announces it again."""
        lines = self._recorder.lines
        for blocked in self._recorder.blocked:
            if not blocked.in_cycle or blocked.op not in ("wait", "wake", "resume"):
                continue
            about = [(at, line) for at, line in enumerate(lines) if line.obj == blocked.obj]
            waits = [at for at, line in about if line.op == "wait" and line.thread == blocked.thread]
            calls = [at for at, line in about if line.op in ("notify", "set") and line.thread != blocked.thread]
            if not waits or not calls or calls[-1] > waits[-1] or self._reaches_somebody(calls[-1], about):
                continue
            call, wait = lines[calls[-1]], lines[waits[-1]]
            if self._with_first(self._begin_of_turn(calls[-1]), blocked.thread) is not None:
                does = "notifies" if call.op == "notify" else "sets"
                undone = "and nobody does so again" if call.op == "notify" else "and it is cleared again before that"
                return self._pattern(
                    "lost wakeup", self._names[blocked.obj] if isinstance(blocked.obj, int) else "",
                    f"thread {call.thread} {does} it before thread {wait.thread} waits for it, {undone}",
                    (f"thread {call.thread} {does} it", call.place), (f"thread {wait.thread} waits", wait.place),
                )  # fmt: skip
        return None

    def _reaches_somebody(self, call: int, about: Iterable[tuple[int, Line]]) -> bool:
        """Whether anybody waits at the time of that call."""
        for at, line in about:
            if line.op == "wait" and at < call:
                following = (later for later in range(at + 1, call) if self._lines[later].thread == line.thread)
                if next(following, None) is None:
                    return True
        return False

    def _begin_of_turn(self, at: int) -> int:
        while at and self._steps[at - 1][0] == self._steps[at][0]:
            at -= 1
        return at

    # ---- Words -------------------------------------------------------------------------------------------------------

    def _name(self, line: Line) -> str:
        thing = self._names[line.obj] if isinstance(line.obj, int) else ""
        return line.part if line.part_alone else thing + line.part

    def _pattern(self, name: str, what: str, sentence: str, *lines: tuple[str, Place]) -> Pattern:
        return Pattern(name, what, sentence, tuple(LineToSee(does, *place[:2]) for does, place in lines if place[0]))


# ---- What steps touch ------------------------------------------------------------------------------------------------


def _part(line: Line) -> Hashable | None:
    """The attribute, item or variable that a step reads or writes; None if it is no single one."""
    part = line.footprint[0][0] if line.footprint else None
    return None if isinstance(part, Part) else part


def _touches(line: Line, part: Hashable) -> bool:
    return any(each == part or each is WHOLE for each, _writes in line.footprint)


def _is_of(line: Line, other: Line) -> bool:
    """Whether a step touches the part that another one is about."""
    part = _part(other)
    return line.obj == other.obj and part is not None and _touches(line, part)


def _are_parts_of_one(line: Line, other: Line) -> bool:
    """Whether two steps of one function are about different parts of the same thing, or different variables."""
    mine, theirs = _part(line), _part(other)
    if mine is None or theirs is None or (line.place[0], line.place[2]) != (other.place[0], other.place[2]):
        return False
    return (line.obj == other.obj and mine != theirs) or (line.part_alone and other.part_alone and mine != theirs)


def _looks_again(line: Line, check: Line) -> bool:
    """Whether a step shows a thread what it looked at before as it is now."""
    if line.obj != check.obj:
        return False
    seen = {part for part, _writes in check.footprint}
    return check.op in _CHECKS or any(part in seen or part is WHOLE or WHOLE in seen for part, _ in line.footprint)


def _changes(line: Line, check: Line) -> bool:
    """Whether a step changes what another one looks at."""
    if line.obj != check.obj:
        return False
    if check.op in _CHECKS:
        return line.op in _CHANGES
    seen = {part for part, _writes in check.footprint}
    return any(writes and (part in seen or part is WHOLE or WHOLE in seen) for part, writes in line.footprint)


def _written_by(writer: str, lines: list[Line], read: Line) -> Line | None:
    """The write of `writer` among these steps, if `read`, of another execution, sees it in this one."""
    seen = next((each for each in lines if each.thread == read.thread and each.place == read.place), None)
    written = [each for each in lines if each.thread == writer and each.op == "write"]
    for number in (read.obj, None if seen is None else seen.obj):
        if isinstance(number, int):
            there = replace(read, obj=number)
            found = next((each for each in written if _changes(each, there)), None)
            if found is not None:
                return found
    return None
