"""The harness under pytest: what runs under schedules, with which fixtures, and what is reported."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# So that the runs inside of tests don't each import it anew.
import greenthreads.pytest_plugin
import greenthreads.testing

pytest_plugins = "pytester"

BANK = """
import threading
import pytest

def together(*bodies):
    threads = [threading.Thread(target=body) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

class Account:
    def __init__(self, balance=100):
        self.lock = threading.Lock()
        self.balance = balance

    def spend(self, amount):
        with self.lock:
            enough = self.balance >= amount
        if enough:
            with self.lock:
                self.balance -= amount
"""

BROKEN = """
    account = Account()
    together(lambda: account.spend(60), lambda: account.spend(60))
    assert account.balance >= 0
"""

FINE = """
    account = Account()
    together(lambda: account.spend(30), lambda: account.spend(30))
    assert account.balance == 40
"""


class Run:
    """Runs pytest on a file of tests, in this process."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester

    def __call__(self, source: str, *arguments: str, inside: bool = True) -> pytest.RunResult:
        if source:
            self.pytester.makepyfile(test_bank=BANK + source)
        # Without Hypothesis, whose plugin imports all of it anew for the summary of each run.
        arguments = ("-p", "_greenthreads_pytest", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", *arguments)
        return self.pytester.runpytest_inprocess(*arguments) if inside else self.in_process_of_its_own(*arguments)

    def in_process_of_its_own(self, *arguments: str) -> pytest.RunResult:
        return self.pytester.runpytest_subprocess(*arguments, timeout=50)


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "120")
    return Run(pytester)


def summary(result: pytest.RunResult) -> list[str]:
    """The lines of our section at the end."""
    lines = [str(line) for line in result.outlines]
    begin = next((n for n, line in enumerate(lines) if re.fullmatch("=+ interleave =+", line)), len(lines))
    end = next((n for n in range(begin + 1, len(lines)) if lines[n].startswith("==")), len(lines))
    return [line for line in lines[begin + 1 : end] if line]


# ---- What runs under schedules ---------------------------------------------------------------------------------------


def test_a_marked_test_is_explored(run: Run) -> None:
    result = run(
        f"@pytest.mark.interleave(strategy='dpor')\ndef test_fine():{FINE}\n"
        f"@pytest.mark.interleave\ndef test_broken():{BROKEN}\n"
        f"def test_unmarked():{BROKEN}\n"
    )
    result.assert_outcomes(passed=2, failed=1)
    fine, broken = summary(result)
    assert re.fullmatch(
        r"test_bank.py::test_fine: dpor, \d+\.\d\d s, exhausted; \d+ executions: every schedule, up to the order of "
        r"independent steps, of the threads' operations on primitives, memory accesses seen in test_bank; .*",
        fine,
    )
    assert re.fullmatch(
        r"test_bank.py::test_broken: \w+, \d+\.\d\d s, failed; \d+ executions? until one failed, found by \w+", broken
    )
    # The message is the one that pytest's rewriting gives, and the report stands below the traceback.
    result.stdout.fnmatch_lines(
        [
            "E        +  where -20 = <test_bank.Account object at *>.balance",
            "*- the failing schedule -*",
            "AssertionError in thread 0 MainThread, after * steps with 1 preemption:",
            "*0 main * 1 <lambda> * 2 <lambda>*",
            "*-- preempted --*",
            "replay: pytest test_bank.py::test_broken --interleave-replay=g1:*",
        ]
    )


def test_the_memory_of_the_project_that_the_test_belongs_to_is_watched(run: Run) -> None:
    run.pytester.makepyfile(
        counters="class Counter:\n    value = 0\n    def increment(self):\n        self.value += 1\n"
    )
    body = "    counter = Counter()\n    together(*[counter.increment] * 2)\n    assert counter.value == 2\n"
    result = run(
        "from counters import Counter\n"
        f"@pytest.mark.interleave\ndef test_seen():\n{body}"
        f"@pytest.mark.interleave(strategy='dpor', memory=False)\ndef test_not_seen():\n{body}"
        "@pytest.mark.interleave(strategy='dpor')\ndef test_read():\n    assert Counter().value == 0\n"
    )
    result.assert_outcomes(passed=2, failed=1)
    assert "memory accesses seen in counters, test_bank;" in summary(result)[-1]
    # The last step is the read that the assertion fails at: those for its message are none.
    steps = re.search(r"after (\d+) steps with 1 preemption", result.stdout.str())
    assert steps
    result.stdout.fnmatch_lines([f"*{steps[1]}  read self.value: 1  *"])


def test_a_replay_watches_what_the_exploration_did(run: Run) -> None:
    result = run(f"@pytest.mark.interleave(memory=False)\ndef test_it():{BROKEN}")
    command = re.search(r"replay: pytest (\S+) (\S+)", result.stdout.str())
    assert command
    result = run("", *command.groups())
    result.assert_outcomes(failed=1)
    assert summary(result) == ["test_bank.py::test_it: one schedule, replayed, failed: assertion"]


def test_the_decorator_does_the_same(run: Run) -> None:
    result = run(
        "from greenthreads.testing import interleave\n"
        "@pytest.fixture\ndef account():\n    return Account()\n"
        "@pytest.mark.parametrize('amount', [30, 60])\n"
        "@interleave(strategy='random', seed=3, max_executions=300)\n"
        "def test_spending(account, amount):\n"
        "    together(lambda: account.spend(amount), lambda: account.spend(amount))\n"
        "    assert account.balance >= 0\n"
        "class TestAccount:\n"
        "    @interleave(max_executions=7, strategy='random')\n"
        "    def test_in_a_class(self, account):\n"
        "        assert not hasattr(self, 'been_here')\n"
        "        self.been_here = True\n"
    )
    result.assert_outcomes(passed=2, failed=1)
    lines = summary(result)
    assert lines[0].startswith("test_bank.py::test_spending[30]: random, ")
    assert "not exhausted; 300 executions: schedules drawn by a random walk" in lines[0]
    assert lines[1].startswith("test_bank.py::test_spending[60]: random, ")
    assert "not exhausted; 7 executions" in lines[2]


def test_the_example_of_the_guide(run: Run) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")
    programs = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (source,) = [each for each in programs if "import pytest" in each]
    run.pytester.makepyfile(test_guide=source)
    result = run("")
    result.assert_outcomes(passed=1, failed=1)
    little, much = summary(result)
    assert re.match(r"test_guide.py::test_little: dpor, \S+ s, exhausted; ", little)
    assert re.match(r"test_guide.py::test_much: \w+, \S+ s, failed; ", much)


def test_the_option_is_for_all_tests(run: Run) -> None:
    source = f"def test_broken():{BROKEN}\nclass TestIt:\n    def test_it(self): pass\nasync def test_async(): pass\n"
    result = run(source, "-W", "ignore", "--deselect", "test_bank.py::test_async")
    result.assert_outcomes(passed=2, deselected=1)
    assert summary(result) == []
    result = run("", "--interleave", "--deselect", "test_bank.py::test_async")
    result.assert_outcomes(passed=1, failed=1, deselected=1)
    assert len(summary(result)) == 2


def test_seed_and_seconds_come_from_the_command_line(run: Run) -> None:
    result = run(
        "@pytest.mark.interleave(strategy='random', seed=5)\ndef test_it():\n    pass\n",
        "--interleave-seconds=0.05",
        "--interleave-seed=9",
    )
    result.assert_outcomes(passed=1)
    assert ", not exhausted; " in summary(result)[0]
    # The default of 10,000 executions is no bound where somebody gives a time.
    result = run("", "--interleave-seconds=1e-9")
    assert "; 1 execution: " in summary(result)[0]


def test_what_it_cannot_run_is_refused_where_it_was_asked_for(run: Run) -> None:
    result = run(
        "import unittest\n"
        "@pytest.mark.interleave\nasync def test_async(): pass\n"
        "@pytest.mark.interleave('dfs')\ndef test_positional(): pass\n"
        "class TestAsync(unittest.IsolatedAsyncioTestCase):\n"
        "    @pytest.mark.interleave\n    async def test_method(self): pass\n"
    )
    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines_random(
        [
            "test_bank.py::test_async is async: interleave explores the schedules of threads",
            "interleave takes its arguments by name, not ('dfs',)",
            "test_bank.py::TestAsync::test_method is async: interleave explores the schedules of threads",
        ]
    )
    result = run(
        "from greenthreads.testing import interleave\n"
        "with pytest.raises(TypeError, match='test_it is async: interleave explores the schedules of threads'):\n"
        "    @interleave()\n    async def test_it(): pass\n"
        "def test_other(): pass\n"
    )
    result.assert_outcomes(passed=1)


def test_what_is_no_function_is_left_alone(run: Run) -> None:
    run.pytester.makefile(".txt", test_doc=">>> 1 + 1\n2\n")
    run("def test_it(): pass\n", "--interleave", "--doctest-glob=*.txt").assert_outcomes(passed=2)


def test_methods_of_unittest(run: Run) -> None:
    result = run(
        "import unittest\n"
        "from greenthreads.testing import interleave\n"
        "class TestAccount(unittest.TestCase):\n"
        "    up = down = clean = 0\n"
        "    @classmethod\n"
        "    def setUpClass(cls):\n"
        "        cls.rounds = 0\n"
        "    def setUp(self):\n"
        "        TestAccount.up += 1\n"
        "        self.account = Account()\n"
        "        self.addCleanup(self.count)\n"
        "    def count(self):\n"
        "        TestAccount.clean += 1\n"
        "    def tearDown(self):\n"
        "        TestAccount.down += 1\n"
        "    @interleave(strategy='dfs')\n"
        "    def test_a_broken(self):\n"
        "        together(lambda: self.account.spend(60), lambda: self.account.spend(60))\n"
        "        self.assertGreaterEqual(self.account.balance, 0)\n"
        "    @pytest.mark.interleave(strategy='dfs')\n"
        "    def test_b_fine(self):\n"
        "        with self.subTest(amount=30):\n"
        "            self.account.spend(30)\n"
        "        self.assertEqual(self.account.balance, 70)\n"
        "    @pytest.mark.interleave\n"
        "    @unittest.skip('not today')\n"
        "    def test_c_skipped(self): pass\n"
        "    @pytest.mark.interleave\n"
        "    def test_d_skips(self):\n"
        "        self.skipTest('tomorrow')\n"
        "    def test_e_counts(self):\n"
        "        assert TestAccount.up - 1 == TestAccount.down == TestAccount.clean > 10\n",
        "-rs",
    )
    result.assert_outcomes(passed=2, failed=1, skipped=2)
    result.stdout.fnmatch_lines(["*AssertionError: -20 not greater than or equal to 0", "*- the failing schedule -*"])
    result.stdout.fnmatch_lines_random(["SKIPPED*not today", "SKIPPED*tomorrow"])


# ---- Fixtures --------------------------------------------------------------------------------------------------------


def test_fixtures_of_a_test_are_made_for_each_execution_and_wider_ones_once(run: Run) -> None:
    result = run(
        "record = []\n"
        "@pytest.fixture(scope='module')\n"
        "def wide():\n"
        "    record.append('wide')\n"
        "    yield []\n"
        "    print(*sorted(set(record)), record.count('wide'), record.count('up') == record.count('down') > 5)\n"
        "@pytest.fixture(params=['a', 'b'])\n"
        "def account(request, wide):\n"
        "    record.append('up')\n"
        "    account = Account()\n"
        "    account.lock.acquire()\n"  # under control already
        "    account.lock.release()\n"
        "    yield account\n"
        "    thread = threading.Thread(target=account.spend, args=(1,))\n"
        "    thread.start()\n"
        "    thread.join()\n"
        "    record.append('down')\n"
        "@pytest.fixture(autouse=True)\n"
        "def seen(wide):\n"
        "    wide.append(1)\n"
        "@pytest.mark.interleave(strategy='random', max_executions=10)\n"
        "def test_it(account, wide, monkeypatch, tmp_path, capsys, caplog, request):\n"
        "    import logging, os\n"
        "    assert account.balance == 100\n"
        "    assert 'HERE' not in os.environ\n"
        "    monkeypatch.setenv('HERE', '1')\n"
        "    assert list(tmp_path.iterdir()) == []\n"
        "    (tmp_path / 'file').write_text('text')\n"
        "    print('out')\n"
        "    assert capsys.readouterr().out == 'out\\n'\n"
        "    logging.getLogger().warning('oh')\n"
        "    assert [each.message for each in caplog.records] == ['oh']\n"
        "    request.addfinalizer(lambda: record.append('final'))\n"
        "    account.spend(10)\n",
        "-s",
    )
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*down final up wide 1 True"])


def test_a_fixture_that_fails_is_a_failure_of_the_test(run: Run) -> None:
    result = run(
        "@pytest.fixture\n"
        "def up():\n    raise ValueError('at setup')\n"
        "@pytest.fixture\n"
        "def down():\n    yield\n    raise ValueError('at teardown')\n"
        "@pytest.mark.interleave\ndef test_up(up): pass\n"
        "@pytest.mark.interleave\ndef test_down(down): pass\n"
        "@pytest.mark.interleave\ndef test_both(down):\n    raise KeyError('in the test')\n"
    )
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(["*ValueError: at setup", "*ValueError: at teardown", "*KeyError: 'in the test'"])


def test_a_trace_ends_where_the_test_fails_and_fixtures_are_torn_down_all_the_same(run: Run) -> None:
    result = run(
        "@pytest.fixture\n"
        "def lock():\n"
        "    lock = threading.Lock()\n"
        "    yield lock\n"
        "    lock.release()\n"
        "    print('torn down')\n"
        "@pytest.mark.interleave\n"
        "def test_it(lock):\n"
        "    lock.acquire()\n"
        "    raise ValueError('here')\n"
    )
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert "acquire lock" in text
    assert "release lock" not in text
    # What the execution that is shown has printed, and none of those before it.
    assert text.count("torn down\n") - text.count("print(") == 1


# ---- Outcomes --------------------------------------------------------------------------------------------------------


def test_skip_xfail_and_fail(run: Run) -> None:
    result = run(
        "@pytest.mark.interleave\ndef test_skip(): pytest.skip('reason')\n"
        "@pytest.mark.interleave\ndef test_xfail(): pytest.xfail('reason')\n"
        f"@pytest.mark.interleave\n@pytest.mark.xfail(raises=AssertionError)\ndef test_marked():{BROKEN}"
        "@pytest.mark.interleave\ndef test_fail(): pytest.fail('of its own accord')\n"
        "@pytest.mark.interleave\ndef test_in_a_thread():\n"
        "    def work(): raise ValueError('in a thread')\n"
        "    together(work)\n"
    )
    result.assert_outcomes(skipped=1, xfailed=2, failed=2)
    result.stdout.fnmatch_lines(
        ["*Failed: of its own accord", "*ValueError: in a thread", "*Thread-1 (work), after * steps *: in a thread"]
    )


def test_a_deadlock_is_reported_as_one(run: Run) -> None:
    result = run(
        "@pytest.mark.interleave\ndef test_it():\n"
        "    a, b = threading.Lock(), threading.Lock()\n"
        "    def work(one, other):\n"
        "        with one, other: pass\n"
        "    together(lambda: work(a, b), lambda: work(b, a))\n"
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["deadlock after * steps with 1 preemption: 2 threads wait for ever", "1 Thread-1 (<lambda>) waits to *"]
    )


def test_replay(run: Run) -> None:
    fine = BROKEN.replace(">= 0", ">= -20")
    result = run(f"@pytest.mark.interleave\ndef test_broken():{BROKEN}\ndef test_fine():{fine}")
    command = re.search(r"replay: pytest (\S+) (\S+)", result.stdout.str())
    assert command
    result = run("", *command.groups())
    result.assert_outcomes(failed=1)
    assert summary(result) == ["test_bank.py::test_broken: one schedule, replayed, failed: assertion"]
    result.stdout.fnmatch_lines(
        ["E       assert -20 >= 0", "*- the failing schedule -*", f"replay: pytest {command[1]} {command[2]}"]
    )
    # A test without the mark can be replayed, too; one that does something else says so.
    result = run("", "test_bank.py::test_fine", command[2])
    result.assert_outcomes(passed=1)
    assert summary(result) == ["test_bank.py::test_fine: one schedule, replayed, did not fail"]
    result = run("", "test_bank.py::test_fine", command[2][:-1])
    result.stdout.fnmatch_lines(["*TraceError: * is damaged (its checksum does not fit): copy the whole of it"])


COUNTER = """
class Counter:
    def __init__(self):
        self.value = 0
    def increment(self):
        self.value += 1
"""


def test_memory_of_the_project_is_seen_and_replayed(run: Run) -> None:
    run.pytester.makepyfile(counters=COUNTER)
    test = (
        "def {}():\n"
        "    from counters import Counter\n"
        "    counter = Counter()\n"
        "    together(counter.increment, counter.increment)\n"
        "    assert counter.value == 2\n"
    )
    source = (
        f"@pytest.mark.interleave\n{test.format('test_broken')}"
        f"@pytest.mark.interleave(memory=False)\n{test.format('test_without')}"
    )
    result = run(source, inside=False)
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*read self.value: 0*", "*write self.value = 1*"])
    replay = next(str(line) for line in result.outlines if str(line).startswith("replay: pytest "))
    arguments = shlex.split(replay.removeprefix("replay: pytest "))
    again = run("", *arguments, inside=False)
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["*one schedule, replayed, failed: assertion"])


def test_a_failing_schedule_is_kept_beside_the_test(run: Run) -> None:
    run(f"@pytest.mark.interleave\ndef test_it():{BROKEN}").assert_outcomes(failed=1)
    folder = run.pytester.path / ".interleave"
    (file,) = folder.iterdir()
    assert "test_bank.py_test_it" in file.name
    result = run("")
    result.assert_outcomes(failed=1)
    assert summary(result)[0].endswith("failed; 1 execution: a schedule that had failed before fails again")
    run(f"@pytest.mark.interleave\ndef test_it():{FINE}").assert_outcomes(passed=1)
    assert list(folder.iterdir()) == []


def test_the_first_failure_ends_the_run_if_asked_to(run: Run) -> None:
    source = "".join(f"@pytest.mark.interleave\ndef test_{name}():{BROKEN}\n" for name in "abc")
    run(source, "-x").assert_outcomes(failed=1)


def test_a_debugger_lands_where_the_replay_failed(run: Run) -> None:
    run.pytester.makeconftest(
        "import pytest\n"
        "class Debugger:\n"
        "    def __init__(self, **kwargs): pass\n"
        "    def reset(self): pass\n"
        "    def interaction(self, frame, traceback):\n"
        "        if hasattr(traceback, '__traceback__'): traceback = traceback.__traceback__\n"
        "        while traceback.tb_next: traceback = traceback.tb_next\n"
        "        print('stands at', traceback.tb_frame.f_code.co_name, traceback.tb_frame.f_locals['amount'])\n"
    )
    result = run(
        "def spend(amount):\n    assert amount < 60\n"
        "@pytest.mark.interleave\ndef test_it():\n    together(lambda: spend(60))\n",
        "--pdb",
        "--pdbcls=conftest:Debugger",
    )
    result.stdout.fnmatch_lines(["*stands at spend 60"])


def test_xdist_shows_the_same(run: Run) -> None:
    result = run(
        f"@pytest.mark.interleave\ndef test_a():{BROKEN}\n@pytest.mark.interleave\ndef test_b():{FINE}\n", "-n", "1"
    )
    result.assert_outcomes(passed=1, failed=1)
    assert sorted(line.split()[0] for line in summary(result)) == ["test_bank.py::test_a:", "test_bank.py::test_b:"]
    result.stdout.fnmatch_lines(["*- the failing schedule -*", "replay: pytest test_bank.py::test_a *"])
    assert len(list((run.pytester.path / ".interleave").iterdir())) == 1


@pytest.mark.parametrize("method", ["thread", "signal"])
def test_a_watchdog_beside_it_is_no_part_of_the_test(run: Run, method: str) -> None:
    result = run(
        f"@pytest.mark.interleave\ndef test_broken():{BROKEN}\n"
        f"@pytest.mark.interleave(max_executions=50)\ndef test_fine():{FINE}",
        "--timeout=50",
        f"--timeout-method={method}",
        inside=False,
    )
    result.assert_outcomes(passed=1, failed=1)


def test_a_timeout_is_reported_as_one(run: Run) -> None:
    result = run(
        "@pytest.mark.interleave\ndef test_it():\n    while True: pass\n",
        "--timeout=0.5",
        "--timeout-method=signal",
        "-o",
        "timeout_func_only=true",
        inside=False,
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*Timeout (>0.5s)*"])
    result.stdout.no_fnmatch_line("*Divergence*")


# ---- At the terminal -------------------------------------------------------------------------------------------------


def test_progress_is_written_over_and_gone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    source = f"@pytest.mark.interleave(strategy='random', max_executions=100)\ndef test_fine():{FINE}"
    assert "a second" not in run(source).stdout.str()
    run.pytester.makeconftest(
        "import pytest\n"
        "@pytest.hookimpl(trylast=True)\n"
        "def pytest_configure(config):\n"
        "    reporter = config.pluginmanager.getplugin('terminalreporter')\n"
        "    reporter.isatty = (lambda: True) if callable(reporter.isatty) else True\n"
    )
    monkeypatch.setattr(greenthreads.pytest_plugin, "_EVERY", 0.0)
    text = run("").stdout.str()
    found = re.search(r"test_fine: 96 executions, \d+ a second; schedules drawn by a random walk", text)
    assert found, text
    assert text.index("random walk") < text.index("1 passed")


def test_a_project_without_such_tests_does_not_even_import_the_library(tmp_path: Path) -> None:
    (tmp_path / "test_plain.py").write_text(
        "import sys\n"
        "def test_it():\n"
        "    ours = ('greenthreads', 'scheduler', 'greenlet')\n"
        "    assert not [name for name in sys.modules if name.split('.')[0] in ours]\n"
    )
    import _greenthreads_pytest as plugin

    folder = str(Path(plugin.__file__).parent)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "_greenthreads_pytest", "-p", "no:cacheprovider", "."]
    result = subprocess.run(
        command, cwd=tmp_path, env=_environment(folder), capture_output=True, text=True, timeout=50, check=False
    )
    assert "1 passed" in result.stdout, result.stdout


def _environment(folder: str) -> dict[str, Any]:
    import os

    return {**os.environ, "PYTHONPATH": folder}


def test_a_test_that_is_run_again_is_summed_up_once_a_run(run: Run) -> None:
    run.pytester.makeconftest(
        "from _pytest.runner import runtestprotocol\n"
        "def pytest_runtest_protocol(item, nextitem):\n"
        "    runtestprotocol(item, nextitem=item)\n"
        "    runtestprotocol(item, nextitem=nextitem)\n"
        "    return True\n"
    )
    result = run(f"@pytest.mark.interleave\ndef test_fine():{FINE}\n")
    assert [line[:24] for line in summary(result)] == ["test_bank.py::test_fine:"] * 2
