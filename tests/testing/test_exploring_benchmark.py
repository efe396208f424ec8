"""The benchmarks of exploration and of the seam measure what they say: each runs here, very small."""

from __future__ import annotations

import os

import pytest
from plain import explore

import greenthreads
from benchmarks import exhausting, exploring, seam


def test_the_programs_are_what_they_are_called() -> None:
    found = explore(exploring.program(*exploring.DINNER), **exploring.at_operations_only())
    assert found.failure is not None
    assert found.failure.kind == "deadlock"
    for what in (exploring.INCREMENTS, exploring.LOCKED, exploring.ORDERLY):
        assert explore(exploring.program(*what), max_executions=50, **exploring.at_operations_only()).failure is None


def test_we_run_as_many_executions_as_asked_for() -> None:
    measured = exploring.ours("random")(exploring.INCREMENTS, 20)
    assert measured.executions == 20
    assert measured.cpu > 0


def test_where_memory_is_the_choice_point(capsys: pytest.CaptureFixture[str]) -> None:
    assert exploring.ours("random", memory=True)(exploring.UPDATES, 20).executions == 20
    assert exploring.ours_over_and_over(exploring.UPDATES, 5).executions == 8
    exploring.lost_update(1)
    lines = capsys.readouterr().out.splitlines()
    assert "executions" in lines[2]
    assert lines[-1].endswith("   4 executions")


def test_the_table_of_the_philosophers(capsys: pytest.CaptureFixture[str]) -> None:
    exploring.dinner(1)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[2:]] == [
        "deadlock found (auto)",
        "found, repeated, shrunk and explained",
        *(f"all schedules of at most {bound} preemptions (dfs)" for bound in (0, 1, 2)),
    ]


def test_what_is_to_be_exhausted_is(capsys: pytest.CaptureFixture[str]) -> None:
    programs = {name: test for name, test in exhausting.PROGRAMS.items() if name != "2 readers, 2 writers"}
    exhausting.exhaust(programs, None)
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split("  ")[0] for line in lines] == list(programs)
    # Each fork goes to one or the other first, but not round in a ring: 30 and 62 orders. A few more are begun, and
    # abandoned when they turn out to repeat others.
    assert [line[53:].split()[:2] for line in lines[:2]] == [["31", "1"], ["67", "5"]]
    assert all(line.endswith("  exhausted, no alarm") for line in lines)


def test_executions_within_a_bound(capsys: pytest.CaptureFixture[str]) -> None:
    name = "2 readers, 1 writer"
    exhausting.within_bounds({name: exhausting.PROGRAMS[name]}, (0,), None)
    every, reduced = map(int, capsys.readouterr().out.splitlines()[-1][53:].split()[1:3])
    assert 1 < reduced < every


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="it reads /proc")
def test_a_long_run_leaves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    exploring.memory(160)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["executions", "resident", "MB", "threads"]
    assert "160 executions" in lines[-2]
    assert lines[-1].startswith("afterwards: ")


def test_the_copies_without_the_seam_work(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(seam, "ROUNDS", 2)
    monkeypatch.setattr(seam, "OPERATIONS", 3)
    greenthreads.run_scheduler(seam.measure)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(seam.CASES)
