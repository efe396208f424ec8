"""Whose code runs in a frame: this library's own, or the program's.

Whatever is shown to people, or judged by where it stands, is in the program's code; the frames of ours around it are
passed over.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import CodeType, FrameType, TracebackType

__all__ = [
    "OURS",
    "is_of_engine",
    "is_ours",
    "of_the_program",
    "ours_by_file",
    "outside_of_engine",
    "traceback_of_the_program",
]

# The folders of the engine and of the rest.
OURS: Final = tuple(
    os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), package, "")
    for package in ("scheduler", "greenthreads")
)


def is_ours(code: CodeType) -> bool:
    """Whether `code` is this library's own."""
    return code.co_filename.startswith(OURS)


def is_of_engine(code: CodeType) -> bool:
    """Whether `code` is the engine's."""
    return code.co_filename.startswith(OURS[0])


class _OursByFile(dict[str, bool]):
    def __missing__(self, file: str) -> bool:
        self[file] = known = file.startswith(OURS)
        return known


# File to whether it is ours, for who asks at each step of an exploration. It keeps the names of all files that it was
# asked for; programs make code under new ones as they run, so nobody else uses it.
ours_by_file: Final = _OursByFile()


def of_the_program(frame: FrameType | None) -> FrameType | None:
    """The innermost frame that is not ours: `frame`, or one of those that it was called from."""
    while frame is not None and is_ours(frame.f_code):
        frame = frame.f_back
    return frame


def outside_of_engine(frame: FrameType | None) -> FrameType | None:
    """The innermost frame that is not the engine's; see `of_the_program`."""
    while frame is not None and is_of_engine(frame.f_code):
        frame = frame.f_back
    return frame


def traceback_of_the_program(traceback: TracebackType | None) -> TracebackType | None:
    """`traceback` from the first frame on that is not ours; None if there is none."""
    while traceback is not None and is_ours(traceback.tb_frame.f_code):
        traceback = traceback.tb_next
    return traceback
