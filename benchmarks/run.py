"""Measure greenthreads beside its peers: `python benchmarks/run.py --help`."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if not __package__:
    # Run as a script. Python has put this folder first on the path; the one above it is wanted, so
    # that the checkout is measured and no module here hides another of its name.
    sys.path[0] = str(ROOT)

from benchmarks import libraries  # noqa: E402
from benchmarks.catalogue import SCENARIOS  # noqa: E402
from benchmarks.measure import Sample  # noqa: E402
from benchmarks.report import report  # noqa: E402
from benchmarks.results import Results  # noqa: E402
from benchmarks.scenario import Contestant, Scenario  # noqa: E402

TIMEOUT = 300


def cpu_of_children() -> float | None:
    """CPU seconds of all child processes that have ended; None where the system does not tell."""
    try:
        import resource
    except ImportError:
        return None
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(scenario: Scenario, contestant: Contestant, *, quick: bool, gc: bool) -> Sample:
    """One measurement in a process of its own; RuntimeError with the reason if it fails."""
    size = contestant.sized(scenario.quick if quick else scenario.size)
    command = [sys.executable, "-m", "benchmarks.child", scenario.name, contestant.name]
    command += [str(size.threads), str(size.rounds), *([] if gc else ["--no-gc"])]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    before = cpu_of_children()
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"no end after {TIMEOUT} s") from None
    if done.returncode != 0:
        raise RuntimeError(f"exit status {done.returncode}\n{done.stderr.strip()}")
    sample = Sample(**json.loads(done.stdout.splitlines()[-1]))
    after = cpu_of_children()
    if before is None or after is None:
        return sample
    return replace(sample, cpu_to_exit=after - before - sample.began)


def turns(results: Results) -> Iterator[tuple[Scenario, Contestant]]:
    """Every measurement in its order.

    Within a round the libraries take turns; who is first changes from round to round.
    """
    for scenario in results.scenarios:
        taking_part = [each for each in scenario.contestants if each.library not in results.missing]
        for number in range(results.repeat):
            first = number % len(taking_part) if taking_part else 0
            for contestant in taking_part[first:] + taking_part[:first]:
                yield scenario, contestant


def conduct(results: Results, *, gc: bool) -> None:
    """Make all measurements; Ctrl-C ends them early, and what was found until then counts."""
    order = list(turns(results))
    progress = sys.stderr.isatty()
    failed: set[tuple[str, str]] = set()
    try:
        for done, (scenario, contestant) in enumerate(order):
            key = (scenario.name, contestant.name)
            if progress:
                print(f"\r\033[K[{done}/{len(order)}] {' '.join(key)}", end="", file=sys.stderr)
            if key in failed:
                continue
            try:
                sample = measure(scenario, contestant, quick=results.quick, gc=gc)
            except RuntimeError as error:
                failed.add(key)
                results.failures.append(f"{scenario.name}, {contestant.name}: {error}")
            else:
                results.samples[key].append(sample)
    except KeyboardInterrupt:
        results.failures.append("interrupted: not all was measured")
    if progress:
        print("\r\033[K", end="", file=sys.stderr)


def chosen(patterns: Sequence[str] | None, *, million: bool) -> list[Scenario]:
    """Scenarios by name or shell pattern; those that are large only if asked for."""
    if patterns is None:
        return [each for each in SCENARIOS.values() if million or not each.on_request]
    found = [
        each
        for name, each in SCENARIOS.items()
        if any(fnmatchcase(name, pattern) for pattern in patterns)
    ]
    for pattern in patterns:
        if not any(fnmatchcase(each.name, pattern) for each in found):
            raise SystemExit(f"no scenario matches {pattern!r}; there are {', '.join(SCENARIOS)}")
    return found


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks/run.py",
        description="Measure greenthreads beside gevent, eventlet, asyncio, uvloop, kernel "
        "threads and bare greenlets.",
        epilog=f"scenarios: {', '.join(SCENARIOS)}",
    )
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="only these scenarios; 'yield-*' works too"
    )
    parser.add_argument("--million", action="store_true", help="also a million parked threads")
    parser.add_argument("--quick", action="store_true", help="one round with reduced sizes")
    parser.add_argument("--repeat", type=int, metavar="N", help="rounds (3; with --quick 1)")
    parser.add_argument("--no-gc", action="store_true", help="without the garbage collector")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all samples to this file")
    parser.add_argument("--png", type=Path, metavar="OUT", help="draw a chart into this file")
    options = parser.parse_args(argv)
    if options.repeat is None:
        options.repeat = 1 if options.quick else 3
    if options.repeat < 1:
        parser.error("--repeat must be at least 1")
    if options.png and find_spec("matplotlib") is None:
        parser.error("--png needs matplotlib: pip install 'greenthreads[bench]'")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """0, or 1 if a measurement failed. A missed target is a finding, not a failure."""
    options = arguments(argv)
    results = Results(
        header=libraries.header(),
        missing=libraries.missing(),
        scenarios=chosen(options.only, million=options.million),
        quick=options.quick,
        repeat=options.repeat,
    )
    if options.no_gc:
        results.header["garbage collector"] = "off"
    conduct(results, gc=not options.no_gc)
    for line in report(results):
        print(line)
    if options.json:
        options.json.write_text(json.dumps(results.as_json(), indent=1) + "\n", encoding="utf-8")
    if options.png:
        from benchmarks.chart import draw

        draw(results, options.png)
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main())
