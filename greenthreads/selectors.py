"""`selectors`, for threads of both kinds: the standard classes over our `select`.

What is not defined here is the standard module's.
"""

from __future__ import annotations

import selectors as _standard
from typing import TYPE_CHECKING, Any

from greenthreads import select as _ours

__all__ = [name for name in dir(_standard) if not name.startswith("_")]

for _name in __all__:
    globals().setdefault(_name, getattr(_standard, _name))
del _name

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...


class SelectSelector(_standard.SelectSelector):
    """As the standard class."""

    def _select(self, r: Any, w: Any, x: Any, timeout: float | None = None) -> Any:
        return _ours.select(r, w, x, timeout)


DefaultSelector: Any = SelectSelector

if hasattr(_standard, "PollSelector"):

    class PollSelector(_standard.PollSelector):
        """As the standard class."""

        _selector_cls = staticmethod(_ours.poll)

    DefaultSelector = PollSelector

if hasattr(_standard, "EpollSelector"):

    class EpollSelector(_standard.EpollSelector):
        """As the standard class."""

        _selector_cls = _ours.epoll

    DefaultSelector = EpollSelector

_StandardKqueue: Any = getattr(_standard, "KqueueSelector", None)
if _StandardKqueue is not None:

    class KqueueSelector(_StandardKqueue):  # type: ignore[misc]
        """As the standard class."""

        def __init__(self) -> None:
            super().__init__()
            self._selector: Any
            self._selector.close()
            self._selector = _ours.kqueue()

    DefaultSelector = KqueueSelector
