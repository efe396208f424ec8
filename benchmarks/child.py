"""One measurement, in this process.

    python -m benchmarks.child SCENARIO CONTESTANT THREADS ROUNDS [--no-gc]

Prints the sample as JSON, on a line of its own, last.
"""

from __future__ import annotations

import gc
import json
import sys
from dataclasses import asdict

from benchmarks.catalogue import SCENARIOS
from benchmarks.measure import Size


def main(scenario: str, contestant: str, threads: str, rounds: str, *options: str) -> None:
    if "--no-gc" in options:
        gc.disable()
    measure = SCENARIOS[scenario].contestant(contestant).measure
    print(json.dumps(asdict(measure(Size(int(threads), int(rounds))))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
