"""Images from a trained model: image i depends only on the model, the sampler, the seed and i."""

from collections.abc import Iterator

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

from ddpm.diffusion.chain import Chain, to_images
from ddpm.diffusion.variance import Variance
from ddpm.model.model_file import Loaded, load_model
from ddpm.pictures.grids import FRAMES_PER_SECOND
from ddpm.sampling import generator as sampling
from ddpm.sampling import samples
from ddpm.sampling.denoiser import Denoiser
from ddpm.sampling.generator import Generator
from ddpm.sampling.sampler import Denoise, Noise, Sampler, levels
from tests.small import CPU, DENOISING, small

SHAPE = (1, 8, 8)
FEW = 5  # steps, of which a third-order sampler takes two with all of its history


@pytest.fixture(scope="module")
def model(model_file) -> Loaded:
    return load_model(model_file, CPU)


def options(**fields):
    return small(sample={"steps": 10, **fields}).sample


def draw(model: Loaded, chosen, seed: int = 0) -> Tensor:
    generator = Generator.of(model, chosen, CPU)
    batches = dict(generator.batches(chosen.count, chosen.batch_size, seed))
    assert [i for indices in batches for i in indices] == list(range(chosen.count))
    return torch.cat(list(batches.values()))


def assert_same_images(a: Tensor, b: Tensor) -> None:
    """Within a grey level, and nearly all exactly: kernels may round differently for a batch of another size."""
    difference = (a.int() - b.int()).abs()
    assert int(difference.max()) <= 1
    assert float((difference == 0).float().mean()) > 0.99


@pytest.mark.parametrize("name", DENOISING)
def test_an_image_depends_on_seed_and_index_and_neither_on_the_batch_nor_on_how_many_there_are(model, name):
    chosen = {"sampler": {"name": name}, "steps": FEW, "count": 7}
    whole = draw(model, options(**chosen, batch_size=100))
    assert (whole.shape, whole.dtype) == ((7, *SHAPE), torch.uint8)
    assert torch.equal(draw(model, options(**chosen, batch_size=100)), whole)  # the same call gives the same bytes
    assert_same_images(draw(model, options(**chosen, batch_size=3)), whole)  # the last is in a batch of its own
    assert_same_images(draw(model, options(**chosen | {"count": 4})), whole[:4])
    assert len({image.numpy().tobytes() for image in whole}) == 7
    assert not torch.equal(draw(model, options(**chosen, batch_size=100), seed=1), whole)


class Revealing(Sampler):
    """Yields the noise of each step instead of an image."""

    def steps(self, denoise: Denoise, x_T: Tensor, chain: Chain, noise: Noise, variance: Variance) -> Iterator[Tensor]:
        yield from (noise(level.t) for level in levels(chain.schedule)[:-1])


def test_each_step_of_each_image_of_each_set_has_noise_of_its_own(model):
    """Also x_T, the first here: two with anything in common are correlated over the pixels."""
    generator = Generator.of(model, options(), CPU)
    generator.sampler, generator.shape = Revealing(), (1, 40, 40)
    noises = torch.stack([torch.stack([*generator.trajectory(range(5), seed)]) for seed in (0, 1)])
    assert noises.shape[:3] == (2, 11, 5)
    noises = noises.flatten(3).flatten(0, 2)
    assert stats.kstest(noises.flatten().numpy(), "norm").pvalue > 1e-3
    related = noises.corrcoef().fill_diagonal_(0).abs().max() * noises.shape[1] ** 0.5
    assert related < 5, "two states have noise in common"


def test_each_seed_has_a_set_of_its_own_and_the_first_pictures_and_a_film(model, tmp_path):
    chosen = options(count=12, batch_size=5, seeds=(3, 0))
    facts = sampling.write_samples(Generator.of(model, chosen, CPU), chosen, 7, tmp_path / "filmed")
    expected = {"count": 12, "sets": 2, "evaluations_per_image": 10}
    assert {key: facts[key] for key in expected} == expected
    assert facts["images_per_second"] > 0
    for seed, name in ((3, "samples.npy"), (0, "samples-0.npy")):
        drawn = np.load(tmp_path / "filmed" / name, mmap_mode="r")
        assert (drawn.shape, drawn.dtype) == ((12, *SHAPE), np.uint8)
        assert_same_images(torch.from_numpy(np.array(drawn)), draw(model, chosen, samples.noise_seed(7, seed)))
    assert imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "filmed/reverse.mp4"))[0] == 11 + FRAMES_PER_SECOND
    sampling.write_samples(Generator.of(model, chosen, CPU), chosen, 7, tmp_path / "unfilmed", films=False)
    filmed, unfilmed = ({path.name: path for path in (tmp_path / name).iterdir()} for name in ("filmed", "unfilmed"))
    assert unfilmed.keys() == {"grid.png", "samples.npy", "samples-0.npy"}
    assert filmed.keys() - unfilmed.keys() == {"reverse.gif", "reverse.mp4"}
    assert all(path.read_bytes() == filmed[name].read_bytes() for name, path in unfilmed.items())


@pytest.mark.parametrize("steps", [1, 10, 50])
def test_a_film_goes_from_noise_to_image(model, steps):
    generator = Generator.of(model, options(steps=steps), CPU)
    frames: list[Tensor] = []
    generator.images(range(3), 0, frames)
    states = [to_images(x) for x in generator.trajectory(range(3), 0)]
    assert len(frames) == min(20, steps + 1)
    assert torch.equal(frames[0], states[0])
    assert torch.equal(frames[-1], states[-1])


def test_a_clipped_estimate_is_in_range_and_its_noise_still_leads_to_x_t():
    class Network(nn.Module):
        def forward(self, x: Tensor, *_: object) -> Tensor:
            return 3 * x

        def embed_span(self, span: Tensor) -> None:
            return None

    diffusion, t = small().diffusion, 30
    x_t = torch.randn(20, *SHAPE, generator=torch.Generator().manual_seed(0))
    free, clipped = (Denoiser(Network(), diffusion, CPU, torch.float32, clip)(x_t, t) for clip in (False, True))
    assert free.x_0.min() < -2
    assert free.x_0.max() > 2
    torch.testing.assert_close(clipped.x_0, free.x_0.clamp(-1, 1))
    on_its_way = Denoiser(Network(), diffusion, CPU, torch.float32, True)(x_t, t, end=10)
    assert torch.equal(on_its_way.x_0, free.x_0), "what leads to a noise level is no image"
    alpha_bar = 1 / (1 + np.exp(-diffusion.schedule.noise_schedule(diffusion.T).log_snr[t - 1]))
    again = alpha_bar**0.5 * clipped.x_0 + (1 - alpha_bar) ** 0.5 * clipped.epsilon
    torch.testing.assert_close(again, x_t, rtol=1e-5, atol=1e-5)


seeds = st.integers(0, 2**63 - 1)


@given(seeds, seeds, seeds, seeds)
def test_each_set_of_each_training_seed_has_noise_of_its_own(a, b, s, t):
    assert 0 <= samples.noise_seed(a, s) < 2**63
    assert (samples.noise_seed(a, s) == samples.noise_seed(b, t)) == ((a, s) == (b, t))
