"""What a run has found: samples by scenario and contestant, one for each round."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from benchmarks.measure import Sample
from benchmarks.scenario import Contestant, Figure, Scenario
from benchmarks.targets import TARGETS, Outcome, Reading, judge

__all__ = ["Results"]


@dataclass
class Results:
    """Filled in while the measurements go on; complete enough to report at any moment."""

    header: dict[str, str]
    missing: list[str]
    scenarios: list[Scenario]
    quick: bool
    repeat: int
    samples: dict[tuple[str, str], list[Sample]] = field(default_factory=lambda: defaultdict(list))
    failures: list[str] = field(default_factory=list)

    def values(self, scenario: Scenario, contestant: Contestant, figure: Figure) -> list[float]:
        found = self.samples.get((scenario.name, contestant.name), [])
        return [figure.read(sample) for sample in found]

    def figures(self, reading: Reading) -> list[float]:
        scenario = next((each for each in self.scenarios if each.name == reading.scenario), None)
        if scenario is None:
            return []
        contestant = scenario.contestant(reading.contestant)
        return self.values(scenario, contestant, scenario.figure(reading.figure))

    def outcomes(self) -> list[Outcome]:
        """Only of the targets for which both sides were measured."""
        judged = (judge(target, self.figures) for target in TARGETS)
        return [outcome for outcome in judged if outcome is not None]

    def as_json(self) -> dict[str, Any]:
        return {
            "header": self.header,
            "missing": self.missing,
            "quick": self.quick,
            "repeat": self.repeat,
            "scenarios": [self._scenario_as_json(scenario) for scenario in self.scenarios],
            "targets": [
                {
                    "scenario": outcome.target.what,
                    "target": outcome.target.wording,
                    "ratio": outcome.ratio,
                    "lowest": outcome.low,
                    "highest": outcome.high,
                    "reached": outcome.reached,
                }
                for outcome in self.outcomes()
            ],
            "failures": self.failures,
        }

    def _scenario_as_json(self, scenario: Scenario) -> dict[str, Any]:
        contestants: dict[str, Any] = {}
        for contestant in scenario.contestants:
            found = self.samples.get((scenario.name, contestant.name))
            if found:
                contestants[contestant.name] = {
                    "threads": found[0].threads,
                    "medians": {
                        figure.name: median(self.values(scenario, contestant, figure))
                        for figure in scenario.figures
                    },
                    "samples": [asdict(sample) for sample in found],
                }
        return {
            "name": scenario.name,
            "title": scenario.titled(quick=self.quick),
            "units": {figure.name: figure.unit for figure in scenario.figures},
            "contestants": contestants,
        }
