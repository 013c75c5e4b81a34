"""Processes that may die, hang or be orphaned, and cost no more than their own task."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from vatt.data.crew import Crew, Death, Hand, signals_wait

KILLED = "SIGKILL, as from a system that runs out of memory"


def work(task, alive):
    """The tasks of these tests: a number is doubled, a word does harm."""
    if task == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if task == "exit":
        os._exit(3)
    if task == "hang":
        time.sleep(600)
    if task == "slow":
        for _ in range(15):
            time.sleep(0.1)
            alive()
        return "slow but alive"
    if task == "large":
        return bytes(10_000_000)
    if task == "raise":
        raise OSError(28, "No space left on device", "file")
    if task == "sleep":
        Path("started").touch()
        time.sleep(600)
    return 2 * task


def test_results_come_with_their_tasks():
    with Crew(work, count=2) as crew:
        assert sorted(crew.run(range(20))) == [(i, 2 * i) for i in range(20)]
        assert list(crew.run([])) == []
        assert list(crew.run([7])) == [(7, 14)]


def test_a_death_costs_its_own_task():
    with Crew(work, count=2) as crew:
        results = dict(crew.run([1, "crash", 2, 3, "exit", 4]))
    assert [results[i] for i in (1, 2, 3, 4)] == [2, 4, 6, 8]
    assert results["crash"] == Death("the process that read it died (SIGSEGV)")
    assert results["exit"] == Death("the process that read it died (exit status 3)")


def test_a_process_that_cannot_start_is_blamed_on_no_task(tmp_path):
    script = tmp_path / "script.py"  # what it starts runs it again
    script.write_text(
        "from tests.test_crew import work\nfrom vatt.data.crew import Crew\n"
        "with Crew(work, count=1) as crew:\n    print(list(crew.run([1, 2])))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert "DataError: a process that reads files could not start (exit status 1)" in done.stderr
    assert done.stdout == ""


def test_what_hangs_is_killed_and_what_is_only_slow_is_not(monkeypatch):
    with Crew(work, count=2, patience=4.0) as crew:
        results = dict(crew.run([1, "hang", "slow"]))
    assert results[1] == 2
    assert results["slow"] == "slow but alive"
    assert results["hang"] == Death("it hung: no sign of life for 4 s")


def test_half_a_result_is_no_result():
    """What is killed while it hands over its result must not be waited for."""
    hand = Hand(work)
    try:
        assert len(hand.call("large")) == 10_000_000
        hand.give("large")
        assert hand.pipe.poll(60)  # it has begun, and waits for a reader
        hand.kill()
        assert hand.call("large") == Death(f"the process that read it died ({KILLED})")
    finally:
        hand.end()


def test_an_error_of_the_function_is_raised_here():
    with Crew(work, count=1) as crew, pytest.raises(OSError, match="No space left on device") as caught:
        list(crew.run([1, "raise", 2]))
    assert caught.value.errno == 28
    assert caught.value.filename == "file"


def test_leaving_the_block_ends_what_is_at_work():
    with Crew(work, count=2) as crew:
        run = crew.run([1, "hang"])
        assert next(run) == (1, 2)
        pids = [hand.process.pid for hand in crew._hands]
        before = time.monotonic()
    assert time.monotonic() - before < 5
    assert not any(_runs(pid) for pid in pids)


def test_a_ctrl_c_while_a_process_starts_waits_until_it_has():
    """Another thread is there to take the signal in, as that of a progress bar is."""
    idle = threading.Event()
    thread = threading.Thread(target=idle.wait)
    thread.start()
    done = []

    def interrupted():
        with signals_wait():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
            done.append(True)

    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert done
    finally:
        idle.set()
        thread.join()


def test_processes_end_with_their_parent_however_it_ends(tmp_path):
    code = (
        "from tests.test_crew import work\nfrom vatt.data.crew import Crew\n"
        "if __name__ == '__main__':\n"
        "    crew = Crew(work, count=1)\n    run = crew.run([1, 'sleep'])\n    next(run)\n"
        "    print(crew._hands[0].process.pid, flush=True)\n    next(run)\n"
    )
    (tmp_path / "main.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    parent = subprocess.Popen([sys.executable, "main.py"], cwd=tmp_path, stdout=subprocess.PIPE, env=environment)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    while not (tmp_path / "started").exists():
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while _runs(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(child)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
