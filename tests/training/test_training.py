"""Training: Algorithm 1, stoppable anywhere, resumable to the same bytes."""

import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ddpm.base import variant
from ddpm.base.errors import UserError
from ddpm.base.files import sha256
from ddpm.compute import noise
from ddpm.compute.noise import stream_seed
from ddpm.report.previews import Previews
from ddpm.training.batches import Batches
from ddpm.training.checkpoints import Checkpoints
from ddpm.training.train_params import DECAYS
from ddpm.training.trainer import Trainer, train
from ddpm.variants.losses.simple import Simple
from ddpm.variants.timestep_samplers.uniform import Uniform
from tests.small import CPU, PARAMS, Memory, pictures, small

pytestmark = pytest.mark.usefixtures("folder")


def run(config, out: str, log: Memory | None = None):
    checkpoints = Checkpoints("run")
    history = train(config.training(), pictures(), CPU, Path(out), checkpoints, log or Memory(), [Previews])
    checkpoints.finish()  # as the stage does once its result is certain to be kept
    return history


# a chain of 4 steps: each has been drawn often enough for a sampler with memory to leave its warm-up
SHORT = {**small().diffusion.model_dump(), "T": 4}
TURNED = {"name": "non_leaking", "non_leaking": {"p": 0.5}}
MEMORY = {"name": "loss_second_moment", "loss_second_moment": {"history": 2}}
FLOW = {"schedule": {"name": "rectified_flow"}, "parameterization": {"name": "flow"}}
AHEAD = [
    {"train": {"augmentation": TURNED, "accumulate": 3, "noise_draws": 2, "input_perturbation": 0.1}},
    {"diffusion": {**FLOW, "loss": {"name": "shortcut"}}, "train": {"accumulate": 2, "horizontal_flip": True}},
    {"diffusion": {**FLOW, "loss": {"name": "contrastive"}}, "train": {"augmentation": TURNED}},
]


@pytest.mark.parametrize("options", AHEAD, ids=str)
def test_noise_of_several_steps_at_once_has_the_bits_of_each_step(options, monkeypatch):
    """As on a GPU, which draws steps ahead: the same losses at each step, also from the middle of a block."""
    options = {**options, "train": {**PARAMS["train"], "batch_size": 6, **options["train"]}}
    alone = Trainer(small(**options).training(), pictures(), CPU)
    expected = [float(alone.step(step)[0]) for step in range(1, 7)]
    monkeypatch.setattr(noise.Ahead, "steps", property(lambda self: 3, lambda self, steps: None), raising=False)
    ahead, again = (Trainer(small(**options).training(), pictures(), CPU) for _ in range(2))
    assert [float(ahead.step(step)[0]) for step in range(1, 5)] == expected[:4]
    again.restore(ahead.state())
    assert [float(again.step(step)[0]) for step in (5, 6)] == expected[4:]


@pytest.mark.slow
@pytest.mark.parametrize(("step", "number", "loss", "train"), [
    # a checkpoint was just written
    (5, signal.SIGTERM, "simple", {"posthoc": {"lengths": [0.05, 0.1], "snapshots": 4}, "snapshots": [32],
                                   "gradient_clip": 1.0, "horizontal_flip": True, "grid_every": 4}),
    (7, signal.SIGINT, "p2", {"timestep_sampler": MEMORY, "precision": "bfloat16", "accumulate": 2}),
    (7, signal.SIGTERM, "simple", {"augmentation": TURNED, "precision": "float16", "gradient_clip": 1.0}),
    # a kill, after a snapshot that no checkpoint has
    (7, None, "simple", {"augmentation": TURNED, "timestep_sampler": MEMORY, "accumulate": 2, "snapshots": [48]}),
])  # fmt: skip
def test_stopped_and_resumed_gives_the_same_bytes_as_uninterrupted(step, number, loss, train, capsys):
    train = {"grid_every": 12, **train}  # a CPU takes seconds for each
    config = small(diffusion={**SHORT, "loss": {"name": loss}}, train=train, sample={"steps": 4})
    whole = run(config, "whole")
    log = Memory(step, number)
    with pytest.raises(SystemExit if number else KeyboardInterrupt) as stopped:
        run(config, "halves", log)
    done = 5
    if number:
        done = step
        assert stopped.value.code == 128 + number
        assert log.sent == step
        assert f"step {step} of 12" in capsys.readouterr().err.splitlines()[-1]
    again = Memory()
    resumed = run(config, "halves", again)
    for part in ("model.safetensors", "ema", "snapshots"):
        assert sha256(Path("halves", part)) == sha256(Path("whole", part))
    assert [row.step for row in again.rows] == list(range(done + 1, 13))
    curves = [[(row.step, row.loss, row.gradient_norm) for row in each.rows] for each in (resumed, whole)]
    assert curves[0] == curves[1]
    assert not Checkpoints("run").folder.exists()


def test_what_is_learned_beside_the_network_is_in_no_average():
    trainer = Trainer(small(train={"augmentation": TURNED}).training(), pictures(), CPU)
    (before,) = (parameter.detach().clone() for parameter in trainer.student.auxiliary.parameters())
    trainer.step(1)
    assert not torch.equal(before, *trainer.student.auxiliary.parameters())
    assert set(trainer.student.averages.shipped) == {name for name, _ in trainer.student.network.named_parameters()}


def test_an_images_weight_scales_its_loss_and_its_gradient(monkeypatch):
    def step(weight: Tensor) -> tuple[float, float]:
        monkeypatch.setattr(Uniform, "draw", lambda self, uniform, T, state: ((uniform * T).long() + 1, weight))
        loss, gradient_norm = Trainer(small().training(), pictures(), CPU).step(1)
        return float(loss), float(gradient_norm)

    even, alone = torch.ones(8), torch.eye(8)[0] * 8
    assert step(3 * even) == pytest.approx([3 * value for value in step(even)], rel=1e-4)
    assert all(abs(one / other - 1) > 1e-3 for one, other in zip(step(alone), step(even), strict=True))


def test_accumulated_parts_give_the_whole_batchs_step():
    model = {"unet": {**PARAMS["model"]["unet"], "dropout": 0.0}}
    configs = (small(train={"accumulate": parts}, model=model).training() for parts in (1, 4))
    first, second = (Trainer(config, pictures(), CPU) for config in configs)
    for step in (1, 2):
        torch.testing.assert_close(first.step(step), second.step(step), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", variant.names("emas"))
def test_the_shipped_weights_are_the_average_by_the_profile(name):
    trainer = Trainer(small(train={"ema": {"name": name}}).training(), pictures(), CPU)
    weights = dict(trainer.student.network.named_parameters())
    expected = {key: weight.detach().clone() for key, weight in weights.items()}
    decay = trainer.config.train.ema.decay
    assert all(0 <= decay(step) < 1 for step in (1, 10, 1000, 10**6))
    assert (decay(10**6) > 0.9) == (decay(1) > 0) == (name != "off")
    for step in (1, 2, 3):
        trainer.step(step)
        expected = {key: decay(step) * expected[key] + (1 - decay(step)) * weights[key].detach() for key in weights}
    torch.testing.assert_close(trainer.student.averages.shipped, expected)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(monkeypatch):
    at_step_8 = iter([1.0] * 7 + [float("nan")])
    monkeypatch.setattr(Simple, "measure", lambda _, estimate: estimate.squared_error() * next(at_step_8))
    with pytest.raises(UserError, match="not finite at step 8"):
        run(small(), "out")
    assert not Path("out/model.safetensors").exists()
    assert Checkpoints("run").load(CPU)[1] == 5


@pytest.mark.parametrize("decay", DECAYS)
def test_the_learning_rate_warms_up_and_decays_to_zero_one_step_after_the_last(decay):
    """A hundred steps after ten of warm-up; and a warm-up may outlast the training."""

    def rates(steps: int, warmup: int) -> list[float]:
        options = small(train={"steps": steps, "warmup_steps": warmup, "lr_decay": decay, "learning_rate": 1e-2}).train
        return [options.rate(step, steps) / 1e-2 for step in range(1, steps + 1)]

    done = np.arange(100) / 100
    left = {"constant": 1 + 0 * done, "cosine": np.cos(np.pi / 2 * done) ** 2, "linear": 1 - done,
            "wsd": np.minimum(1, 5 * (1 - done))}  # fmt: skip
    assert rates(110, 10) == pytest.approx([*np.arange(1, 11) / 10, *left[decay]])
    assert min(rates(1, 0) + rates(3, 3) + rates(3, 9)) > 0


@pytest.mark.parametrize(("count", "size"), [(50, 8), (5, 12), (1, 3)])
@pytest.mark.parametrize("part", [slice(None), slice(2, 5)])
def test_each_image_comes_once_an_epoch_in_torchs_permutation(count, size, part):
    """The same on any number of ranks, and as after a resume; classes go with their images."""
    images = np.arange(count, dtype=np.uint8)[:, None, None, None]
    batches = Batches(images, size, 3, CPU, part, np.arange(count))
    generators = (torch.Generator().manual_seed(stream_seed(3, "order", n)) for n in range(13 * size // count + 1))
    order = torch.cat([torch.randperm(count, generator=generator) for generator in generators])
    for step in (1, 2, 7, 5, 6, 13):  # of 50 images the seventh and the thirteenth batch are of two epochs
        expected = order[(step - 1) * size : step * size][part].tolist()
        assert ((batches(step).flatten() + 1) * 127.5).round().long().tolist() == expected
        assert batches.labels(step).tolist() == expected


NOW, BEFORE = {"ddpm/base/files.py": "1", "stages/train.py": "1"}, {"ddpm/base/files.py": "2", "stages/train.py": "1"}


def states() -> dict[str, int]:
    """The step of each state's newest checkpoint."""
    folders = Path(".ddpm/checkpoints").iterdir()
    return {path.name: max((int(file.stem) for file in path.glob("*.safetensors")), default=0) for path in folders}


@pytest.mark.parametrize("choice", ["", "continue", "restart"])
def test_a_state_of_other_code_is_continued_or_left_only_if_somebody_says_so(choice, monkeypatch, capsys):
    config = small(train={"steps": 12, "checkpoint_every": 4})

    def train_by(code: dict[str, str], log: Memory) -> Checkpoints:
        checkpoints = Checkpoints("run", code)
        train(config.training(), pictures(), CPU, Path("out"), checkpoints, log)
        return checkpoints

    with pytest.raises(SystemExit):
        train_by(BEFORE, Memory(6, signal.SIGTERM))
    before = states()
    assert list(before.values()) == [6]
    monkeypatch.setenv("DDPM_RESUME", choice)
    if not choice:
        with pytest.raises(UserError, match=r"step 6 .*ddpm/base/files.py changed.*=continue.*=restart"):
            train_by(NOW, Memory())
        assert states() == before
        return
    log = Memory()
    checkpoints = train_by(NOW, log)
    assert log.rows[0].step == (7 if choice == "continue" else 1)
    assert "other code" in capsys.readouterr().err or choice == "restart"
    assert before.items() <= states().items() or choice == "continue"  # until there is something in its place
    checkpoints.finish()
    assert states() == {}


def test_the_gradient_is_clipped_to_its_limit():
    """A limit that is never reached changes nothing, and one that is changes what Adam makes of several steps."""

    def losses(clip: float | None) -> list[float]:
        trainer = Trainer(small(train={"gradient_clip": clip}).training(), pictures(), CPU)
        return [float(trainer.step(step)[0]) for step in range(1, 6)]

    free = losses(None)
    assert losses(1e9) == free
    assert losses(0.01) != free
