"""One process, one order after the other: answers, failures, ends, and what is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from penjing.runtime import worker_process
from penjing.runtime.worker_process import OrderError, WorkerEndError, WorkerProcess

pytestmark = pytest.mark.once
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and limits")

WORKER = """
import os, signal, sys, time
import numpy as np


class Worker:
    def __init__(self):
        self.calls = 0

    def count(self):
        self.calls += 1
        return {"calls": self.calls}

    def echo(self, **arguments):
        return arguments

    def surroundings(self):
        modules = [name for name in ("keras", "penjing") if name in sys.modules]
        return {"path": sys.path, "modules": modules, "environment": {**os.environ}}

    def fail(self, text):
        raise LookupError(text)

    def chatter(self, size):
        print("x" * size)
        os.write(1, b"native")
        print("last words", file=sys.stderr, flush=True)
        return {}

    def unspeakable(self):
        return {"value": object()}

    def texts(self):
        return {"values": np.array(["a", None], dtype=object)}

    def end(self, code):
        print("farewell", flush=True)
        os._exit(code)

    def kill(self, number):
        os.kill(os.getpid(), number)

    def babble(self):
        for descriptor in range(3, 9):  # one of them carries the answers
            try:
                os.write(descriptor, b"{no json\\n")
            except OSError:
                pass
        time.sleep(60)

    def wait(self):
        time.sleep(600)

    def doze(self, seconds_of_sleep):
        time.sleep(seconds_of_sleep)
        return {"calls": "stale"}

    def mumble(self):
        os.write(self.tell.args[0].fileno(), b'{"told": no json\\n')
        time.sleep(60)

    def report(self, parts):
        for part in parts:
            self.tell(part)
        return {"parts": len(parts)}

    def spin(self):
        while True:
            pass

    def take(self, megabytes):
        return {"bytes": len(bytearray(megabytes * 2**20))}
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "worker.py"
    path.write_text(WORKER)
    return str(path)


@pytest.fixture
def worker(script):
    with WorkerProcess(script) as process:
        yield process


def is_running(pid):
    """Whether it runs; what ended may wait for somebody to ask how."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_until(done, seconds=20):
    limit = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < limit
        time.sleep(0.02)


def test_orders_are_answered_one_after_the_other(worker):
    assert [worker.ask("count")["calls"] for _ in range(3)] == [1, 2, 3]


def test_arrays_travel_within_lists_and_dicts(worker):
    arrays = [
        np.arange(6, dtype="int8").reshape(2, 3),
        np.array(1.5, "float16"),
        np.zeros((0, 4), bool),
        np.array([np.nan, np.inf, -0.0], "float32"),
    ]
    given = {
        "plain": arrays[0],
        "nested": [[arrays[1], "text", None], {"a": arrays[2]}],
    }
    back = worker.ask("echo", **given, last=arrays[3], number=2.5)
    found = [back["plain"], back["nested"][0][0], back["nested"][1]["a"], back["last"]]
    for array, other in zip(arrays, found, strict=True):
        assert (array.dtype, array.shape) == (other.dtype, other.shape)
        assert array.tobytes() == other.tobytes()
    assert (back["nested"][0][1:], back["number"]) == (["text", None], 2.5)
    again = worker.ask("echo", x=[np.array([n]) for n in range(12)])["x"]
    assert [int(array[0]) for array in again] == list(range(12))


def test_a_script_starts_without_keras_and_penjing_on_the_same_path(
    script, monkeypatch, tmp_path
):
    monkeypatch.setattr(sys, "path", [*sys.path, "relative"])
    monkeypatch.chdir(tmp_path)
    with WorkerProcess(script, environment={"MINE": "yes"}) as worker:
        found = worker.ask("surroundings")
    assert not found["modules"]
    assert str(tmp_path / "relative") in found["path"]
    folders = {str(Path(worker_process.__file__).parent), str(tmp_path)}
    assert not folders & set(found["path"]), "modules there would hide others"
    assert found["environment"]["MINE"] == "yes"


def test_a_module_can_be_the_worker(monkeypatch, tmp_path):
    (tmp_path / "a_worker.py").write_text(WORKER)
    monkeypatch.syspath_prepend(tmp_path)
    with WorkerProcess("a_worker") as worker:
        assert worker.ask("count") == {"calls": 1}


def test_what_a_worker_tells_before_its_answer_is_heard_in_order(worker):
    parts = [{"told": 1}, "line\nline", None]
    heard = []
    assert worker.ask("report", listen=heard.append, parts=parts) == {"parts": 3}
    assert heard == parts
    assert worker.ask("report", parts=parts) == {"parts": 3}  # nobody listens
    assert worker.ask("count") == {"calls": 1}


def test_a_listener_that_raises_ends_the_worker(worker):
    with pytest.raises(ValueError, match="invalid literal"):
        worker.ask("report", listen=int, parts=["a", "b"])
    with pytest.raises(WorkerEndError):
        worker.ask("count")


def test_a_failed_order_is_said_and_the_next_one_answered(worker):
    with pytest.raises(OrderError, match="^nothing there$") as said:
        worker.ask("fail", text="nothing there")
    assert said.value.kind == "LookupError"
    with pytest.raises(OrderError, match="no attribute 'unknown'"):
        worker.ask("unknown")
    with pytest.raises(OrderError, match="JSON has no object") as said:
        worker.ask("unspeakable")
    assert said.value.kind == "TypeError"
    assert worker.ask("count") == {"calls": 1}


def test_an_error_without_words_has_its_name(worker):
    with pytest.raises(OrderError, match="^LookupError$"):
        worker.ask("fail", text="")


def test_objects_are_not_unpickled(worker):
    with pytest.raises(WorkerEndError):
        worker.ask("texts")


def test_what_libraries_print_is_no_answer(worker):
    assert worker.ask("chatter", size=200_000) == {}
    assert worker.ask("count") == {"calls": 1}
    with pytest.raises(WorkerEndError) as said:
        worker.ask("end", code=7)
    assert said.value.last_words.endswith("native" + "last words\nfarewell")
    assert len(said.value.last_words) <= 1500


def test_a_worker_that_ends_says_how(worker):
    for _ in range(2):  # asked again, it is as dead
        with pytest.raises(WorkerEndError, match="exit code 7. farewell") as said:
            worker.ask("end", code=7)
        assert (said.value.exit_code, said.value.seconds) == (7, None)


@posix
def test_a_worker_that_crashes_says_the_signal(worker):
    with pytest.raises(WorkerEndError, match="exit code -6") as said:
        worker.ask("kill", number=signal.SIGABRT)
    assert said.value.seconds is None


@posix
@pytest.mark.parametrize("method", ["babble", "mumble"])
def test_answers_that_make_no_sense_end_the_worker(worker, method):
    with pytest.raises(WorkerEndError) as said:
        worker.ask(method)
    assert (said.value.exit_code, said.value.seconds) == (-signal.SIGKILL, None)


@pytest.mark.parametrize("text", ["raise ImportError('no such library')", "x = 1"])
def test_a_worker_that_does_not_start_says_why(tmp_path, text):
    script = tmp_path / "broken.py"
    script.write_text(text)
    reason = pytest.raises(WorkerEndError, match="no such library|Worker")
    with WorkerProcess(str(script)) as worker, reason as said:
        worker.ask("count")
    assert said.value.exit_code == 1


def test_a_worker_that_hangs_is_ended(worker):
    begin = time.monotonic()
    with pytest.raises(WorkerEndError) as said:
        worker.ask("wait", seconds=0.5)
    assert said.value.seconds == 0.5
    assert time.monotonic() - begin < 30
    assert worker.process.poll() is not None


@posix
def test_time_of_the_processor_is_limited(script):
    ended = pytest.raises(WorkerEndError)
    with WorkerProcess(script, seconds=1) as worker, ended as said:
        worker.ask("spin", seconds=60)
    assert (said.value.exit_code, said.value.seconds) == (-signal.SIGXCPU, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="others do not limit memory")
def test_memory_is_limited(script):
    with WorkerProcess(script, memory=200 * 2**20) as worker:
        assert worker.ask("take", megabytes=50) == {"bytes": 50 * 2**20}
        with pytest.raises(OrderError, match="MemoryError"):
            worker.ask("take", megabytes=300)
        assert worker.ask("take", megabytes=50) == {"bytes": 50 * 2**20}
    with WorkerProcess(script) as worker:
        assert worker.ask("take", megabytes=300) == {"bytes": 300 * 2**20}


def test_process_and_folder_go_with_the_block(script):
    with pytest.raises(KeyError), WorkerProcess(script) as worker:
        (worker.folder / "file").write_text("left behind")
        worker.ask("count")
        raise KeyError
    assert worker.process.returncode is not None
    assert not worker.folder.exists()


def test_no_folder_is_left_where_no_process_starts(script, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no python"))
    with pytest.raises(FileNotFoundError):
        WorkerProcess(script)
    assert not list((tmp_path / "temporary").iterdir())


PROGRAM = """
import runpy, sys
WorkerProcess = runpy.run_path(sys.argv[1])["WorkerProcess"]  # without Keras: faster
with WorkerProcess(sys.argv[2]) as worker:
    worker.ask("count")
    print(worker.process.pid, worker.folder, flush=True)
    worker.ask("wait")
"""


@pytest.fixture
def program(script):
    """A program that waits for its worker; gives it, the worker's id and folder."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, worker_process.__file__, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        pid, _, folder = process.stdout.readline().strip().partition(" ")
        yield process, int(pid), Path(folder)
        process.kill()


@posix
@pytest.mark.parametrize("number", ["SIGKILL", "SIGTERM"])
def test_a_worker_ends_with_a_program_that_is_killed(program, number):
    process, pid, folder = program
    assert is_running(pid) and folder.exists()
    process.send_signal(getattr(signal, number))
    process.wait()
    wait_until(lambda: not is_running(pid))
    assert not folder.exists()


@posix
def test_an_interrupt_ends_both_and_only_the_program_says_so(program):
    """As the terminal does it on Ctrl-C, which reaches all processes at once."""
    process, pid, folder = program
    os.killpg(process.pid, signal.SIGINT)
    _, words = process.communicate(timeout=60)
    assert words.count("Traceback") == 1 and words.endswith("KeyboardInterrupt\n")
    wait_until(lambda: not is_running(pid))
    assert not folder.exists()


@posix
def test_an_answer_that_nobody_waited_for_is_given_to_no_other_order(worker):
    """An interrupt comes in the middle, and the program goes on, as notebooks do."""
    alarm = threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT])
    alarm.start()
    with pytest.raises(KeyboardInterrupt):
        worker.ask("doze", seconds_of_sleep=1.5)
    with pytest.raises(WorkerEndError):
        worker.ask("count")


@posix
def test_an_interrupt_does_not_end_the_worker(worker):
    worker.ask("count")
    os.kill(worker.process.pid, signal.SIGINT)
    assert worker.ask("count") == {"calls": 2}


@pytest.mark.parametrize("as_text", [True, False])
def test_nothing_in_the_current_folder_is_imported(
    script, monkeypatch, tmp_path, as_text
):
    folder = tmp_path / "of_a_stranger"
    folder.mkdir()
    for name in ("numpy", "json", "queue"):
        (folder / f"{name}.py").write_text("raise SystemExit('a stranger ran')")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", ["" if as_text else str(folder), *sys.path])
    monkeypatch.setenv("PYTHONPATH", os.pathsep + str(folder))
    with WorkerProcess(script) as worker:
        assert str(folder) not in worker.ask("surroundings")["path"]
