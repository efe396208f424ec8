"""Traces: the decisions of an execution as a short string that can be printed, kept, and typed in.

    g1:0BS2/1BA/2BA/1A/2A.1f3a9c02

`g1:`, then turns separated by slashes, a dot, and a checksum. A turn is a thread and what it did until another one took
over: `0BS2` is the main thread, beginning and starting two threads. A thread is named by its descent (`2.1`: the first
that the main thread's second one started), an operation by a letter, or by its name between underscores.

So a trace holds on another Python, and after a change to the code that leaves the operations alone. A long one is
packed, and then begins with `g1:-`.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import re
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TraceError", "decode", "encode"]

_PREFIX = "g1:"
# A longer one is packed.
_LONGEST = 160
# A trace that unpacks to more is not one of ours.
_MOST_BYTES = 4_000_000

_LETTERS = {
    "abort": "a",
    "acquire": "A",
    "acquire_read": "d",
    "acquire_write": "e",
    "begin": "B",
    "call": "l",
    "clear": "C",
    "end": "E",
    "expire": "x",
    "get": "G",
    "is_alive": "L",
    "is_set": "I",
    "join": "J",
    "locked": "K",
    "notify": "N",
    "put": "P",
    "qsize": "Q",
    "read": "r",
    "release": "R",
    "reset": "s",
    "return": "n",
    "resume": "U",
    "set": "T",
    "sleep": "Z",
    "start": "S",
    "task_done": "D",
    "timeout": "X",
    "wait": "W",
    "wake": "V",
    "write": "w",
    "yield": "Y",
}
_NAMES = {letter: name for name, letter in _LETTERS.items()}

_TURN = re.compile(r"(\d+(?:\.\d+)*)(.+)", re.ASCII)
_OP = re.compile(r"([A-Za-z]|_[A-Za-z0-9-]+_)(\d*)", re.ASCII)

# A decision: the thread, by its descent, and what it did.
Decision = tuple[str, str]


class TraceError(ValueError):
    """A string is no trace, or not a whole one; the message shows it and says what is wrong."""


def encode(decisions: Sequence[Decision]) -> str:
    """The trace of these decisions, one a step."""
    turns = []
    for path, turn in itertools.groupby(decisions, key=lambda decision: decision[0]):
        ops = []
        for op, times in itertools.groupby(op for _path, op in turn):
            count = sum(1 for _ in times)
            ops.append(_LETTERS.get(op, f"_{op.replace('_', '-')}_") + (str(count) if count > 1 else ""))
        turns.append(path + "".join(ops))
    body = "/".join(turns)
    if len(body) > _LONGEST:
        body = "-" + base64.urlsafe_b64encode(zlib.compress(body.encode(), 9)).decode().rstrip("=")
    return f"{_PREFIX}{body}.{zlib.crc32(body.encode()):08x}"


def decode(trace: str) -> list[Decision]:
    """The decisions of a trace. TraceError if it is damaged, or something else."""
    if not isinstance(trace, str):
        raise TraceError(f"a trace is a text that begins with 'g1:', not {trace!r}")
    trace = trace.strip()
    if not trace.startswith(_PREFIX):
        if re.match(r"g\d+:", trace):
            raise TraceError(f"{_shown(trace)} is of another version: this one reads {_PREFIX!r}")
        raise TraceError(f"{_shown(trace)} is no trace: one begins with {_PREFIX!r}")
    body, dot, checksum = trace[len(_PREFIX) :].rpartition(".")
    if not dot or f"{zlib.crc32(body.encode()):08x}" != checksum:
        raise TraceError(f"{_shown(trace)} is damaged (its checksum does not fit): copy the whole of it")
    if body.startswith("-"):
        body = _unpack(trace, body[1:])
    decisions: list[Decision] = []
    for turn in body.split("/") if body else []:
        found = _TURN.fullmatch(turn)
        if found is None:
            raise TraceError(f"{_shown(trace)} has a turn that is none: {turn!r}")
        path, ops = found.groups()
        decisions += ((path, op) for op in _operations(trace, ops))
    return decisions


def _operations(trace: str, ops: str) -> list[str]:
    found: list[str] = []
    at = 0
    while at < len(ops):
        match = _OP.match(ops, at)
        name = None if match is None else _NAMES.get(match[1], match[1][1:-1].replace("-", "_"))
        if match is None or not name:
            raise TraceError(f"{_shown(trace)} has an operation that this version does not know: {ops[at:]!r}")
        found += [name] * min(int(match[2] or 1), _MOST_BYTES)
        if len(found) > _MOST_BYTES:
            raise TraceError(f"{_shown(trace)} is too long to be a trace")
        at = match.end()
    return found


def _unpack(trace: str, packed: str) -> str:
    try:
        raw = base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4))
        unpacker = zlib.decompressobj()
        body = unpacker.decompress(raw, _MOST_BYTES)
        if unpacker.unconsumed_tail:
            raise TraceError(f"{_shown(trace)} is too long to be a trace")
        return body.decode("ascii")
    except (binascii.Error, zlib.error, ValueError) as error:
        if isinstance(error, TraceError):
            raise
        raise TraceError(f"{_shown(trace)} is damaged: {error}") from None


def _shown(trace: str) -> str:
    return repr(trace if len(trace) <= 60 else trace[:57] + "…")
