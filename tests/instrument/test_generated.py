"""Plain and instrumented runs of programs made by chance agree: on what they log, what they raise, and where."""

from __future__ import annotations

import traceback
import warnings
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from generated import Program

from greenthreads.testing._codes import Codes
from scheduler import control


def outcome(code: CodeType, namespace: dict[str, Any]) -> tuple[object, ...]:
    exec(code, namespace)
    try:
        namespace["run"]()
    except RecursionError:
        return ("RecursionError",)
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        places = [(each.name, each.lineno, getattr(each, "colno", None)) for each in frames[1:]]
        return type(error).__name__, str(error), places, namespace["log"]
    return "returned", namespace["log"]


def compare(seed: int, path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    source = Program(seed).text()
    path.write_text(source, encoding="utf-8")
    heard = 0

    def access(_obj: object, _footprint: object) -> None:
        nonlocal heard
        heard += 1

    with warnings.catch_warnings():
        # "'int' object is not subscriptable; perhaps you missed a comma?", and the like.
        warnings.simplefilter("ignore")
        try:
            compile(source, str(path), "exec")
        except SyntaxError:
            return 0  # a name is declared global after it was used, and the like
        namespace: dict[str, Any] = {"__name__": "generated"}
        codes = Codes(source.encode(), str(path), namespace)
        noted: dict[str, Any] = {"__name__": "generated"}
        with_notes = Codes(source.encode(), str(path), noted, notes=True)
        assert codes.unfit == with_notes.unfit == []
        plain = outcome(codes.plain, {"__name__": "generated"})
    with monkeypatch.context() as patch:
        patch.setattr(control, "access", access)
        assert outcome(codes.module, namespace) == plain, f"seed {seed}"
        patch.setattr(control, "note", id)
        assert outcome(with_notes.module, noted) == plain, f"seed {seed}"
    return heard


def test_plain_and_instrumented_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = [compare(seed, tmp_path / "generated.py", monkeypatch) for seed in range(40)]
    # Most programs compile, and come far enough to touch memory.
    assert sum(each > 10 for each in heard) > 20


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_plain_and_instrumented_agree_on_thousands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = [compare(seed, tmp_path / "generated.py", monkeypatch) for seed in range(1000, 6000)]
    assert sum(each > 10 for each in heard) > 2500
