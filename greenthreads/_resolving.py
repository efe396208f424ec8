"""Names of hosts: what asks a name server, or the files of the system, is called in a kernel thread.

Unless the name is an address in digits, which is nobody's to ask. A kernel thread makes the call itself.
"""

from __future__ import annotations

import _socket
import socket as _standard
from typing import Any

from greenthreads.kernelpool import in_kernel_thread, run_in_kernel_thread
from scheduler.kernel import current_task
from scheduler.task import UserTask

__all__ = ["getaddrinfo", "gethostbyaddr", "gethostbyname", "gethostbyname_ex", "getnameinfo", "in_digits"]

# As they were when this module was imported: a program may put ours in their place.
_getaddrinfo = _standard.getaddrinfo


def getaddrinfo(
    host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
) -> list[tuple[Any, Any, int, str, Any]]:
    """As the standard function, in a kernel thread while the calling user thread is parked."""
    if host is None or (isinstance(host, str) and _is_digits(host)):
        return _getaddrinfo(host, port, family, type, proto, flags)
    return run_in_kernel_thread(_getaddrinfo, host, port, family, type, proto, flags)


def in_digits(address: Any, family: int, kind: int) -> Any:
    """`address` with digits in the place of a name that would have to be looked up; the caller's user thread parks."""
    if family not in (_standard.AF_INET, _standard.AF_INET6) or not isinstance(address, tuple) or not address:
        return address
    host = address[0]
    if not isinstance(host, str) or host in ("", "<broadcast>") or _is_digits(host):
        return address
    if not isinstance(current_task(), UserTask):
        return address
    found = run_in_kernel_thread(_getaddrinfo, host, None, family, kind)
    return (found[0][4][0], *address[1:])


def _is_digits(host: str) -> bool:
    for family in (_standard.AF_INET, _standard.AF_INET6):
        try:
            _socket.inet_pton(family, host.partition("%")[0])
            return True
        except (OSError, ValueError):
            pass
    return False


gethostbyname = in_kernel_thread(_standard.gethostbyname, "socket.gethostbyname")
gethostbyname_ex = in_kernel_thread(_standard.gethostbyname_ex, "socket.gethostbyname_ex")
gethostbyaddr = in_kernel_thread(_standard.gethostbyaddr, "socket.gethostbyaddr")
getnameinfo = in_kernel_thread(_standard.getnameinfo, "socket.getnameinfo")
