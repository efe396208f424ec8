"""`Timer`: a thread that waits, then calls a function, unless it was cancelled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greenthreads._event import Event
from greenthreads.thread import Thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from greenthreads.carriers import Kind

__all__ = ["Timer"]


class Timer(Thread):
    """Calls `function(*args, **kwargs)` after `interval` seconds, as `threading.Timer`, in a thread of either kind."""

    def __init__(
        self,
        interval: float,
        function: Callable[..., object],
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        kind: Kind | None = None,
    ) -> None:
        super().__init__(kind=kind)
        self.interval = interval
        self.function = function
        self.args = args if args is not None else []
        self.kwargs = kwargs if kwargs is not None else {}
        self.finished = Event()

    def cancel(self) -> None:
        """Do not call the function, if it was not called yet. From any thread."""
        self.finished.set()

    def run(self) -> None:
        """Wait, and call."""
        self.finished.wait(self.interval)
        if not self.finished.is_set():
            self.function(*self.args, **self.kwargs)
        self.finished.set()
