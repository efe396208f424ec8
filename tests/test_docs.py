"""Every Python example in the README and the guide runs, and prints what stands below it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import greenthreads

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = str(Path(greenthreads.__file__).resolve().parents[1])
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


class Example(NamedTuple):
    """A program in a page, and the output shown below it, if one is."""

    page: Path
    line: int
    source: str
    output: str | None


# A fence, or lines that are indented, right after the program.
_PROGRAM = re.compile(
    r"^```python\n(?P<source>.*?)^```\n"
    r"(?:\n*```(?:text|output)\n(?P<fenced>.*?)^```\n|\n+(?P<indented>(?:    [^\n]*\n)+))?",
    re.MULTILINE | re.DOTALL,
)


def examples(page: Path, text: str) -> list[Example]:
    found = []
    for match in _PROGRAM.finditer(text):
        output = match["fenced"]
        if match["indented"] is not None:
            output = re.sub("^    ", "", match["indented"], flags=re.MULTILINE)
        found.append(Example(page, text[: match.start()].count("\n") + 1, match["source"], output))
    return found


def identifier(example: Example) -> str:
    return f"{example.page.name}:{example.line}"


ALL = [example for page in PAGES for example in examples(page, page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("example", ALL, ids=identifier)
def test_an_example_prints_what_the_page_says(example: Example, tmp_path: Path) -> None:
    if "os.fork" in example.source and not hasattr(os, "fork"):
        pytest.skip("no os.fork")
    (tmp_path / "example.py").write_text(example.source, encoding="utf-8")
    path = os.pathsep.join([LIBRARY, os.environ["PYTHONPATH"]]) if os.environ.get("PYTHONPATH") else LIBRARY
    result = subprocess.run(
        [sys.executable, "-W", "error", "example.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=50,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    if example.output is not None:
        assert result.stdout.replace(str(tmp_path) + os.sep, "") == example.output


def test_no_example_is_overlooked() -> None:
    for page in PAGES:
        fences = len(re.findall(r"^ *```+ *python", page.read_text(encoding="utf-8"), re.MULTILINE))
        assert fences == len([example for example in ALL if example.page == page]), page


def test_examples_are_read_with_their_output() -> None:
    page = "```python\n1\n```\n\n```text\none\n```\n\n```python\n2\n```\n\n    two\n\ntext\n```python\n3\n```\ntext\n"
    found = [tuple(example)[1:] for example in examples(Path("page.md"), page)]
    assert found == [(1, "1\n", "one\n"), (9, "2\n", "two\n"), (16, "3\n", None)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        file, _hash, anchor = target.partition("#")
        aim = (page.parent / file).resolve() if file else page
        assert aim.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", aim.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = [re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings]
            assert anchor in anchors, target


def modules_of_the_tour() -> list[str]:
    """The files that `docs/tour.md` names, in its order; a table is of the folder in the heading above it."""
    named: list[str] = []
    folder = ""
    for line in (ROOT / "docs" / "tour.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            folder = line.split("`")[1]
        elif line.startswith("| `"):
            named += [f"{folder}{name}.py" for name in re.findall(r"`([^`]+)`", line.split("|")[1])]
    return named


def test_the_tour_comes_by_each_file_once() -> None:
    packages = Path(LIBRARY)
    files = [
        path.relative_to(packages).as_posix()
        for package in ("scheduler", "greenthreads")
        for path in (packages / package).rglob("*.py")
    ]
    assert sorted(modules_of_the_tour()) == sorted(files)
