"""`explore` and `replay` for tests in which memory is not the subject: its accesses are no choice points."""

from __future__ import annotations

import functools
from typing import Any

import greenthreads.testing

explore: Any = functools.partial(greenthreads.testing.explore, memory=False)
replay: Any = functools.partial(greenthreads.testing.replay, memory=False)
