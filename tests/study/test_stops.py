"""A study that is stopped or killed, or whose processes hang."""

import contextlib
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests import study_project
from tests.study.test_runner import STAGE, TINY, contents, edit, failures
from tests.study_project import NAMES, ran, records, start, study, until

pytestmark = pytest.mark.usefixtures("project")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_study_that_is_stopped_leaves_nothing_running_and_goes_on(number, code):
    Path("control/sleep").write_text("60")
    process = start(TINY, "--slots", "2")
    until("train linear 0")
    until("train cosine 0")
    process.send_signal(number)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == code, output
    Path("control/sleep").unlink()
    assert not records()
    assert study("run", TINY) == 0
    assert records().keys() == {*NAMES}
    # started once before the stop, once after it, and never by two processes at a time
    assert ran().count("train cosine 0") == 2
    assert not failures()


def start_hanging() -> tuple[subprocess.Popen, psutil.Process, psutil.Process]:
    """The command, its server, and the server's child, which ignores for a minute that it is to end."""
    ignore = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    edit(STAGE, '    sleep = control / "sleep"\n', f'    {ignore}\n    sleep = control / "sleep"\n')
    Path("control/sleep").write_text("60")
    process = start(TINY, "--line", "1")
    until("train cosine 0")
    [server] = psutil.Process(process.pid).children()
    [child] = server.children()
    return process, server, child


@pytest.mark.slow
def test_a_child_that_does_not_react_is_named_and_killed_at_the_second_signal():
    process, server, child = start_hanging()
    other = start(TINY, "--line", "1")
    assert f"process {child.pid} on " in other.stdout.readline()
    other.kill()
    other.communicate(timeout=60)
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        time.sleep(1)
    process.communicate(timeout=30)
    psutil.wait_procs([server, child], timeout=30)
    assert not child.is_running()
    Path("control/sleep").unlink()
    assert study("run", TINY, "--line", "1") == 0


@pytest.mark.slow
def test_the_end_of_the_server_is_noticed_though_a_child_hangs():
    process, server, child = start_hanging()
    server.kill()
    try:
        process.communicate(timeout=30)
        assert process.returncode == 2
    finally:
        child.kill()


@pytest.mark.slow
def test_a_study_that_is_killed_six_times_has_the_same_bytes(project, monkeypatch):
    whole = project.with_name("whole")
    shutil.copytree(project, whole)
    moments = random.Random(0)  # noqa: S311
    Path("control/sleep").write_text("0.5")
    for kill in range(6):
        process = start(TINY, "--slots", "2")
        time.sleep(moments.uniform(0.5, 5))
        with contextlib.suppress(psutil.NoSuchProcess):  # one may end at any time
            own = psutil.Process(process.pid)
            below = own.children(recursive=True)  # the one that forks, and those that run
            [own, *below][min(kill % 3, len(below))].kill()
        if kill % 3:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=300)
    assert study("run", TINY) == 0
    assert records().keys() == {*NAMES}
    killed = contents()
    study_project.enter(whole, monkeypatch)
    assert study("run", TINY) == 0
    assert contents() == killed
