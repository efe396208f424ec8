"""Whose code a frame runs: ours is passed over."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

import pytest

from greenthreads import Once
from scheduler.frames import of_the_program, traceback_of_the_program


def called_by_ours(fn: Callable[[], object]) -> None:
    Once().call(fn)


def test_the_innermost_frame_that_is_not_ours() -> None:
    me = sys._getframe()
    found: list[FrameType | None] = []

    def inner() -> None:
        mine = sys._getframe()
        assert of_the_program(mine) is mine
        caller = mine.f_back
        assert caller is not None
        assert caller.f_code.co_filename.endswith("once.py")
        beyond = of_the_program(caller)
        assert beyond is not None
        found.append(beyond.f_back)

    called_by_ours(inner)
    assert found == [me]
    assert of_the_program(None) is None


def test_a_traceback_begins_where_the_program_does() -> None:
    def fail() -> None:
        raise ValueError("ours")

    with pytest.raises(ValueError, match="ours") as raised:
        called_by_ours(fail)
    whole = raised.value.__traceback__
    assert traceback_of_the_program(whole) is whole
    ours = whole
    while ours is not None and not ours.tb_frame.f_code.co_filename.endswith("once.py"):
        ours = ours.tb_next
    begin = traceback_of_the_program(ours)
    assert begin is not None
    assert begin.tb_frame.f_code.co_name == "fail"
    assert traceback_of_the_program(None) is None
