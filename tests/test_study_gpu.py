"""Slots on GPUs, which are not there: who gets which, and what MPS needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from ddpm.base.errors import UserError
from ddpm.study.runner import Runner
from ddpm.study.worker import Worker

LEDGER = cast(Any, None)  # nothing runs


def test_more_slots_than_gpus_share_them() -> None:
    assert Runner(LEDGER, 5, ("0", "1"), print).worker.devices == ["0", "1", "0", "1", "0"]


def test_mps_that_does_not_run_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    with pytest.raises(UserError, match=r"^CUDA_MPS_PIPE_DIRECTORY: no MPS daemon listens in .*start it.*unset"):
        Worker(LEDGER, ("0",))
    Worker(LEDGER)  # without GPUs nobody needs it
    (tmp_path / "control").touch()
    Worker(LEDGER, ("0",))
