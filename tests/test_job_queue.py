"""The job queue on tiny processes: each job runs once, failures are independent, stop signals are forwarded."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import filelock
import pytest

from rb_smooth.training.run_folder.run import Run
from rb_smooth.training.sweep import job_queue
from rb_smooth.training.sweep.job_process import Job
from rb_smooth.training.sweep.job_queue import run_jobs


def job(place, name, code, done=None, network=""):
    """A job that executes `code` in Python, its run in `place`/`name`, done when the file `done` is there."""
    done = place / "nowhere" if done is None else done
    return Job(name, Run(place / name), (sys.executable, "-c", code), done.exists, network)


@pytest.fixture(autouse=True)
def _short_delays(monkeypatch):
    monkeypatch.setattr(job_queue, "_RETRY_SECONDS", 0.1)
    monkeypatch.setattr(job_queue, "_POLL_SECONDS", 0.02)


def test_each_job_runs_once_and_one_at_a_time_on_a_device(tmp_path):
    code = (
        "import os, sys, time; place = sys.argv[1].partition('=')[2]; os.mkdir(place); time.sleep(0.1); "
        "os.rmdir(place); print('ran' + ' on', place)"
    )
    devices = [str(tmp_path / name) for name in ("cpu", "gpu")]
    jobs = [job(tmp_path, f"job {i}", code) for i in range(5)]
    assert run_jobs(jobs, devices) == []  # two at once on a device would meet in its folder
    outputs = [(each.run.path / "output.txt").read_text() for each in jobs]
    assert all(output.count("ran on") == 1 for output in outputs)
    assert {output.split("ran on ")[1].strip() for output in outputs} == set(devices)


def test_a_failure_is_reported_by_its_last_line_and_stops_no_other_job(tmp_path, capsys):
    jobs = [
        job(tmp_path, "crash", "print('before'); raise ValueError('too small')"),
        job(
            tmp_path, "refusal", "import sys; print('rb_smooth: expected more, got less', file=sys.stderr); sys.exit(2)"
        ),
        job(tmp_path, "murder", "import os; print('at work', flush=True); os.kill(os.getpid(), 9)"),
        Job("absent", Run(tmp_path / "absent"), (str(tmp_path / "no-python"),), lambda: False),
        job(tmp_path, "good", "print('fine')"),
    ]
    failures = run_jobs(jobs, ["cpu"])
    assert [(failure.job.name, failure.is_user_error) for failure in failures] == [
        ("crash", False),
        ("refusal", True),
        ("murder", False),
        ("absent", True),
    ]
    out = capsys.readouterr().out
    assert "failed crash: ValueError: too small" in out
    assert "failed refusal: expected more, got less" in out
    assert "failed murder: ended by signal 9 (Killed, out of memory?); before that: at work" in out
    assert "no-python" in out
    assert "finished good" in out


def test_the_time_left_is_that_of_the_runs_before(tmp_path, capsys):
    jobs = [job(tmp_path, name, "import time; time.sleep(0.5)") for name in "abc"]
    assert run_jobs(jobs, ["cpu"]) == []
    said = re.findall(r"about ([\d.]+) (m?s) left for (\d) runs?, if they take as long", capsys.readouterr().out)
    assert [runs for *_, runs in said] == ["2", "1"]
    assert float(said[0][0]) >= 1
    assert said[0][1] == "s"


def crashing(number):
    """Code that ends its process by this signal."""
    return f"import os; print('heap corrupted', flush=True); os.kill(os.getpid(), {int(number)})"


@pytest.mark.parametrize("name", ["SIGABRT", "SIGSEGV"])
def test_after_a_crash_no_other_run_of_the_same_network_starts(tmp_path, capsys, name):
    (tmp_path / "done").touch()
    jobs = [
        job(tmp_path, "one", crashing(signal.Signals[name]), network="narrow"),
        job(tmp_path, "same network", "print('ran')", network="narrow"),
        job(tmp_path, "same network, done", "print('ran')", tmp_path / "done", network="narrow"),
        job(tmp_path, "other network", "print('fine')", network="wide"),
    ]
    crash, skipped = run_jobs(jobs, ["cpu"])
    assert (crash.job.name, crash.is_user_error) == ("one", False)
    assert crash.line == (
        f"crashed by {name} in native code; on a CPU set ONEDNN_MAX_CPU_ISA=AVX and repeat the command; "
        "python -m rb_smooth.doctor checks what is installed; "
        f"the last line of {tmp_path / 'one' / 'output.txt'}: heap corrupted"
    )
    assert (skipped.job.name, skipped.is_user_error) == ("same network", False)
    assert skipped.line == "not started: one, of the same network, crashed"
    out = capsys.readouterr().out
    assert f"failed one: {crash.line}" in out
    assert f"failed same network: {skipped.line}" in out
    assert "finished same network, done" in out
    assert "finished other network" in out
    assert not (tmp_path / "same network").exists()


def test_other_failures_or_unknown_networks_stop_no_other_run(tmp_path):
    jobs = [
        job(tmp_path, "killed", "import os; os.kill(os.getpid(), 9)", network="narrow"),
        job(tmp_path, "refused", "raise SystemExit(2)", network="narrow"),
        job(tmp_path, "same network", "print('ran')", network="narrow"),
        job(tmp_path, "crash", crashing(signal.SIGABRT)),
        job(tmp_path, "also unknown", "print('ran')"),
    ]
    failures = run_jobs(jobs, ["cpu"])
    assert [failure.job.name for failure in failures] == ["killed", "refused", "crash"]


def test_a_crash_is_recorded_in_its_own_run_only(tmp_path):
    ends = {"crash": crashing(signal.SIGSEGV), "killed": "import os; os.kill(os.getpid(), 9)", "fine": "pass"}
    run_jobs([job(tmp_path, name, code) for name, code in ends.items()], ["cpu"])
    assert {name: Run(tmp_path / name).crash for name in ends} == {"crash": "SIGSEGV", "killed": None, "fine": None}


def test_a_crash_that_cannot_be_recorded_stops_no_other_run(tmp_path, monkeypatch, capsys):
    def full(run, signal_name):
        raise OSError("no space left")

    monkeypatch.setattr(Run, "record_crash", full)
    failures = run_jobs([job(tmp_path, "crash", crashing(signal.SIGABRT)), job(tmp_path, "good", "pass")], ["cpu"])
    assert [failure.job.name for failure in failures] == ["crash"]
    assert "finished good" in capsys.readouterr().out


def test_a_complete_run_starts_no_process(tmp_path, capsys):
    (tmp_path / "done").touch()
    assert run_jobs([job(tmp_path, "a", "raise SystemExit(1)", tmp_path / "done")], ["cpu"]) == []
    assert "started" not in capsys.readouterr().out


def test_output_of_every_process_is_appended(tmp_path):
    for word in ("one", "two"):
        run_jobs([job(tmp_path, "a", f"print('{word}')")], ["cpu"])
    lines = (tmp_path / "a" / "output.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("$")] == ["one", "two"]
    assert sum(line.startswith("$") for line in lines) == 2


def test_a_locked_run_waits_while_others_start(tmp_path, capsys):
    Run(tmp_path / "a").path.mkdir()
    elsewhere = filelock.FileLock(tmp_path / "a" / ".lock", thread_local=False)
    elsewhere.acquire()
    there = tmp_path / "b-was-there"

    def release_later():
        while not there.exists():
            time.sleep(0.02)
        elsewhere.release()

    releasing = threading.Thread(target=release_later, daemon=True)
    releasing.start()
    code = f"from pathlib import Path; Path({str(there)!r}).touch()"
    jobs = [job(tmp_path, "a", "print('ran')"), job(tmp_path, "b", code)]
    assert run_jobs(jobs, ["cpu"]) == []
    releasing.join()
    out = capsys.readouterr().out
    assert out.count("waiting for a: another process works there") == 1
    assert out.index("finished b") < out.index("started a") < out.index("finished a")


def test_a_run_that_another_process_locks_first_is_queued_again(tmp_path, monkeypatch, capsys):
    looks = iter([False, True])  # free before the start, locked when the process fails, then free
    monkeypatch.setattr(Run, "is_in_use", property(lambda run: next(looks, False)))
    mark = tmp_path / "mark"
    code = f"import sys; from pathlib import Path; mark = Path({str(mark)!r}); code = 0 if mark.exists() else 2; "
    code += "mark.touch(); sys.exit(code)"
    assert run_jobs([job(tmp_path, "a", code)], ["cpu"]) == []
    out = capsys.readouterr().out
    assert out.count("started a") == out.count(f"log: {tmp_path}") == 2
    assert "failed" not in out


PROGRAM = """
import sys
from pathlib import Path
from rb_smooth.core import worker_pool
from rb_smooth.training.sweep import job_queue
from rb_smooth.training.sweep.job_process import Job
from rb_smooth.core.cli import run_cli
from rb_smooth.training.run_folder.run import Run
job_queue._RETRY_SECONDS, worker_pool._REPEAT_WINDOW_S = 0.1, 0.0  # any second signal is a second request
place, count, code = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
folders = [place / str(i) for i in range(count)]
jobs = [Job(f.name, Run(f), (sys.executable, "-c", code, str(f)), (f / "done").exists) for f in folders]
sys.exit(run_cli(lambda: len(job_queue.run_jobs(jobs, ["cpu", "cpu"])))())
"""
"""A program with its own queue, on the runs 0, 1, … in a folder; each executes `code`."""


def program(*arguments):
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_programs_share_runs_by_the_lock_of_each_run(tmp_path):
    code = (
        "import sys, time, filelock; from pathlib import Path; place = Path(sys.argv[1])\n"
        "with filelock.FileLock(place / '.lock', timeout=0.2):\n"
        "    if not (place / 'done').exists():\n"
        "        time.sleep(0.1); (place / 'ran').open('a').write('x'); (place / 'done').touch()"
    )
    programs = [program(tmp_path, 8, code) for _ in range(2)]
    outputs = [each.communicate()[0] for each in programs]
    assert [each.returncode for each in programs] == [0, 0], outputs
    assert [(tmp_path / str(i) / "ran").read_text() for i in range(8)] == ["x"] * 8
    assert all(output.count("finished") == 8 for output in outputs)


def wait_for(process, *paths):
    """Wait until the files exist; the process must not end before."""
    while not all(path.exists() for path in paths):
        assert process.poll() is None
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_signal_lets_every_process_save_and_starts_no_other(tmp_path, number):
    code = (
        "import signal, sys, time; from pathlib import Path; place = Path(sys.argv[1])\n"
        "def save(*_): time.sleep(0.3); (place / 'saved').touch(); sys.exit(130)\n"
        "signal.signal(signal.SIGTERM, save); (place / 'up').touch(); time.sleep(600)"
    )
    process = program(tmp_path, 3, code)
    wait_for(process, tmp_path / "0" / "up", tmp_path / "1" / "up")
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == 130
    assert err == "rb_smooth: stopped, 0 of 3 runs done; the same command goes on from there\n"
    assert (tmp_path / "0" / "saved").exists()
    assert (tmp_path / "1" / "saved").exists()
    assert not (tmp_path / "2").exists()


def test_a_second_stop_signal_kills(tmp_path):
    code = (
        "import os, signal, sys, time; from pathlib import Path; place = Path(sys.argv[1])\n"
        "signal.signal(signal.SIGTERM, lambda *_: (place / 'asked').touch())\n"
        "(place / 'id').write_text(str(os.getpid())); (place / 'up').touch()\n"
        "until = time.monotonic() + 600\n"
        "while time.monotonic() < until: time.sleep(1)"
    )
    process = program(tmp_path, 2, code)
    wait_for(process, tmp_path / "0" / "up", tmp_path / "1" / "up")
    process.send_signal(signal.SIGINT)
    wait_for(process, tmp_path / "0" / "asked", tmp_path / "1" / "asked")
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    for i in range(2):
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / str(i) / "id").read_text()), 0)


def test_omp_num_threads_of_the_user_overrides_threads(tmp_path, monkeypatch):
    code = "import os; print('threads', os.environ.get('OMP_NUM_THREADS'))"
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    run_jobs([job(tmp_path, "a", code)], ["cpu"], threads=3)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    run_jobs([job(tmp_path, "b", code)], ["cpu"], threads=3)
    assert "threads 3" in Path(tmp_path, "a", "output.txt").read_text()
    assert "threads 5" in Path(tmp_path, "b", "output.txt").read_text()
