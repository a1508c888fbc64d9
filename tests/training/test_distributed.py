"""Training on gloo ranks: the same as on one, and a one-line end when a rank fails."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from ddpm.base.errors import UserError
from ddpm.base.files import sha256
from ddpm.compute import distributed, noise
from ddpm.compute.distributed import Ranks
from ddpm.training.trainer import Trainer
from tests.small import CPU, Memory, pictures, small
from tests.small_project import QUICK, ROOT, lay_out
from tests.two_ranks import trained

LAUNCH = """
from ddpm.base.errors import exit_code
from ddpm.compute import distributed
raise SystemExit(exit_code(lambda: distributed.launch(["-m", "tests.two_ranks"], 2, "fingerprint")))
"""
HARD = {"train": {"steps": 12, "batch_size": 9, "accumulate": 3, "timestep_sampler": {"name": "loss_second_moment"}}}

# activations are made twice
TWICE = {"train": {**HARD["train"], "checkpoint_activations": True}}

# each rank's own labels, some of them dropped, and its own augmentations, noise, perturbations and contrasts; averages
# of three lengths
SHOWN = {
    "train": {
        **HARD["train"], "augmentation": {"name": "non_leaking", "non_leaking": {"p": 0.5}},
        "timestep_sampler": {"name": "stratified"},
        "input_perturbation": 0.1, "noise_draws": 2, "posthoc": {"lengths": [0.05, 0.1], "snapshots": 4},
        "label_dropout": 0.4,
    },
    "model": {"classes": 3}, "diffusion": {"loss": {"name": "contrastive"}},
}  # fmt: skip

# the network is asked outside its data-parallel wrapper, and shown where steps end
MAPPED = {"train": HARD["train"], "diffusion": {"loss": {"name": "mean_flow", "mean_flow": {"power": 0.5}}}}


def start(trainings: dict[Path, dict], **more: str) -> subprocess.Popen[str]:
    """Two ranks, with a training in each folder, one after the other. more: environment variables."""
    environment = {**os.environ, "TWO_RANKS": json.dumps({str(at): each for at, each in trainings.items()}), **more}
    command = [sys.executable, "-c", LAUNCH]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, said = process.communicate(timeout=300)
    return process.returncode, said


def curve(folder: Path, rank: int = 0) -> np.ndarray:
    return np.array(json.loads((folder / f"rank-{rank}.json").read_text()))


def wait_for(condition, process: subprocess.Popen[str]) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)


@pytest.mark.slow
def test_two_ranks_learn_what_one_learns(tmp_path):
    """Dropout, importance-sampled timesteps, accumulation and shares of unequal size included."""
    cases = {"twice": TWICE, "shown": SHOWN, "mapped": MAPPED}
    assert finish(start({tmp_path / "2" / name: options for name, options in cases.items()}))[0] == 0
    for name, options in cases.items():
        alone, both = tmp_path / "1" / name, tmp_path / "2" / name
        trained(alone, options)
        np.testing.assert_allclose(curve(both), curve(alone), rtol=1e-4, err_msg=name)
        np.testing.assert_array_equal(curve(both, 0), curve(both, 1), err_msg=name)
        one, two = (load_file(folder / "model.safetensors") for folder in (alone, both))
        for key, value in one.items():
            torch.testing.assert_close(two[key], value, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_a_signalled_run_goes_on_with_another_number_of_ranks(tmp_path, capsys):
    options = {"train": {"steps": 80, "checkpoint_every": 5}}
    first = start({tmp_path / "stopped": options})
    wait_for(lambda: list((tmp_path / "stopped" / "checkpoints").glob("*.safetensors")), first)
    first.send_signal(signal.SIGTERM)
    assert finish(first)[0] == 128 + signal.SIGTERM
    assert not (tmp_path / "stopped" / "model.safetensors").exists()
    trained(tmp_path / "stopped", options)
    assert "resuming after step" in capsys.readouterr().err
    trained(tmp_path / "whole", options)
    np.testing.assert_allclose(curve(tmp_path / "stopped"), curve(tmp_path / "whole"), rtol=0.02)


@pytest.mark.slow
def test_all_ranks_resume_from_the_checkpoint_of_the_first(tmp_path):
    """Each has its own folder here, as on machines that do not see the same bytes; the second's files are damaged."""
    cases = {}
    for precision in ("float32", "float16"):  # this has a scaler's state
        folder = tmp_path / precision
        cases[folder] = {"train": {**HARD["train"], "steps": 16, "checkpoint_every": 5, "precision": precision}}
        with pytest.raises(KeyboardInterrupt):
            trained(folder, cases[folder], log=Memory(14), state="checkpoints-0")
        shutil.copytree(folder / "checkpoints-0", folder / "checkpoints-1")
        _, newest = sorted((folder / "checkpoints-1").glob("*.safetensors"))
        newest.write_bytes(newest.read_bytes()[:-1])
    code, said = finish(start(cases, TWO_RANKS_APART="yes"))
    assert code == 0, said
    assert said.count("resuming after step 10 of 16") == 2
    for folder, options in cases.items():
        trained(folder / "whole", options)
        np.testing.assert_array_equal(curve(folder, 0), curve(folder, 1))
        tolerance = 1e-4 if folder.name == "float32" else 0.05
        np.testing.assert_allclose(curve(folder), curve(folder / "whole"), rtol=tolerance)


def the_error(code: int, said: str) -> str:
    """The one line of a launcher that failed."""
    assert code == 2
    assert "Traceback" not in said
    (line,) = (line for line in said.splitlines() if line.startswith("error:"))
    return line


@pytest.mark.slow
def test_nothing_listens_on_the_network_and_a_killed_rank_ends_the_others_with_one_clear_line(tmp_path):
    """torchrun unpickles what its store holds, so whoever reached a port of the launcher could run code in it."""
    launched = start({tmp_path: {"train": {"steps": 100_000, "checkpoint_every": 5}}})
    wait_for(lambda: list((tmp_path / "checkpoints").glob("*.safetensors")), launched)
    launcher = psutil.Process(launched.pid)
    ranks = launcher.children()
    theirs, ours = (
        [at.laddr.ip for process in some for at in process.net_connections() if at.status == psutil.CONN_LISTEN]
        for some in (launcher.children(recursive=True), [launcher])
    )
    ranks[-1].kill()
    assert "SIGKILL" in the_error(*finish(launched))
    assert not any(rank.is_running() for rank in ranks)
    assert (len(ranks), set(theirs), ours) == (2, {"127.0.0.1"}, [])  # gloo's, for tensors


@pytest.mark.slow
def test_ranks_that_lose_each_other_end_with_what_happened_and_what_to_check(tmp_path):
    line = the_error(*finish(start({tmp_path: {"train": {"steps": 400}}}, TWO_RANKS_CUT="yes")))
    assert re.match(r"error: rank [01] of 2 lost the others \(\w.+?\): ", line)
    assert "launch.processes: 1" in line


@given(st.integers(0, 50), st.integers(1, 9))
def test_the_shares_are_the_whole_in_order_and_even(count, size):
    shares = [range(count)[Ranks(rank, size).share(count)] for rank in range(size)]
    assert [item for share in shares for item in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_draws_its_own_part_of_the_noise_ahead(rank, monkeypatch):
    alone, shares = Trainer(small().training(), pictures(), CPU), Ranks(rank, 2)
    monkeypatch.setattr(Ranks, "parallel", lambda self, network: network)
    monkeypatch.setattr(noise.Ahead, "steps", property(lambda self: 3, lambda self, steps: None), raising=False)
    one = Trainer(small().training(), pictures(), CPU, shares)
    for step in (2, 3, 4, 5, 3):
        whole = noise.gaussian(alone.seed, "train", alone.places, step, alone.shape)
        assert torch.equal(one.draw_batch(step)[2].draws.gaussian("train"), whole[shares.share(8)])
        assert torch.equal(one.draw_batch(step)[0], alone.draw_batch(step)[0])


@pytest.mark.slow
def test_torchrun_on_two_machines_makes_the_model_of_two_processes(tmp_path, digits):
    """With the command of docs/machines.md, twice on this machine as on two."""
    lay_out(tmp_path, digits, **QUICK | {"launch": {"processes": 2}})
    options = {"cwd": tmp_path, "env": os.environ | {"DDPM_TRACKING": "off"}, "stderr": subprocess.PIPE, "text": True}
    subprocess.run([sys.executable, "-m", "stages", "train"], check=True, **options)
    model = tmp_path / "data/model/model.safetensors"
    expected = sha256(model)
    model.unlink()
    (command,) = re.findall(r"^torchrun (--.*)$", (ROOT / "docs/machines.md").read_text(), re.M)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    for page, here in (("node0:29400", f"localhost:{port}"), ("--nproc-per-node=8", "--nproc-per-node=1")):
        assert page in command
        command = command.replace(page, here)
    torchrun = [sys.executable, "-m", "torch.distributed.run", *shlex.split(command)]
    for machine in [subprocess.Popen(torchrun, **options) for _ in range(2)]:
        code, said = finish(machine)
        assert code == 0, said
    assert sha256(model) == expected


def test_processes_follow_the_machine(monkeypatch):
    known = {(0, "auto", "auto"): 1, (0, 5, "cpu"): 5, (4, "auto", "auto"): 4, (4, "auto", "cpu"): 1,
             (4, "auto", "cuda:1"): 1, (4, 2, "cuda"): 2}  # fmt: skip
    for (gpus, chosen, device), expected in known.items():
        monkeypatch.setattr(torch.cuda, "device_count", lambda gpus=gpus: gpus)
        assert distributed.processes(chosen, device) == expected
    for count, device in ((8, "auto"), (2, "cuda:1")):
        with pytest.raises(UserError, match=r"launch.processes: \d"):
            distributed.processes(count, device)
