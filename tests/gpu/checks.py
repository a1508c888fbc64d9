"""The first hour on a GPU: what must hold on a device, the most fundamental first. Each check raises AssertionError or
torch's own error if it fails. A CPU passes them, too, which shows that the checks themselves work."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from ddpm.base import variant
from ddpm.base.errors import exit_code
from ddpm.base.files import sha256
from ddpm.base.sections import Shape
from ddpm.compute import devices, noise
from ddpm.model import build
from ddpm.model.model_file import Loaded
from ddpm.sampling.generator import Generator
from ddpm.scoring import frechet, memorisation
from ddpm.scoring.features import Features, extract
from ddpm.scoring.reference import RealFeatures
from ddpm.scoring.scores import with_curve
from ddpm.tools import forecast
from ddpm.training.checkpoints import Checkpoints
from ddpm.training.trainer import Trainer, train
from ddpm.variants.extractors.random_conv import RandomConv
from tests.shelves import config_of, covering_rows
from tests.small import CPU, DENOISING, Memory, pictures, small

MARGIN = 1.1  # the estimate of memory is a line through two batches
LAST_BITS = 1e-3  # of double's logarithms and cosines, which round to another float32: the share of normals
HALF = {"precision": "bfloat16"}
TRAININGS = {
    "float32": {}, "bfloat16": HALF, "float16": {"precision": "float16"},
    "channels_last": {**HALF, "channels_last": True}, "muon": {**HALF, "optimizer": {"name": "muon"}},
    "recomputed": {**HALF, "checkpoint_activations": True}, "compiled": {**HALF, "compile": True},
}  # fmt: skip


def noise_is_that_of_a_cpu(device: torch.device, folder: Path) -> None:
    here, there = torch.arange(4096), torch.arange(4096, device=device)
    assert torch.equal(noise.uniform(1, "t", here, 7), noise.uniform(1, "t", there, 7).cpu())
    streams = noise.streams(0, ["a", "b"], CPU)
    ours, theirs = noise.words(streams, here, 7), noise.words(streams.to(device), there, 7)
    assert torch.equal(ours, theirs.cpu())
    assert torch.equal(noise.keep_mask(ours[0], 999, 0.1), noise.keep_mask(theirs[0], 999, 0.1).cpu())
    ours, theirs = (noise.gaussian(1, "x", index, 7, (3, 32, 32)).cpu() for index in (here, there))
    assert float((ours != theirs).float().mean()) < LAST_BITS
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def float32_is_float32(device: torch.device, folder: Path) -> None:
    """TF32 would be wrong by 3e-4."""
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(4, 64, 16, 16, generator=generator), torch.randn(64, 64, 3, 3, generator=generator)
    exact = torch.nn.functional.conv2d(x.double(), weight.double(), padding=1)
    ours = torch.nn.functional.conv2d(x.to(device), weight.to(device), padding=1).cpu()
    assert float((ours - exact).norm() / exact.norm()) < 2e-6


def steps_of_every_variant_agree_with_a_cpu_and_do_not_wait(device: torch.device, folder: Path) -> None:
    for row in covering_rows()[0]:
        config, labels = config_of(row).training(), np.arange(16) % 3 if row["classes"] else None
        ours, theirs = (Trainer(config, pictures(16), at, labels=labels) for at in (device, CPU))
        for step in (1, 2):
            pair = (torch.stack(trainer.step(step)).cpu() for trainer in (ours, theirs))
            torch.testing.assert_close(*pair, rtol=2e-3, atol=1e-5, msg=lambda text, row=row: f"{text} {row}")
        without_waiting(device, lambda ours=ours: ours.step(3))


def without_waiting(device: torch.device, step: Callable[[], object]) -> None:
    """Torch raises an error where the host waits for a GPU."""
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        if cuda:
            torch.cuda.set_sync_debug_mode("default")


def trainings_give_the_same_bytes_twice_and_after_a_stop(device: torch.device, folder: Path) -> None:
    def stop(step: int) -> None:
        if step == 7:
            raise InterruptedError

    for name, options in TRAININGS.items():
        if options.get("compile") and not devices.compiles(device):
            continue
        config, digests = small(train=options).training(), []
        for kind in ("once", "again", "stopped"):
            out, checkpoints = folder / name / kind, Checkpoints(f"{name}-{kind}")
            if kind == "stopped":
                with suppress(InterruptedError):
                    train(config, pictures(), device, out, checkpoints, Memory(), [lambda *_: stop])
                assert not (out / "model.safetensors").exists()
            train(config, pictures(), device, out, checkpoints, Memory())
            digests.append(sha256(out / "model.safetensors"))
        assert len(set(digests)) == 1, f"{name}: {digests}"


def an_overflow_in_the_first_step_is_survived(device: torch.device, folder: Path) -> None:
    """float16 scales the loss; where gradients overflow, no optimizer moves a weight, and each can go on."""
    for name in variant.names("optimizers"):
        off = {"ema": {"name": "off"}} if name == "schedule_free" else {}
        options = {"optimizer": {"name": name}, "precision": "float16", **off}
        trainer = Trainer(small(train=options).training(), pictures(), device)
        trainer.student.scaler._init_scale = 2.0**100
        before = [weight.detach().clone() for weight in trainer.student.parameters]
        trainer.step(1)
        assert all(map(torch.equal, before, trainer.student.parameters)), name
        trainer.student.scaler.update(1.0)
        trainer.step(2)
        assert not all(map(torch.equal, before, trainer.student.parameters)), name
        assert all(weight.isfinite().all() for weight in trainer.student.parameters), name


def samples_are_the_same_bytes_and_depend_on_no_batch(device: torch.device, folder: Path) -> None:
    for name in DENOISING:
        config = small(sample={"sampler": {"name": name}})
        torch.manual_seed(0)
        network = build.network(config.training())
        for weight in network.parameters():
            torch.nn.init.normal_(weight, std=0.05)
        generator = Generator.of(Loaded(network.to(device).eval(), config.training(), {}), config.sample, device)
        once, again = (generator.images(range(12), 0) for _ in range(2))
        assert torch.equal(once, again), name
        parts = [generator.images(range(first, first + 3), 0) for first in range(0, 12, 3)]
        assert (once.int() - torch.cat(parts).int()).abs().max() <= 1, name
        states = generator.trajectory(range(3), 0)
        next(states)
        without_waiting(device, lambda states=states: next(states))


def scores_agree_with_those_of_a_cpu(device: torch.device, folder: Path) -> None:
    settings = small(evaluate={"extractors": ["random_conv"], "kid_subsets": 5, "kid_subset_size": 100}).evaluate
    shape, generator = Shape(3, 16, 16), np.random.default_rng(0)
    train, drawn = (generator.integers(0, most, (1300, *shape), np.uint8, True) for most in (255, 250))
    found = []
    for at in (CPU, device):
        network = random_conv(train)
        real, fake = (extract(network, images, 64, at) for images in (train, drawn))
        mu, sigma = frechet.statistics(real.features).values()
        near = memorisation.nearest(fake.features, real.features, at)
        none = torch.empty(len(train), 0)
        reference = RealFeatures(RandomConv(), at, network, real.features, mu, sigma, Features(*real), near, none, {})
        scores, _ = with_curve(fake, reference, settings)
        found.append({**scores, "nearest": float(near.distance.mean())})
    ours, theirs = found
    assert ours == theirs if device.type == "cpu" else ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert abs(theirs[name] - value) <= 1e-3 * max(abs(value), 1), (name, value, theirs[name])


def random_conv(train: np.ndarray) -> torch.nn.Module:
    from ddpm.scoring.networks.random_conv_network import RandomConvNetwork, fit

    return RandomConvNetwork(fit(train, CPU)).eval()


def memory_that_is_full_is_one_line(device: torch.device, folder: Path) -> None:
    def fill() -> None:
        torch.empty(2**50, dtype=torch.uint8, device=device)

    assert device.type == "cpu" or exit_code(fill) == 2


def memory_stays_under_the_estimate(device: torch.device, folder: Path) -> None:
    config = small().model_copy(update={"device": str(device)})
    estimate = forecast.time_step(config).memory
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    trainer = Trainer(config.training(), pictures(), device)
    for step in (1, 2, 3):
        trainer.step(step)
    assert devices.peak_memory(device) <= MARGIN * estimate


CHECKS: tuple[Callable[[torch.device, Path], None], ...] = (
    noise_is_that_of_a_cpu, float32_is_float32, steps_of_every_variant_agree_with_a_cpu_and_do_not_wait,
    trainings_give_the_same_bytes_twice_and_after_a_stop, an_overflow_in_the_first_step_is_survived,
    samples_are_the_same_bytes_and_depend_on_no_batch, scores_agree_with_those_of_a_cpu,
    memory_that_is_full_is_one_line, memory_stays_under_the_estimate,
)  # fmt: skip
