"""Files on disks, and `input`, through kernel threads.

A disk is always "ready", so no poller tells when a read of it would not block. Where that matters (a network share, a
slow disk) `open` gives a file each of whose calls is made in a kernel thread while the user thread that makes it is
parked. It is asked for by name, or by `patch_all(files=True)`: handing a call over costs tens of microseconds, and most
reads of files cost less.
"""

from __future__ import annotations

import builtins
import io
from typing import Any

from greenthreads.kernelpool import run_in_kernel_thread

__all__ = ["File", "input", "open"]

_open, _input = builtins.open, builtins.input

# What may have to wait for the disk. Everything else is asked of the file itself.
_BLOCKING = (
    "close", "flush", "peek", "read", "read1", "readinto", "readinto1", "readline", "readlines", "seek", "tell",
    "truncate", "write", "writelines",
)  # fmt: skip


class File:
    """A file of the standard library, each of whose calls is made in a kernel thread.

    Has all attributes of the file, which itself is `wrapped`. As little as the standard files is it to be used by
    several threads at once without a lock.
    """

    def __init__(self, wrapped: Any) -> None:
        self.wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.wrapped, name)
        if name not in _BLOCKING:
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            return run_in_kernel_thread(value, *args, **kwargs)

        call.__name__ = name
        return call

    def __enter__(self) -> File:
        self.wrapped.__enter__()
        return self

    def __exit__(self, *args: Any) -> None:
        run_in_kernel_thread(self.wrapped.close)

    def __iter__(self) -> File:
        return self

    def __next__(self) -> Any:
        line = run_in_kernel_thread(self.wrapped.readline)
        if not line:
            raise StopIteration
        return line

    def __repr__(self) -> str:
        return f"<File {self.wrapped!r}>"


# To whoever asks, it is a file.
io.IOBase.register(File)


def open(*args: Any, **kwargs: Any) -> Any:
    """As `open`; the file is opened, and everything done with it, in kernel threads while the caller is parked."""
    return File(run_in_kernel_thread(_open, *args, **kwargs))


def input(prompt: object = "", /) -> str:
    """As `input`, in a kernel thread while the calling user thread is parked. Ctrl-C is the main thread's."""
    return run_in_kernel_thread(_input, prompt)
