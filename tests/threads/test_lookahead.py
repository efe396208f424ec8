"""Whether a `with` block may end before the interpreter looks for an asynchronous exception again."""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest

from scheduler.lookahead import _ahead, may_end_block

pytestmark = pytest.mark.skipif(sys.version_info < (3, 13), reason="before Python 3.13 the exception is not late")

nothing: Any = nullcontext()


def places(function: Callable[..., object], name: str) -> list[str]:
    """What is ahead of each instruction of the name."""
    found = [each for each in dis.get_instructions(function) if each.opname == name]
    return [_ahead(function.__code__, each.offset).name for each in found]


def loop_in_a_block() -> None:
    with nothing:
        for _ in range(3):
            pass


def loop_with_a_call_in_a_block() -> None:
    with nothing:
        for _ in range(3):
            len("a")


def two_calls() -> None:
    with nothing:
        len("a")
        len("b")


def a_call_after_the_block() -> None:
    with nothing:
        pass
    len("a")


def return_in_a_block() -> int:
    with nothing:
        return len("a")


def raise_in_a_block(error: BaseException) -> None:
    with nothing:
        len("a")
        raise error


def nothing_at_all() -> None:
    pass


def a_way_round(flag: bool) -> None:
    with nothing:
        len("a")
        if flag:
            len("b")


def test_a_loop_that_is_the_last_thing_in_a_block() -> None:
    assert places(loop_in_a_block, "JUMP_BACKWARD") == ["END"]
    assert places(loop_with_a_call_in_a_block, "JUMP_BACKWARD") == ["END"]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (loop_with_a_call_in_a_block, ["END", "LOOK"]),
        (two_calls, ["LOOK", "END"]),
        (a_call_after_the_block, ["RETURN"]),
        (return_in_a_block, ["END"]),
        (raise_in_a_block, ["END"]),
        (a_way_round, ["END", "END"]),
    ],
)
def test_calls(function: Callable[..., object], expected: list[str]) -> None:
    assert calls(function) == expected


def calls(function: Callable[..., object]) -> list[str]:
    """What is ahead of each call of `range` and `len`: those that are not the block's own."""
    instructions = list(dis.get_instructions(function))
    found = []
    for at, each in enumerate(instructions):
        loaded = [one.argval for one in instructions[max(0, at - 3) : at]]
        if each.opname == "CALL" and {"len", "range"} & {*map(str, loaded)}:
            found.append(_ahead(function.__code__, each.offset).name)
    return found


def test_the_start_of_a_function() -> None:
    assert places(nothing_at_all, "RESUME") == ["RETURN"]
    assert places(two_calls, "RESUME") == ["LOOK"]


def test_it_goes_on_in_who_called() -> None:
    """A thread at the start of `here` returns to where a block ends, or does not."""
    seen: list[bool] = []

    def here() -> None:
        seen.append(may_end_block(sys._getframe(1)))

    def last_in_a_block() -> None:
        with nothing:
            here()

    def not_last() -> None:
        with nothing:
            here()
            here()

    last_in_a_block()
    not_last()
    assert seen == [True, False, True]
    assert may_end_block(None) is False
