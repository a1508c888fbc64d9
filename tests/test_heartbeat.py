"""Heartbeats between machines. tests/test_machines.py has whole stages, and the true number of seconds."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from queue import Empty, SimpleQueue

import psutil
import pytest

from ddpm.compute import heartbeat

STORE = """
import time
from torch.distributed import TCPStore
store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
print(store.port, flush=True)
time.sleep(600)
"""


@pytest.fixture
def store() -> Iterator[tuple[psutil.Process, int]]:
    """A process that holds torch's store, and its port."""
    with subprocess.Popen([sys.executable, "-c", STORE], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield psutil.Process(process.pid), int(process.stdout.readline())
        process.kill()


@pytest.fixture(autouse=True)
def sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "SILENT", 4)


@pytest.mark.slow
def test_a_store_that_stalls_is_waited_for_and_one_that_stays_silent_is_named(
    store: tuple[psutil.Process, int],
) -> None:
    process, port = store
    said: SimpleQueue[str] = SimpleQueue()
    with heartbeat.watched("127.0.0.1", port, said.put):
        time.sleep(2)
        process.suspend()
        time.sleep(2)
        process.resume()
        with pytest.raises(Empty):
            said.get(timeout=4)
        process.suspend()
        assert said.get(timeout=8) == f"the one at 127.0.0.1:{port} sent nothing for 4 seconds"
        process.resume()


@pytest.mark.slow
def test_a_machine_whose_heartbeats_end_is_lost(store: tuple[psutil.Process, int]) -> None:
    _, port = store
    said: SimpleQueue[str] = SimpleQueue()
    with heartbeat.watched("127.0.0.1", port, said.put):
        with heartbeat.watched("127.0.0.1", port, said.put), pytest.raises(Empty):
            said.get(timeout=6)
        assert said.get(timeout=8) == "one of them sent nothing for 4 seconds"


@pytest.mark.slow
def test_a_store_that_is_closed_is_left_to_torchrun(store: tuple[psutil.Process, int]) -> None:
    process, port = store
    said: SimpleQueue[str] = SimpleQueue()
    with heartbeat.watched("127.0.0.1", port, said.put):
        time.sleep(2)
        process.kill()
        with pytest.raises(Empty):
            said.get(timeout=7)
