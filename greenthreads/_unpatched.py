"""Functions of `_thread` as they are before any patch, for modules of ours that may be imported after one."""

from __future__ import annotations

from _thread import allocate_lock, get_ident, start_new_thread

__all__ = ["allocate_lock", "get_ident", "start_new_thread"]
