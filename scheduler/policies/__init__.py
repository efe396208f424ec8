"""Policies, one on a page: `round_robin`, `priorities`, `fair`. See `scheduler.policy` for how to write another."""

from __future__ import annotations

from scheduler.policies.fair import WeightedFair
from scheduler.policies.priorities import Priorities
from scheduler.policies.round_robin import RoundRobin

__all__ = ["Priorities", "RoundRobin", "WeightedFair"]
