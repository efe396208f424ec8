"""The table of a report: a column for each thread, a line for each row, with its place in the source.

Each line has a single entry, so columns may overlap where the page is narrow: the entry then begins where its column
does, and what it says goes on into the columns to its right. Where even that is too wide, place and source go on a line
of their own.
"""

from __future__ import annotations

import linecache
from dataclasses import dataclass
from typing import TYPE_CHECKING

from greenthreads.testing._recorder import NOWHERE

if TYPE_CHECKING:
    from greenthreads.testing._recorder import Place
    from greenthreads.testing._words import Words

__all__ = ["Row", "shortened", "table"]

# A page of fewer columns than this has two lines for a step.
_NARROW = 76


@dataclass
class Row:
    """One line of the table. Without a thread it stands across all columns."""

    number: str
    thread: str
    text: str
    place: Place = NOWHERE
    # Whether it may be folded away.
    dull: bool = False
    # The last one, which has the space to its right to itself.
    final: bool = False


def _order(thread: str) -> list[int]:
    return [int(part) for part in thread.split(".")]


def table(rows: list[Row], words: Words, width: int) -> list[str]:
    """The lines of the table, with a heading, at most `width` columns wide."""
    threads = sorted({row.thread for row in rows if row.thread}, key=_order)
    headings = {thread: words.heading(thread) for thread in threads}
    gutter = max([3, *(len(row.number) for row in rows)]) + 2
    places = {id(row): words.place(row.place) for row in rows}
    place_width = min(max([*map(len, places.values()), 0]), 28)
    narrow = width < _NARROW
    room = width - gutter if narrow else width - gutter - place_width - max(24, width // 4)
    begins = _columns(rows, threads, headings, max(room, 16))
    lines = [" " * gutter + line for line in _head(threads, headings, begins, width - gutter)]
    text_width = max([begins.get(row.thread, 0) + len(row.text) for row in rows if row.place[0]] or [0])
    text_width = min(max(text_width, 0), max(room, 16))
    for row in rows:
        begin = begins.get(row.thread, 0)
        most = (text_width if row.place[0] and not narrow else width - gutter) - begin
        if row.final and not narrow:
            most = max(most, width - gutter - place_width - 4 - begin)
        text = " " * begin + shortened(row.text, max(most, 12))
        line = f"{row.number:>{gutter - 2}}  {text}"
        if row.place[0]:
            source = linecache.getline(row.place[0], row.place[1]).strip()
            if narrow:
                lines.append(line)
                line = " " * (gutter + 2) + shortened(f"{places[id(row)]}  {source}", width - gutter - 2)
            else:
                line = f"{line:{gutter + text_width}}  {places[id(row)]:{place_width}}  "
                line += shortened(source, width - len(line)) if width - len(line) > 3 else ""
        lines.append(line)
    return lines


def _columns(rows: list[Row], threads: list[str], headings: dict[str, str], room: int) -> dict[str, int]:
    """Where each thread's column begins. They stand side by side if there is room for that, else they overlap."""
    widths = {thread: len(heading) for thread, heading in headings.items()}
    for row in rows:
        if row.thread and not row.final:
            widths[row.thread] = max(widths[row.thread], min(len(row.text), 40))
    apart = sum(widths.values()) + 2 * (len(threads) - 1) <= room
    begins: dict[str, int] = {}
    at = 0
    stride = max(2, (room - max([*widths.values(), 0])) // max(1, len(threads) - 1))
    for thread in threads:
        begins[thread] = min(at, max(0, room - 12))
        at += widths[thread] + 2 if apart else stride
    return begins


def _head(threads: list[str], headings: dict[str, str], begins: dict[str, int], width: int) -> list[str]:
    """The headings: in one line if they fit, else in one each."""
    names = rules = ""
    for thread in threads:
        begin, heading = begins[thread], headings[thread]
        if names and len(names) + 2 > begin:
            return [" " * begins[each] + shortened(headings[each], max(12, width - begins[each])) for each in threads]
        names = names.ljust(begin) + heading
        rules = rules.ljust(begin) + "-" * len(heading)
    return [names, rules]


def shortened(text: str, room: int) -> str:
    """`text`, cut off where there is no room for more."""
    return text if len(text) <= room else text[: max(room - 3, 0)] + "..."
