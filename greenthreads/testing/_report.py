"""The explanation of a failure: a column for each thread, a line for each step.

      ValueError in thread 2 Thread-2 (spend), after 12 steps with 1 preemption: overdrawn

           0 main        1 spend       2 spend
           ------------  ------------  ----------------------
        2  start 1, 2                                          bank.py:14  thread.start()
        4                acquire lock                          bank.py:5   with lock:
        …                …             …
                                       ValueError: overdrawn   bank.py:9   raise ValueError("overdrawn")

Below it stands what is known of the failure beyond its steps: who waits for whom, and which known pattern it is of. How
the columns are laid out is the subject of _table.py, how things are called of _words.py.
"""

from __future__ import annotations

import linecache
import shutil
import textwrap
from typing import TYPE_CHECKING

from greenthreads.testing._recorder import NOWHERE, place_of
from greenthreads.testing._table import Row, shortened, table
from greenthreads.testing._words import Words
from scheduler.control import WHOLE

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from greenthreads.testing._exploration import Failure
    from greenthreads.testing._patterns import Pattern
    from greenthreads.testing._recorder import Line, Recorder
    from scheduler.control import Footprint

__all__ = ["render"]

# Where the output is no terminal.
_WIDTH = 110
# A longer report is folded.
_MOST_ROWS = 36
_MESSAGE_LINES = 12
# The longest loop that a livelock is searched for.
_LONGEST_LOOP = 200
_ROUTINE = frozenset(("begin", "end", "join", "start"))


def render(failure: Failure, recorder: Recorder, preempting: Sequence[int], command: str, width: int | None) -> str:
    """The report as text, at most `width` columns wide (None: as wide as the terminal) but for the command."""
    if width is None:
        width = max(40, shutil.get_terminal_size((_WIDTH, 24)).columns - 1)
    words = Words(recorder)
    lines = _heading(failure, recorder, words)
    if failure.kind == "livelock":
        rows = _rows_of_livelock(recorder, words)
    else:
        rows = _folded(_rows(recorder, preempting, words))
    rows += _rows_of_failure(failure, recorder, words)
    lines += ["", *table(rows, words, width)]
    if recorder.blocked:
        lines += ["", *_who_waits(recorder, words)]
    if failure.pattern is not None:
        lines += ["", *_pattern(failure.pattern, words, width)]
    lines += ["", f"replay: {command}"]
    return "\n".join(line.rstrip() for line in lines)


# ---- The heading -----------------------------------------------------------------------------------------------------


def _message(exc: BaseException) -> list[str]:
    """The text of an exception, as lines; whatever its `__str__` does."""
    try:
        text = str(exc)
    except Exception as error:
        text = f"<its text can't be had: {type(error).__name__}>"
    return [line.rstrip() for line in text.splitlines()] or [""]


def _error(exc: BaseException) -> str:
    first = _message(exc)[0]
    return f"{type(exc).__name__}: {first}" if first else type(exc).__name__


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"


def _heading(failure: Failure, recorder: Recorder, words: Words) -> list[str]:
    after = f"after {_count(len(recorder.lines), 'step')} with {_count(failure.preemptions, 'preemption')}"
    if failure.kind == "deadlock":
        count = sum(each.in_cycle for each in recorder.blocked)
        who = "a thread waits and nothing can wake it" if count == 1 else f"{count} threads wait for ever"
        return [f"deadlock {after}: {who}"]
    if failure.kind == "livelock":
        return [f"livelock with {_count(failure.preemptions, 'preemption')}: {_message(failure.exception)[0]}"]
    if failure.kind in ("lock left held", "thread not joined"):
        return [f"{failure.kind} {after}: {_message(failure.exception)[0]}"]
    first, *others = _message(failure.exception)
    head = f"{type(failure.exception).__name__} in thread {words.thread(failure.thread)}, {after}"
    if not others:
        return [f"{head}: {first}" if first else head]
    if len(others) > _MESSAGE_LINES:
        others = [*others[:_MESSAGE_LINES], "..."]
    return [f"{head}:", *(f"  {line}" for line in (first, *others))]


# ---- Rows ------------------------------------------------------------------------------------------------------------


def _rows(recorder: Recorder, preempting: Iterable[int], words: Words) -> list[Row]:
    preempting = set(preempting)
    touched: dict[int | str | None, set[str]] = {}
    for line in recorder.lines:
        touched.setdefault(line.obj, set()).add(line.thread)
    shared = _shared_memory(recorder.lines)
    rows: list[Row] = []
    for index, line in enumerate(recorder.lines):
        if line.op == "begin" and line.thread == "0":
            continue
        if index in preempting:
            rows.append(Row("!", recorder.lines[index - 1].thread, "-- preempted --"))
        if line.op in ("read", "write") and index not in shared:
            continue
        dull = line.op in _ROUTINE or line.obj is None or len(touched[line.obj]) == 1
        last = rows[-1] if rows else None
        text = words.step(line)
        if last and last.thread == line.thread and line.op in _ROUTINE and last.place == line.place != NOWHERE:
            # `for thread in threads: thread.start()` is one line of the program, and of the report.
            if text.split()[0] == last.text.split()[0]:
                last.text += f", {text.split()[-1]}"
                continue
        rows.append(Row(str(index + 1), line.thread, text, line.place, dull))
    return rows


def _shared_memory(lines: Sequence[Line]) -> set[int]:
    """The steps on memory that several threads touch, one to write while others are there: the rest explains nothing.

    A container's length and its items are different parts, and who reads the whole reads each.
    """
    # By thing and part: who touches it, and whether it is written while others are there.
    users: dict[int | str | None, dict[Hashable, set[str]]] = {}
    written: dict[int | str | None, set[Hashable]] = {}
    several = False
    for line in lines:
        several = several or (line.op == "begin" and line.thread != "0")
        for part, writes in _parts_of(line):
            users.setdefault(line.obj, {}).setdefault(part, set()).add(line.thread)
            if writes and several:
                written.setdefault(line.obj, set()).add(part)
    shared = set()
    for index, line in enumerate(lines):
        for part, _writes in _parts_of(line):
            all_parts = users[line.obj]
            same = set(all_parts) if part is WHOLE else {part, WHOLE} & set(all_parts)
            if same & written.get(line.obj, set()) and len(set().union(*(all_parts[each] for each in same))) > 1:
                shared.add(index)
    return shared


def _parts_of(line: Line) -> Footprint:
    if line.op not in ("read", "write"):
        return ()
    # Of a key that only its object tells from others there is only the text.
    return line.footprint or ((("?", line.part), line.op == "write"),)


def _folded(rows: list[Row]) -> list[Row]:
    """Leave out what matters least, if there is too much: steps on what no other thread touches, then the middle."""
    if len(rows) <= _MOST_ROWS:
        return rows
    for index, row in enumerate(rows):
        # What is next to a switch, or to the end, shows where a thread stood.
        beside = rows[max(index - 1, 0) : index + 2]
        if any(each.thread != row.thread for each in beside) or index >= len(rows) - 3:
            row.dull = False
    folded: list[Row] = []
    index = 0
    while index < len(rows):
        end = index
        while end < len(rows) and rows[end].dull:
            end += 1
        if end - index > 2:
            folded.append(Row("", rows[index].thread, f"... {end - index} steps"))
        else:
            end = max(end, index + 1)
            folded += rows[index:end]
        index = end
    if len(folded) <= 2 * _MOST_ROWS:
        return folded
    left_out = len(folded) - 2 * _MOST_ROWS
    return [*folded[:_MOST_ROWS], Row("", "", f"... {left_out} lines left out ..."), *folded[-_MOST_ROWS:]]


def _rows_of_livelock(recorder: Recorder, words: Words) -> list[Row]:
    lines = recorder.lines

    def rows(begin: int, end: int, dull: bool = False) -> list[Row]:
        numbered = zip(range(begin + 1, end + 1), lines[begin:end], strict=True)
        return [Row(str(number), line.thread, words.step(line), line.place, dull) for number, line in numbered]

    period, begin = _loop([(line.thread, line.op, line.obj, line.place) for line in lines])
    if not period:
        # No loop that is the same each time round: the steps before the end have to do.
        first = max(0, len(lines) - 20)
        return [Row("", "", f"... {first} steps, then the last ones:"), *rows(first, len(lines))]
    times = (len(lines) - begin) // period
    what = "this step" if period == 1 else f"these {period} steps"
    return [
        *_folded(rows(1, begin, dull=True)),
        Row("", "", f"-- {what}, {times} times:"),
        *rows(begin, begin + period),
    ]


def _loop(keys: Sequence[object]) -> tuple[int, int]:
    """The length of the loop that the sequence ends in, and where it begins; (0, 0) if it ends in none."""
    count = len(keys)
    for period in range(1, min(_LONGEST_LOOP, count // 3) + 1):
        if keys[-period:] == keys[-2 * period : -period] == keys[-3 * period : -2 * period]:
            begin = count - period
            while begin and keys[begin - 1] == keys[begin - 1 + period]:
                begin -= 1
            return period, begin
    return 0, 0


def _rows_of_failure(failure: Failure, recorder: Recorder, words: Words) -> list[Row]:
    """What the table ends in."""
    if failure.kind == "deadlock":
        blocked = [each for each in recorder.blocked if each.in_cycle]
        return [Row("", each.thread, words.waiting(each), (each.stack or [NOWHERE])[0]) for each in blocked]
    if failure.kind == "livelock":
        return []
    return [Row("", failure.thread, _error(failure.exception), place_of(failure.exception), final=True)]


def _who_waits(recorder: Recorder, words: Words) -> list[str]:
    """For each thread of a deadlock what it waits for, who holds that, what it holds itself, and its stack."""
    lines = []
    for each in recorder.blocked:
        by = "" if each.holder is None or each.op == "join" else f", held by {words.thread(each.holder)}"
        lines.append(f"{words.thread(each.thread)} {words.waiting(each)}{by}")
        held = [other for other in recorder.blocked if other.holder == each.thread and other.op != "join"]
        lines += [f"    holds {words.thing(it.obj)}{_taken(recorder, each.thread, it.obj, words)}" for it in held]
        for file, line, function in each.stack:
            source = linecache.getline(file, line).strip()
            lines.append(f"    at {words.place((file, line, function))} in {function}:  {source}")
    return lines


def _taken(recorder: Recorder, thread: str, obj: int | str | None, words: Words) -> str:
    for line in reversed(recorder.lines):
        if line.thread == thread and line.obj == obj and line.op.startswith("acquire"):
            return f", taken at {words.place(line.place)}"
    return ""


def _pattern(pattern: Pattern, words: Words, width: int) -> list[str]:
    """What is known of the failure, and where to look."""
    lines = textwrap.wrap(str(pattern), width)
    rows = [(each.what, words.place((each.file, each.line, "")), each) for each in pattern.lines]
    does, places = (max([len(row[column]) for row in rows], default=0) for column in (0, 1))
    for what, place, each in rows:
        source = linecache.getline(each.file, each.line).strip()
        lines.append(shortened(f"  {what:{does}}  {place:{places}}  {source}", width))
    return lines
