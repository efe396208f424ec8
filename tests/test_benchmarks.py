"""The benchmarks measure what they say: each runs here on this project's threads, very small.

How fast anything is, is not the subject; that is for `benchmarks/run.py` to find out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import inside, sleeping
from benchmarks.catalogue import SCENARIOS
from benchmarks.libraries import LIBRARIES
from benchmarks.measure import Sample, Size, Stopwatch
from benchmarks.report import number, report
from benchmarks.results import Results
from benchmarks.scenario import Contestant, Scenario
from benchmarks.targets import TARGETS, Reading, Target, judge

ROOT = Path(__file__).resolve().parent.parent
OURS = [
    pytest.param(scenario, contestant, id=f"{scenario.name}-{contestant.variant or 'user'}")
    for scenario in SCENARIOS.values()
    for contestant in scenario.contestants
    if contestant.library == "greenthreads"
]


@pytest.mark.parametrize(("scenario", "contestant"), OURS)
def test_scenario_runs_its_threads_and_finds_figures(
    scenario: Scenario, contestant: Contestant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sleeping, "WITHIN", 0.01)
    # Memory shows only above what earlier tests have left to be used again.
    most = 5_000 if scenario.name == "memory" else 20
    size = Size(min(scenario.size.threads, most), min(scenario.size.rounds, 3))
    sample = contestant.measure(size)
    assert sample.threads == size.threads
    assert sample.operations >= 1
    assert sample.wall > 0
    figures = {figure.name: figure.read(sample) for figure in scenario.figures}
    assert all(value > 0 for value in figures.values()), figures


def test_every_scenario_has_ours_beside_others() -> None:
    for scenario in SCENARIOS.values():
        names = [contestant.name for contestant in scenario.contestants]
        assert "greenthreads" in names
        assert len(set(names)) == len(names) > 1
        assert {contestant.library for contestant in scenario.contestants} <= LIBRARIES.keys()


def test_every_target_names_what_is_measured() -> None:
    for target in TARGETS:
        for reading in (target.left, target.right):
            if reading is not None:
                scenario = SCENARIOS[reading.scenario]
                assert scenario.contestant(reading.contestant)
                assert scenario.figure(reading.figure)


def test_stopwatch_adds_up_its_stretches() -> None:
    watch = Stopwatch()
    with pytest.raises(RuntimeError, match="never started"):
        watch.sample(1, 1)
    watch.start()
    watch.stop()
    first = watch.wall
    watch.start()
    watch.stop()
    assert watch.wall > first > 0


@pytest.mark.parametrize(
    ("ours", "limit", "at_least", "ratio", "verdict"),
    [
        pytest.param([1, 2, 3], 1.0, False, 0.5, "reached", id="below"),
        pytest.param([1, 4, 5], 0.9, False, 1.0, "MISSED, not in every round", id="above"),
        pytest.param([1, 2, 5], 1.0, False, 0.5, "reached, not in every round", id="straddles"),
        pytest.param([8, 8, 8], 2.0, True, 2.0, "reached", id="at-the-limit"),
        pytest.param([4, 4, 4], 2.0, True, 1.0, "MISSED", id="too-slow"),
    ],
)
def test_medians_decide_and_the_verdict_tells_of_rounds_that_differ(
    ours: list[float], limit: float, at_least: bool, ratio: float, verdict: str
) -> None:
    left, right = Reading("a", "x", "cpu"), Reading("a", "y", "cpu")
    figures = {left: ours, right: [4.0, 4.0, 4.0]}
    outcome = judge(Target("a", left, right, limit, "", at_least), figures.__getitem__)
    assert outcome is not None
    assert (outcome.ratio, outcome.verdict) == (ratio, verdict)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1234, "0.12"), (1.234, "1.23"), (12.34, "12.3"), (1234.5, "1,234"), (0.0, "0")],
)
def test_number(value: float, text: str) -> None:
    assert number(value) == text


def test_report_shows_what_was_measured_what_failed_and_what_is_not_installed() -> None:
    scenario = SCENARIOS["lock-contended"]
    results = Results({"python": "3"}, ["gevent", "uvloop"], [scenario], quick=False, repeat=2)
    results.samples["lock-contended", "greenthreads"] = [
        Sample(10, 1_000_000, 3.0, cpu, 0.0) for cpu in (1.0, 2.0)
    ]
    results.failures.append("lock-contended, kernel: exit status 1\nTraceback\nOSError: no")
    lines = [" ".join(line.split()) for line in report(results)]
    assert [line for line in lines if not line.startswith("---")] == [
        "python 3",
        "measured medians of 2 rounds, each measurement in a process of its own",
        "",
        "Not installed and so not measured: gevent, uvloop.",
        "They come with the extra `bench`: pip install 'greenthreads[bench]'",
        "",
        "Less is better",
        "",
        "greenthreads bare greenlet gevent eventlet aiologic asyncio uvloop kernel threads",
        "lock, 10 contenders, per section µs CPU 1.50 - - - - - - -",
        "",
        "The same, other figures",
        "",
        "greenthreads bare greenlet gevent eventlet aiologic asyncio uvloop kernel threads",
        "lock, 10 contenders, per section µs wall 3.00 - - - - - - -",
        "",
        "lock-contended, kernel: exit status 1: OSError: no",
    ]


def test_the_program_measures_prints_and_writes(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), "--quick", "--json", str(found)]
    done = subprocess.run(
        [*command, "--only", "lock-free"], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "lock, uncontended" in done.stdout
    scenario = json.loads(found.read_text(encoding="utf-8"))["scenarios"][0]
    assert scenario["contestants"]["greenthreads"]["medians"]["cpu"] > 0
    assert scenario["contestants"]["kernel"]["samples"][0]["cpu_to_exit"] != 0


def test_an_unknown_name_is_refused() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), "--only", "lock-fee"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("no scenario matches 'lock-fee'; there are yield-2, yield-100")


def test_the_program_about_seeing_inside_runs(capsys: pytest.CaptureFixture[str]) -> None:
    inside.main(quick=True)
    shown = capsys.readouterr().out
    for figure in ("% each", "throughput lost", "counting steps", "dump of 5,000", "ns a switch for the trace"):
        assert figure in shown


@pytest.mark.skipif(sys.platform != "linux", reason="the program binds processes to processors")
def test_a_server_that_does_not_start_is_left_out_and_said_why(tmp_path: Path) -> None:
    """`wrk` and gunicorn are stand-ins here: the one is not called, the other ends."""
    (tmp_path / "wrk").write_text("#!/bin/sh\n", encoding="utf-8")
    (tmp_path / "wrk").chmod(0o755)
    (tmp_path / "gunicorn.py").write_text("raise SystemExit('no such worker')", encoding="utf-8")
    program = f"""
import pathlib, sys
sys.path.insert(0, {str(ROOT)!r})
sys.argv[1:] = ["--rounds", "2"]
from benchmarks import http
http.ROOT = pathlib.Path({str(tmp_path)!r})
http.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    for name in ("greenthreads", "gevent"):
        assert f"{name}: the server ended with status 1; the last it said:\nno such worker\n" in done.stdout
