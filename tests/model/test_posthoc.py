"""Averages of a length that is chosen after the training."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from ddpm.base.errors import UserError
from ddpm.compute.distributed import ALONE
from ddpm.model import averages, build, posthoc
from ddpm.model.model_file import load_model, save_model
from ddpm.model.posthoc import TOLERANCE
from ddpm.runs.record import Provenance
from ddpm.training.ema import EMA
from ddpm.training.snapshots import Averages
from stages import evaluate, sample
from tests.command import refused, run
from tests.small import CPU, small

STEPS = 320
LENGTHS = (0.039, 0.075, 0.175)  # from one end of what the snapshots give to the other
MODEL = Path("data/model/model.safetensors")


def kept(**options: object):
    return small(train={"steps": STEPS, "posthoc": {"lengths": [0.05, 0.1], "snapshots": 16, **options}})


@pytest.fixture(scope="module")
def tracked(tmp_path_factory) -> tuple:
    """The folder of a model whose weights did a random walk, and the averages of LENGTHS that were tracked directly."""
    torch.manual_seed(0)
    config, folder = kept().training(), tmp_path_factory.mktemp("posthoc") / MODEL.parent
    network = build.network(config)
    direct = {each: EMA(network, partial(posthoc.decay, posthoc.exponent(each))) for each in LENGTHS}
    shipped = Averages(network, config, STEPS)
    for step in range(1, STEPS + 1):
        for parameter in network.parameters():
            parameter.data += 0.02 * torch.randn_like(parameter)
        for each in (shipped, *direct.values()):
            each.update(step)
        shipped.keep(step, folder, {})
    save_model(folder / MODEL.name, network.state_dict(), config, {"steps": STEPS})
    return folder, {each: ema.averages for each, ema in direct.items()}


@pytest.mark.parametrize("length", LENGTHS)
def test_a_reconstruction_is_the_average_that_is_tracked(tracked, length):
    folder, direct = tracked
    found = averages.load(folder / MODEL.name, length, CPU)
    assert found.facts == {"steps": STEPS, "ema_length": length}
    own, wanted = found.network.state_dict(), direct[length]
    gap = torch.cat([(own[name] - wanted[name]).flatten() for name in wanted])
    assert gap.norm() < 1e-3 * torch.cat([value.flatten() for value in wanted.values()]).norm()


@pytest.mark.parametrize("length", [0.048, 0.05, 0.12])
def test_the_weights_are_the_least_squares_ones_of_sampled_profiles_divided_by_their_sum(length):
    chosen, total, points = posthoc.Posthoc(lengths=(0.05, 0.1), snapshots=8), 800, 40_000
    tau = (np.arange(points) + 0.5) / points

    def profile(each: float, t: float) -> np.ndarray:
        gamma = posthoc.exponent(each)
        return np.where(tau <= t, (gamma + 1) * tau**gamma / t ** (gamma + 1), 0)

    basis = np.stack([profile(each, step / total) for each in chosen.lengths for step in chosen.steps(total)], axis=1)
    wanted = profile(length, 1.0)
    expected = np.linalg.lstsq(basis, wanted)[0]
    weights = chosen.weights(length, total).ravel()
    np.testing.assert_allclose(weights, expected / expected.sum(), atol=1e-3)
    assert weights.sum() == pytest.approx(1, abs=1e-12), "a weight that training leaves alone is the same in every one"
    assert np.linalg.norm(basis @ expected - wanted) < 1.01 * TOLERANCE * np.linalg.norm(wanted)


@pytest.mark.parametrize(("snapshots", "low", "high"), [(8, 0.045, 0.123), (32, 0.028, 0.228)])
def test_a_length_is_refused_outside_the_range_of_the_docs(snapshots, low, high):
    chosen = kept(snapshots=snapshots).train.posthoc
    for inside, outside in ((low, low - 0.002), (high, high + 0.002)):
        assert chosen.weights(inside, 4000).shape == (2, snapshots)
        with pytest.raises(UserError, match=f"length {outside:g} "):
            chosen.weights(outside, 4000)


def test_the_command_writes_a_model_file_that_says_its_length(tracked, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tracked[0].parents[1])
    out = tmp_path / "short.safetensors"
    assert run("ema", "--length", "0.075", "--out", out) == 0
    written, made = load_model(out, CPU), averages.load(MODEL, 0.075, CPU).network.state_dict()
    assert written.facts["ema_length"] == 0.075
    assert written.written == load_model(MODEL, CPU).written
    assert all(torch.equal(value, made[key]) for key, value in written.network.state_dict().items())
    capsys.readouterr()
    assert f"{out}: " in refused(capsys, "ema", "--length", "0.075", "--out", out)
    assert "0.01" in refused(capsys, "ema", "--length", "0.01")
    assert "snapshot" in refused(capsys, "ema", "--length", "0.05", "--model", out)


def test_snapshots_of_another_training_are_refused(tracked, tmp_path):
    other = load_model(tracked[0] / MODEL.name, CPU)
    config = kept(lengths=[0.05, 0.12])
    save_model(tmp_path / "own.safetensors", other.network.state_dict(), config.training(), {"steps": STEPS})
    (tmp_path / "ema").symlink_to(tracked[0] / "ema")
    with pytest.raises(UserError, match=r"000000020\.safetensors: .*own\.safetensors"):
        averages.load(tmp_path / "own.safetensors", 0.05, CPU)


def test_both_stages_use_the_chosen_average(monkeypatch):
    load = Mock(side_effect=InterruptedError)
    monkeypatch.setattr(averages, "load", load)
    monkeypatch.setattr(evaluate, "read_reference", lambda _: SimpleNamespace(resolve=lambda settings: settings))
    settings = small(train={"posthoc": {}}, sample={"ema_length": 0.075})
    with pytest.raises(InterruptedError):
        sample.main(settings.sample, CPU, ALONE)
    with pytest.raises(InterruptedError):
        evaluate.main(settings.evaluate, settings.sample, CPU, ALONE, Provenance({}, {}), "run")
    assert [called.args[1] for called in load.call_args_list] == [0.075, 0.075]
