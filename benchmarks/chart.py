"""The outcome as a picture: one panel for each scenario, one dot for each library.

Dots rather than bars, because the scale is logarithmic and has no zero to stand on; a line through
a dot spans the rounds.
"""

from __future__ import annotations

from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.libraries import LIBRARIES
from benchmarks.report import number
from benchmarks.results import Results
from benchmarks.scenario import Scenario

__all__ = ["draw"]

COLUMNS = 3
OURS, FLOOR, PEER = "#1a7f37", "#9a6700", "#57606a"
COLOURS = {"greenthreads": OURS, "bare": FLOOR}


def panel(axes: Any, results: Results, scenario: Scenario) -> None:
    """One row for each contestant that was measured, in the order of the table's columns."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    figure = scenario.figures[0]
    order = list(LIBRARIES)
    found = sorted(
        (
            (contestant, values)
            for contestant in scenario.contestants
            if (values := results.values(scenario, contestant, figure))
        ),
        key=lambda pair: order.index(pair[0].library),
    )
    names = []
    for row, (contestant, values) in enumerate(found):
        middle, colour = median(values), COLOURS.get(contestant.library, PEER)
        axes.plot([min(values), max(values)], [row, row], color=colour, linewidth=1.5)
        axes.plot(middle, row, "o", color=colour, markersize=6)
        axes.annotate(
            number(middle), (middle, row), xytext=(7, 0), textcoords="offset points",
            va="center", fontsize=7, color=colour,
        )  # fmt: skip
        title = LIBRARIES[contestant.library].title
        names.append(f"{title}, {contestant.variant}" if contestant.variant else title)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    low, high = axes.get_xlim()
    axes.set_xlim(low, high * (high / low) ** 0.2)  # room for the last number
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="x", which="both", labelsize=6)
    axes.minorticks_off()
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_title(
        f"{scenario.titled(quick=results.quick)} · {figure.unit}", fontsize=8, loc="left"
    )


def draw(results: Results, path: Path) -> None:
    """Needs matplotlib."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown = [
        scenario
        for scenario in results.scenarios
        if any(results.samples.get((scenario.name, each.name)) for each in scenario.contestants)
    ]
    deep = max(1, ceil(len(shown) / COLUMNS))
    picture, grid = plt.subplots(
        deep,
        COLUMNS,
        figsize=(4.3 * COLUMNS, 1.9 * deep + 0.6),
        squeeze=False,
        layout="constrained",
    )
    for axes, scenario in zip(grid.flat, shown, strict=False):
        panel(axes, results, scenario)
    for axes in grid.flat[len(shown) :]:
        axes.set_visible(False)
    picture.suptitle(
        f"less is better, logarithmic · {results.header['python']}, "
        f"{results.header['processors']} processors, rounds: {results.repeat}",
        fontsize=9,
    )
    picture.savefig(path, dpi=130)
    plt.close(picture)
