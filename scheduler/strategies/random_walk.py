"""Random walk: at each choice point, every thread that could go on is as likely as any other.

The yardstick: no state, no assumption, and hard to beat on small programs. Thomson, Donaldson and Betts, "Concurrency
testing using controlled schedulers: an empirical study" (TOPC 2016), found it to do as well as much cleverer methods.
Its weakness: a schedule that needs one thread to stay away for k choice points in a row has odds of 2^-k.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from scheduler.strategy import Choice, Sampler

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["RandomWalk"]


class RandomWalk(Sampler):
    """A fair coin at each choice point."""

    name = "random"

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed).random

    def choose(self, choices: Sequence[Choice], running: Choice | None) -> Choice:
        """See `Strategy`."""
        return choices[int(self._random() * len(choices))]

    def coverage(self) -> str:
        """See `Strategy`."""
        return "schedules drawn by a random walk"
