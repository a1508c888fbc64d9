"""What tells machines that run a stage together that one of them is lost.

A machine without power closes no connection. gloo would wait for it for 30 minutes, and torchrun only strikes it off;
if it is the one at which the machines met, torchrun waits as well, for ever and without hearing a signal.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

from torch.distributed import TCPStore  # type: ignore[attr-defined]  # public, says torch's documentation

SILENT = 30  # seconds without a heartbeat after which a machine counts as lost


@contextmanager
def watched(host: str, port: int, lost: Callable[[str], None]) -> Iterator[None]:
    """Send heartbeats while this lasts. ``lost`` is called in a thread, with the reason, if those of another machine
    stop, or if the store at the address, which holds them, answers no more. A closed connection is torchrun's to see.
    """
    over, beats = threading.Event(), list[int]()
    beating = threading.Thread(target=_beat, args=(host, port, over, beats), daemon=True)

    def watch() -> None:
        before, silent = dict[int, int](), Counter[int]()
        # counted, not timed: a machine that was stopped itself must not blame another
        while beating.is_alive() and not over.wait(1):
            now = dict(enumerate(beats))
            silent = Counter({place: silent[place] + 1 for place in now if before.get(place) == now[place]})
            before = now
            if max(silent.values(), default=0) >= SILENT:
                which = f"the one at {host}:{port}" if min(silent[place] for place in now) >= SILENT else "one of them"
                lost(f"{which} sent nothing for {SILENT} seconds")
                break

    beating.start()
    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()
        beating.join(2)  # the interpreter must not end inside torch's call


def _beat(host: str, port: int, over: threading.Event, beats: list[int]) -> None:
    """Count up this machine's number in the store each second, and keep those of all in ``beats``."""
    with suppress(RuntimeError):  # what torch raises if nobody came, or if the store was closed
        # torchrun holds its own connection for as long as it waits
        store = TCPStore(host, port, timeout=timedelta(minutes=10))
        beats[:] = [0]  # from here on silence counts
        place = store.add("ddpm.machines", 1)
        while not over.wait(1):
            store.add(f"ddpm.beats.{place}", 1)
            machines = store.add("ddpm.machines", 0)
            beats[:] = [store.add(f"ddpm.beats.{each}", 0) for each in range(1, machines + 1)]
