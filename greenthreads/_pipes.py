"""Files over pipes, terminals and the like, in which a user thread parks."""

from __future__ import annotations

import io
import warnings
from typing import Any

from greenthreads import os as _os
from scheduler.kernel import current_task
from scheduler.poller import READ, closing
from scheduler.task import UserTask

__all__ = ["Pipe", "open_pipe"]


class Pipe(io.FileIO):
    """A raw file whose reads and writes park a user thread."""

    def readinto(self, buffer: Any, /) -> int | None:
        """As the standard method."""
        self._until_readable()
        return super().readinto(buffer)

    def read(self, size: int | None = -1, /) -> bytes | None:  # type: ignore[override]
        """As the standard method."""
        if size is None or size < 0:
            return self.readall()
        self._until_readable()
        return super().read(size)

    def readall(self) -> bytes:
        """As the standard method."""
        pieces = []
        while piece := self.read(65536):
            pieces.append(piece)
        return b"".join(pieces)

    def write(self, data: Any, /) -> int | None:  # type: ignore[override]
        """As the standard method."""
        if self.closed or not self.writable() or not isinstance(current_task(), UserTask):
            return super().write(data)
        try:
            return _os.write(self.fileno(), data)
        except BlockingIOError:
            return None

    def close(self) -> None:
        """As the standard method. Whoever waits for it gets OSError (EBADF)."""
        if not self.closed and self.closefd:
            closing(self.fileno())
        super().close()

    def _until_readable(self) -> None:
        if not self.closed and self.readable() and isinstance(current_task(), UserTask):
            _os.until_ready(self.fileno(), READ)


def open_pipe(fd: int, mode: str, buffering: int = -1) -> Any:
    """`io.open(fd, mode, buffering)` for a binary mode, as a file in which user threads park."""
    raw = Pipe(fd, mode)
    if buffering == 0:
        return raw
    if buffering == 1:
        warnings.warn(
            "line buffering (buffering=1) isn't supported in binary mode, the default buffer size will be used",
            RuntimeWarning,
            stacklevel=3,
        )
    size = io.DEFAULT_BUFFER_SIZE if buffering < 0 or buffering == 1 else buffering
    return (io.BufferedWriter if "w" in mode else io.BufferedReader)(raw, size)
