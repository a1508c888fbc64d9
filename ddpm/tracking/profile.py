"""Where the time of training steps goes: ``train.profile``, by torch.profiler."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from torch.profiler import ProfilerActivity, profile, schedule
from tqdm import tqdm

from ddpm.base.files import atomic_path
from ddpm.training.trainer import Trainer

FOLDER = Path(".ddpm/profile")  # under the repository's root; no stage's out, because times differ from run to run
SKIPPED = 5  # steps of a process, in which libraries choose their kernels, get their memory, and record a CUDA graph
SHOWN = 15  # operations


def folder() -> Path:
    """Of the last training that was to be profiled."""
    return Path(os.environ.get("DVC_ROOT", ".")) / FOLDER


class Profile:
    """Called after each step, it profiles ``train.profile`` of the main rank's steps, after the first few, and writes
    operations.txt, those that take the most time by themselves, and trace.json.gz, every call.

    What it sees are whole rounds of the loop: a checkpoint or a grid that is due is in it too.
    """

    def __init__(self, trainer: Trainer):
        self.steps = trainer.config.train.profile if trainer.ranks.main else 0
        self.total = trainer.total
        self.gpu = trainer.device.type == "cuda"
        self.first = 0  # that is profiled
        if self.steps:
            shutil.rmtree(folder(), ignore_errors=True)
            os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's library says when it begins and ends

    def __call__(self, step: int) -> None:
        if not self.steps:
            return
        if not self.first:  # so this was the first step of the process, and a resumed training has those before it
            self.first = step + SKIPPED
            self.profiler = profile(
                activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.gpu else [])],
                schedule=schedule(wait=SKIPPED - 2, warmup=1, active=self.steps, repeat=1),
                on_trace_ready=self._write,
            )
            self.profiler.start()
        elif step < self.total:
            self.profiler.step()
        if step == self.total:
            self.profiler.stop()
            if not folder().exists():
                self._say(f"no profile: it would begin with step {self.first}, and the last is {self.total}")

    def _write(self, profiler: profile) -> None:
        last = min(self.first + self.steps - 1, self.total)
        with atomic_path(folder()) as temporary:
            temporary.mkdir()
            table = profiler.key_averages().table(
                sort_by=f"self_{'cuda' if self.gpu else 'cpu'}_time_total",
                header=f"Training steps {self.first} to {last}",
                row_limit=SHOWN,
                max_name_column_width=40,
            )
            (temporary / "operations.txt").write_text(table)
            profiler.export_chrome_trace(str(temporary / "trace.json.gz"))
        self._say(f"steps {self.first} to {last} are in {FOLDER}: operations.txt, trace.json.gz for ui.perfetto.dev")

    @staticmethod
    def _say(line: str) -> None:
        tqdm.write(f"train.profile: {line}", sys.stderr)  # above the bar
