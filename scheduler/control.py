"""The seam for a controlled scheduler.

Every public operation of a primitive is one step. It calls `announce` first, with the operation's name and the object,
when there is one to call. In production there is none, and the whole cost is this global check:

    if control.announce is not None:
        control.announce("acquire", self)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

announce: Callable[[str, object], None] | None = None
