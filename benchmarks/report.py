"""The outcome as plain text: what was measured on, a table of medians, the targets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from statistics import median

from benchmarks.libraries import LIBRARIES
from benchmarks.results import Results
from benchmarks.scenario import Contestant, Figure, Scenario

__all__ = ["number", "report", "table"]


def number(value: float) -> str:
    """Three significant digits, or all digits before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 1 else f"{value:.2g}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, left: int) -> Iterator[str]:
    """Columns as wide as they need to be; the first `left` of them flush left."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()

    yield line(head)
    yield "  ".join("-" * width for width in widths)
    yield from map(line, rows)


def cell(results: Results, scenario: Scenario, contestant: Contestant, figure: Figure) -> str:
    values = results.values(scenario, contestant, figure)
    if not values:
        return "-"
    size = scenario.quick if results.quick else scenario.size
    fewer = contestant.sized(size).threads < size.threads
    return number(median(values)) + ("*" if fewer else "")


def rows(results: Results, *, headlines: bool) -> Iterator[list[str]]:
    """A row for each figure; below a headline, one for each variant of a library."""
    for scenario in results.scenarios:
        for figure in scenario.figures[:1] if headlines else scenario.figures[1:]:
            cells = dict.fromkeys(LIBRARIES, "-")
            variants = []
            for contestant in scenario.contestants:
                shown = cell(results, scenario, contestant, figure)
                if not contestant.variant:
                    cells[contestant.library] = shown
                elif headlines and shown != "-":
                    only = dict.fromkeys(LIBRARIES, "") | {contestant.library: shown}
                    variants.append([f"  with {contestant.variant}", "", *only.values()])
            yield [scenario.titled(quick=results.quick), figure.unit, *cells.values()]
            yield from variants


def targets(results: Results) -> Iterator[list[str]]:
    for outcome in results.outcomes():
        scenario = next(each for each in results.scenarios if each.name == outcome.target.what)
        yield [
            scenario.titled(quick=results.quick),
            outcome.target.wording,
            number(outcome.ratio),
            f"{number(outcome.low)} to {number(outcome.high)}",
            outcome.verdict,
        ]


def report(results: Results) -> Iterator[str]:
    """The whole of it, line by line."""
    for name, value in results.header.items():
        yield f"{name:>18}  {value}"
    rounds = "one round" if results.repeat == 1 else f"medians of {results.repeat} rounds"
    yield f"{'measured':>18}  {rounds}, each measurement in a process of its own"
    if results.quick:
        yield f"{'quick':>18}  reduced sizes: good for a look, not for a claim"
    if results.missing:
        yield ""
        yield f"Not installed and so not measured: {', '.join(results.missing)}."
        yield "They come with the extra `bench`: pip install 'greenthreads[bench]'"
    head = ["", "", *(library.title for library in LIBRARIES.values())]
    for title, headlines in (("Less is better", True), ("The same, other figures", False)):
        found = list(rows(results, headlines=headlines))
        if found:
            yield ""
            yield title
            yield ""
            yield from table(head, found, left=2)
    if any(text.endswith("*") for row in rows(results, headlines=True) for text in row):
        yield ""
        yield "* with fewer threads than the others, 1,000, because it cannot have so many"
    judged = list(targets(results))
    if judged:
        yield ""
        yield "Targets: the ratio of the medians, and the lowest and highest of any round"
        yield ""
        yield from table(["", "target", "ratio", "range", ""], judged, left=2)
    for failure in results.failures:
        yield ""
        # The last line of a traceback says what; all of it is in the JSON.
        lines = failure.splitlines()
        yield lines[0] if len(lines) == 1 else f"{lines[0]}: {lines[-1]}"
