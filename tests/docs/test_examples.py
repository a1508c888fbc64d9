"""The examples run as they are, and learn."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from ddpm.arms.run import apply_overrides
from ddpm.params import config, file, presets

ROOT = Path(__file__).parents[2]
ONE_FILE = ROOT / "examples/ddpm_in_one_file.py"


def test_the_one_file_example_is_short():
    assert len(ONE_FILE.read_text().splitlines()) <= 150


@pytest.mark.slow
def test_the_one_file_example_draws_a_grid(tmp_path):
    command = [sys.executable, ONE_FILE, "--steps", "3", "--out", tmp_path / "digits.png"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == f"16 new digits: {tmp_path / 'digits.png'}\n"
    with Image.open(tmp_path / "digits.png") as picture:
        assert len(picture.convert("L").getcolors()) > 100


@pytest.mark.long
def test_the_one_file_example_learns():
    """After 60 steps its x_0 is nearer to the digits than their mean is, at a t where half of the image is left."""
    example = runpy.run_path(str(ONE_FILE))
    torch.manual_seed(0)
    x, chain = example["digits"](), example["forward_process"]()
    network = example["train"](x, chain, 60)
    x_0, t = x[:256], torch.full((256,), 400)
    at = chain.at(t)
    epsilon = torch.randn_like(x_0)
    x_t = at.signal * x_0 + at.sigma * epsilon
    with torch.inference_mode():
        found = example["PREDICT"].predict(network(x_t, t), x_t, at).x_0
    error, spread = ((a - x_0).square().mean().item() for a in (found, x.mean(dim=0)))
    assert error < spread / 2


def test_ideas_of_the_night_may_be_tried_and_every_fourth_does_nothing(folder, monkeypatch, capsys):
    night = runpy.run_path(str(ROOT / "examples/night.py"))
    params = file.decode(presets.text("digits_short"), "digits_short")
    tried: list[dict[str, object]] = []
    commits = []

    def answer(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        if command[0] == "git":
            commits.append(command[1])
            return subprocess.CompletedProcess(command, 0)
        assert [*command[:4], command[5]] == ["ddpm", "ladder", "try", "digits", "--json"]
        tried.append(file.read_params(Path(command[4])))
        return subprocess.CompletedProcess(command, 2 if len(tried) == 1 else 1, '{"outcome": "refused"}')

    monkeypatch.setattr(subprocess, "run", answer)
    night["main"]("digits", 40, greedy=False)
    printed = [json.loads(line)["outcome"] for line in capsys.readouterr().out.splitlines()]
    assert printed == ["mistake"] + ["refused"] * 39
    assert commits == ["add", "commit"] * 39
    for changes in tried:
        config.parse(apply_overrides(params, changes, "idea"))
    assert [list(changes) for changes in tried[3::4]] == [["train.input_perturbation"]] * 10
    assert all(changes["train.input_perturbation"] < 1e-4 for changes in tried[3::4])
