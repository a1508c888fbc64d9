"""What must hold on a device, the most fundamental first. A check yields its cases, each of which returns figures, or
raises an error that says what was found and what is allowed. A CPU passes them, too, which shows that they work."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddpm.base import variant
from ddpm.base.errors import exit_code
from ddpm.base.files import sha256
from ddpm.base.sections import Shape
from ddpm.compute import devices, noise
from ddpm.model import build
from ddpm.model.model_file import Loaded
from ddpm.sampling.generator import Generator
from ddpm.scoring import distances, frechet, memorisation
from ddpm.scoring.features import Features, RealFeatures, extract
from ddpm.scoring.scores import with_curve
from ddpm.tools import forecast
from ddpm.training.checkpoints import Checkpoints
from ddpm.training.trainer import Trainer, train
from ddpm.variants.extractors.random_conv import RandomConv
from tests.gpu.report import Case, Figures, LeftOut
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
Cases = Iterator[tuple[str, Case]]


def below(figures: dict[str, float], allowed: float) -> dict[str, float]:
    """The figures. Raises AssertionError with all of them if one is above what is allowed, or is not a number."""
    assert all(value <= allowed for value in figures.values()), f"{figures}; allowed: {allowed:g}"
    return figures


def equal(ours: Tensor, theirs: Tensor) -> None:
    """Raises AssertionError with how much differs unless the bits are the same."""
    torch.testing.assert_close(ours.cpu(), theirs.cpu(), rtol=0, atol=0, equal_nan=True)


def noise_is_that_of_a_cpu(device: torch.device, folder: Path) -> Cases:
    here, there, steps = torch.arange(4096), torch.arange(4096, device=device), range(7, 10)
    streams = noise.streams(0, ["a", "b"], CPU)

    def masks() -> None:
        ours, theirs = noise.words(streams, here, 7), noise.words(streams.to(device), there, 7)
        equal(noise.keep_mask(theirs[0], 999, 0.1), noise.keep_mask(ours[0], 999, 0.1))

    def normals() -> Figures:
        ours, theirs = (noise.gaussian(1, "x", index, 7, (3, 32, 32)).cpu() for index in (here, there))
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
        return below({"share of normals that differ": float((ours != theirs).float().mean())}, LAST_BITS)

    def together() -> None:
        block = noise.gaussian(1, "x", there, steps, (3, 8, 8))
        equal(block, torch.stack([noise.gaussian(1, "x", there, step, (3, 8, 8)) for step in steps]))

    yield "uniform", lambda: equal(noise.uniform(1, "t", there, 7), noise.uniform(1, "t", here, 7))
    yield "words", lambda: equal(noise.words(streams.to(device), there, 7), noise.words(streams, here, 7))
    yield "masks", masks
    yield "normals", normals
    yield "normals of three steps at once", together


def float32_is_float32(device: torch.device, folder: Path) -> Cases:
    """TF32 would be wrong by 3e-4."""
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(4, 64, 16, 16, generator=generator), torch.randn(64, 64, 3, 3, generator=generator)
    products: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "convolution": partial(torch.nn.functional.conv2d, padding=1),
        "product": lambda x, weight: x.flatten(1) @ x.flatten(1).T,
    }

    def case(product: Callable[[Tensor, Tensor], Tensor]) -> Figures:
        exact, ours = product(x.double(), weight.double()), product(x.to(device), weight.to(device)).cpu()
        return below({"relative error": float((ours - exact).norm() / exact.norm())}, 2e-6)

    for name, product in products.items():
        yield name, partial(case, product)


def steps_of_every_variant_agree_with_a_cpu_and_do_not_wait(device: torch.device, folder: Path) -> Cases:
    def case(row: dict) -> Figures:
        config, labels = config_of(row).training(), np.arange(16) % 3 if row["classes"] else None
        ours, theirs = (Trainer(config, pictures(16), at, labels=labels) for at in (device, CPU))
        figures = {}
        for step in (1, 2):
            pair = [torch.stack(trainer.step(step)).cpu() for trainer in (ours, theirs)]
            figures[f"loss and gradient norm at step {step}, here and on a CPU"] = [values.tolist() for values in pair]
            torch.testing.assert_close(*pair, rtol=2e-3, atol=1e-5, msg=lambda text: f"{text}\n{figures}")
        without_waiting(device, lambda: ours.step(3))
        return figures

    for row in covering_rows()[0]:
        yield ", ".join(f"{family} {name}" for family, name in row.items()), partial(case, row)


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


def trainings_give_the_same_bytes_twice_and_after_a_stop(device: torch.device, folder: Path) -> Cases:
    def stop(step: int) -> None:
        if step == 7:
            raise InterruptedError

    def case(name: str) -> Figures:
        if TRAININGS[name].get("compile") and not devices.compiles(device):
            raise LeftOut("torch.compile does not pay off here")
        config, digests = small(train=TRAININGS[name]).training(), {}
        for kind in ("once", "again", "stopped"):
            out, checkpoints = folder / name / kind, Checkpoints(f"{name}-{kind}")
            if kind == "stopped":
                with suppress(InterruptedError):
                    train(config, pictures(), device, out, checkpoints, Memory(), [lambda *_: stop])
                assert not (out / "model.safetensors").exists(), "a stopped training left a model"
            train(config, pictures(), device, out, checkpoints, Memory())
            digests[kind] = sha256(out / "model.safetensors")
        assert len(set(digests.values())) == 1, f"sha256 of the models: {digests}"
        return digests

    for name in TRAININGS:
        yield name, partial(case, name)


def an_overflow_in_the_first_step_is_survived(device: torch.device, folder: Path) -> Cases:
    """float16 scales the loss; where gradients overflow, no optimizer moves a weight, and each can go on."""

    def case(name: str) -> None:
        off = {"ema": {"name": "off"}} if name == "schedule_free" else {}
        options = {"optimizer": {"name": name}, "precision": "float16", **off}
        trainer = Trainer(small(train=options).training(), pictures(), device)
        trainer.student.scaler._init_scale = 2.0**100
        before = [weight.detach().clone() for weight in trainer.student.parameters]
        trainer.step(1)
        moved = sum(not torch.equal(*pair) for pair in zip(before, trainer.student.parameters, strict=True))
        assert not moved, f"{moved} of {len(before)} weights moved by a gradient that overflowed"
        trainer.student.scaler.update(1.0)
        trainer.step(2)
        after = trainer.student.parameters
        assert not all(map(torch.equal, before, after)), "no weight moved after the overflow"
        odd = sum(not bool(weight.isfinite().all()) for weight in after)
        assert not odd, f"{odd} of {len(after)} weights are not finite"
        if name in {"adam", "adamw"}:  # torch's own, which know of a scaler
            without_waiting(device, lambda: trainer.step(3))

    for name in variant.names("optimizers"):
        yield name, partial(case, name)


def samples_are_the_same_bytes_and_depend_on_no_batch(device: torch.device, folder: Path) -> Cases:
    def case(name: str) -> Figures:
        config = small(sample={"sampler": {"name": name}})
        torch.manual_seed(0)
        network = build.network(config.training())
        for weight in network.parameters():
            torch.nn.init.normal_(weight, std=0.05)
        generator = Generator.of(Loaded(network.to(device).eval(), config.training(), {}), config.sample, device)
        once, again = (generator.images(range(12), 0) for _ in range(2))
        equal(once, again)
        parts = [generator.images(range(first, first + 3), 0) for first in range(0, 12, 3)]
        gap = int((once.int() - torch.cat(parts).int()).abs().max())
        assert gap <= 1, f"in other batches a pixel differs by {gap}; allowed: 1"
        states = generator.trajectory(range(3), 0)
        next(states)
        without_waiting(device, lambda: next(states))
        return {"largest gap of a pixel in other batches": gap}

    for name in DENOISING:
        yield name, partial(case, name)


def scores_agree_with_those_of_a_cpu(device: torch.device, folder: Path) -> Cases:
    def scores(at: torch.device) -> dict[str, float]:
        settings = small(evaluate={"extractors": ["random_conv"], "kid_subsets": 5, "kid_subset_size": 100}).evaluate
        shape, generator = Shape(3, 16, 16), np.random.default_rng(0)
        train, drawn = (generator.integers(0, most, (1300, *shape), np.uint8, True) for most in (255, 250))
        network = random_conv(train)
        real, fake = (extract(network, images, 64, at) for images in (train, drawn))
        mu, sigma = frechet.statistics(real.features).values()
        near = memorisation.nearest(fake.features, real.features, at)
        around = distances.neighbours(real.features.to(at), settings.prc_neighborhood).cpu()
        reference = RealFeatures(RandomConv(), at, network, real.features, mu, sigma, Features(*real), near, around, {})
        found, _ = with_curve(fake, reference, settings)
        return {**found, "nearest": float(near.distance.mean())}

    def case() -> Figures:
        ours, theirs = scores(device), scores(CPU)
        pairs = {name: (ours.get(name), theirs.get(name)) for name in {*ours, *theirs}}
        exact = 0 if device.type == "cpu" else 1e-3
        wrong = {
            name: pair
            for name, pair in pairs.items()
            if None in pair or not abs(pair[0] - pair[1]) <= exact * max(abs(pair[1]), 1)
        }
        assert not wrong, f"here and on a CPU: {wrong}; allowed: a relative difference of {exact:g}"
        return pairs

    yield "random_conv", case


def random_conv(train: np.ndarray) -> torch.nn.Module:
    from ddpm.scoring.networks.random_conv_network import RandomConvNetwork, fit

    return RandomConvNetwork(fit(train, CPU)).eval()


def memory_that_is_full_is_one_line(device: torch.device, folder: Path) -> Cases:
    def fill() -> None:
        torch.empty(2**50, dtype=torch.uint8, device=device)

    def case() -> None:
        if device.type == "cpu":
            raise LeftOut("a CPU's memory ends the process")
        code = exit_code(fill)
        assert code == 2, f"exit code {code}; allowed: 2"

    yield "a petabyte", case


def memory_stays_under_the_estimate(device: torch.device, folder: Path) -> Cases:
    def case() -> Figures:
        config = small().model_copy(update={"device": str(device)})
        estimate = forecast.time_step(config).memory
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        trainer = Trainer(config.training(), pictures(), device)
        for step in (1, 2, 3):
            trainer.step(step)
        return below({"peak memory over the estimate": devices.peak_memory(device) / estimate}, MARGIN)

    yield "three steps", case


CHECKS: tuple[Callable[[torch.device, Path], Cases], ...] = (
    noise_is_that_of_a_cpu, float32_is_float32, steps_of_every_variant_agree_with_a_cpu_and_do_not_wait,
    trainings_give_the_same_bytes_twice_and_after_a_stop, an_overflow_in_the_first_step_is_survived,
    samples_are_the_same_bytes_and_depend_on_no_batch, scores_agree_with_those_of_a_cpu,
    memory_that_is_full_is_one_line, memory_stays_under_the_estimate,
)  # fmt: skip
