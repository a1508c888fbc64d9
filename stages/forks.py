"""A process for each experiment, forked from one that has imported all that stages need (ddpm/study/pool.py).

It reads tasks from its input, a line of JSON each, and answers with a line when one has ended. At the end of its input
it stops those that run, with their state saved. Only plain values pass, so who asks may have other code than this.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from ddpm.base.errors import exit_code
from ddpm.base.machine import die_with_parent
from stages import __main__ as stages
from stages import experiment


def main() -> None:
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # as for a stage
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # nothing that is imported prints among the answers
    stages.preload()
    gc.freeze()  # the collector does not touch, and so copy, what all have in common
    selector, running = selectors.DefaultSelector(), dict[int, tuple[int, int]]()
    with open(0, "rb", buffering=0) as tasks:  # or the selector would miss a second line
        selector.register(tasks, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not tasks:
                    selector.unregister(key.fileobj)
                    number, pid = running.pop(key.fd)
                    os.close(key.fd)
                    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                    print(json.dumps({"number": number, "code": code}), file=answers)
                elif line := tasks.readline():
                    asked = json.loads(line)
                    with suppress(OSError):  # code of another commit may lack a file: the process itself reports that
                        experiment.digest_code(asked["params"])
                    end, pid = _fork(asked)
                    running[end] = asked["number"], pid
                    selector.register(end, selectors.EVENT_READ)
                else:
                    for _, pid in running.values():
                        os.kill(pid, signal.SIGTERM)
                    for _, pid in running.values():
                        os.waitpid(pid, 0)
                    return


def _fork(asked: dict[str, Any]) -> tuple[int, int]:
    """A descriptor that is at its end when the process has gone, and the process's id."""
    parent = os.getpid()
    end, held = os.pipe()
    if pid := os.fork():
        os.close(held)
        return end, pid
    code = 1
    try:
        log = os.open(asked["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        for descriptor in (1, 2):
            os.dup2(log, descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        die_with_parent(parent)
        os.environ |= asked["environment"]
        folder, source = Path(asked["folder"]), Path(asked["code"])
        code = exit_code(lambda: experiment.run(folder, source, asked["params"], asked["program"]))
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:  # its last line is the reason of the failure
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
