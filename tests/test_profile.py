"""``train.profile``: what it writes, and that it changes no byte of a model."""

from __future__ import annotations

import gzip
import json
import os
import signal
from pathlib import Path

import pytest
import torch

from ddpm.base.files import sha256
from ddpm.compute.distributed import ALONE, Ranks
from ddpm.params.config import Config
from ddpm.tracking.profile import FOLDER, SHOWN, Profile
from ddpm.training.checkpoints import Checkpoints
from ddpm.training.history import Row
from ddpm.training.trainer import train
from tests.small import TINY, Memory, pictures, small

pytestmark = pytest.mark.usefixtures("folder")


def tiny(**train: int) -> Config:
    return small(train=train, model=TINY)


def run(config: Config, out: str, log: Memory | None = None) -> str:
    """The model's sha256."""
    device, state = torch.device("cpu"), Checkpoints("run")
    watches = [lambda trainer, _: Profile(trainer)]
    train(config.training(), pictures(), device, Path(out), state, log or Memory(), watches)
    return sha256(Path(out, "model.safetensors"))


def profiled() -> tuple[str, set[str], int]:
    """The table's header, the names of what is in the trace, and how many steps are in it."""
    table = (FOLDER / "operations.txt").read_text().splitlines()
    assert sum(line[0] not in "-=S" for line in table if line) == 2 + SHOWN  # the header and the columns' names
    with gzip.open(FOLDER / "trace.json.gz") as file:
        names = {event["name"] for event in json.load(file)["traceEvents"] if "name" in event}
    return table[1], names, sum(name.startswith("ProfilerStep#") for name in names)


def test_a_profile_has_its_steps_and_the_model_has_the_same_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    without = run(tiny(), "without")
    assert not FOLDER.exists()
    assert run(tiny(profile=4), "with") == without
    header, names, steps = profiled()
    assert header == "Training steps 6 to 9"
    assert names >= {"aten::mkldnn_convolution", "aten::convolution_backward", "Optimizer.step#AdamW.step"}
    assert steps == 4
    line = "train.profile: steps 6 to 9 are in .ddpm/profile: operations.txt, trace.json.gz for ui.perfetto.dev"
    assert line in capsys.readouterr().err.splitlines()


class StopAt(Memory):
    """A log that sends this process a signal when a row of that step arrives."""

    def log(self, row: Row) -> None:
        super().log(row)
        if row.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_resumed_training_is_profiled_after_its_own_first_steps_up_to_its_end() -> None:
    whole = run(tiny(), "whole")
    with pytest.raises(SystemExit):
        run(tiny(profile=100), "halves", StopAt())
    assert not FOLDER.exists()
    assert run(tiny(profile=100), "halves") == whole
    header, _, steps = profiled()
    assert (header, steps) == ("Training steps 9 to 12", 4)


def test_a_training_that_is_too_short_says_so_and_leaves_no_older_profile(capsys: pytest.CaptureFixture[str]) -> None:
    run(tiny(profile=2), "long")
    run(tiny(profile=2, steps=5), "short")
    assert not FOLDER.exists()
    line = "train.profile: no profile: it would begin with step 6, and the last is 5"
    assert line in capsys.readouterr().err.splitlines()


def test_only_the_main_rank_is_profiled() -> None:
    class Stub:
        config = tiny(profile=2).training()
        device = torch.device("cpu")
        total = 12

        def __init__(self, ranks: Ranks):
            self.ranks = ranks

    for ranks in (Ranks(1, 2), ALONE):
        profile = Profile(Stub(ranks))  # type: ignore[arg-type]
        for step in range(1, 13):
            profile(step)
        assert FOLDER.exists() == ranks.main
