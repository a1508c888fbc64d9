"""Models that know classes: what they are shown, what they are asked for, and what becomes of it; and guidance, against
the exact score of a mixture of two Gaussians."""

from itertools import islice
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ddpm.base import variant
from ddpm.base.errors import UserError
from ddpm.compute.distributed import ALONE
from ddpm.data.processed import TrainClasses, open_split
from ddpm.diffusion.chain import Chain
from ddpm.diffusion.coefficients import Coefficients
from ddpm.evaluation import bounds
from ddpm.model.model_file import Loaded, load_model
from ddpm.sampling import guidance
from ddpm.sampling.classes import Classes, apportion
from ddpm.sampling.denoiser import Denoiser
from ddpm.sampling.generator import Generator
from ddpm.sampling.sample_params import Guidance
from ddpm.training.checkpoints import Checkpoints
from ddpm.training.trainer import Trainer, train
from stages import sample
from tests.peers import exact
from tests.small import CPU, DENOISING, PARAMS, Memory, pictures, small

COUNT = 3


def config(**sections):
    unet = {**PARAMS["model"]["unet"], "dropout": 0.0, "zero_init": False}
    return small(**{**sections, "model": {"classes": COUNT, "unet": unet, **sections.get("model", {})}})


def labels(count: int = 30) -> np.ndarray:
    return np.arange(count) % COUNT


def trainer(**options) -> Trainer:
    return Trainer(config(train=options).training(), pictures(), CPU, labels=labels())


def test_a_label_is_the_images_own_or_dropped_on_any_rank_alike():
    found = trainer(label_dropout=0.4, batch_size=15)
    shown, own = found.draw_batch(3)[2].labels, found.batches.labels(3)
    dropped = shown == COUNT
    assert 0 < dropped.sum() < 15
    assert torch.equal(shown[~dropped], own[~dropped])
    found.batches.part = slice(3, 7)
    assert torch.equal(found.draw_batch(3)[2].labels, shown[3:7])


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Loaded:
    folder, checkpoints = tmp_path_factory.mktemp("classes"), Checkpoints("classes")
    checkpoints.folder = folder / "checkpoints"
    known = TrainClasses(("a", "b", "c"), (10, 10, 10), labels())
    options = config(train={"steps": 20, "learning_rate": 1e-2}).training()
    train(options, pictures(), CPU, folder, checkpoints, Memory(), classes=known)
    return load_model(folder / "model.safetensors", CPU)


def test_the_classes_make_a_difference_that_is_learned(model):
    before, after = trainer().student.network.classes.weight, model.network.classes.weight
    assert (after != before).any(1).all(), "each row, that of no class too"


def test_classes_come_in_their_shares_and_never_off_by_one():
    generator = np.random.default_rng(0)
    for _ in range(30):
        counts = generator.integers(0, 60, generator.integers(2, 12))
        counts[0] += 1
        drawn = np.array(list(islice(apportion(counts.tolist()), 500)))
        numbers = np.cumsum(drawn[:, None] == np.arange(len(counts)), axis=0)
        shares = np.arange(1, len(drawn) + 1)[:, None] * (counts / counts.sum())
        assert np.abs(numbers - shares).max() < 1


def test_a_class_depends_on_the_index_alone():
    counts = (3, 1, 2)
    whole = Classes((), counts)(range(100))
    assert Classes((), counts)([70, 3, 99]).tolist() == whole[[70, 3, 99]].tolist()
    assert np.bincount(whole[:60]).tolist() == [30, 10, 20]
    assert Classes((), counts, [2, 0])(range(5)).tolist() == [2, 0, 2, 0, 2]


CHOICES = [((2, "a"), [2, 0, 2]), (("c",), [2, 2, 2]), (("1", "2"), [1, 2, 1]), (None, [0, 1, 2])]


@pytest.mark.parametrize(("chosen", "expected"), CHOICES)
def test_classes_are_chosen_by_number_or_name(model, chosen, expected):
    assert Classes.of(model, chosen)(range(3)).tolist() == expected


@pytest.mark.parametrize(("chosen", "message"), [
    (("aa",), r"sample\.classes: no class 'aa' \(did you mean 'a'\?\); allowed: 0\.\.2.* a, b, c"),
    (("9" * 5000,), r"sample\.classes: no class '9999"),
])  # fmt: skip
def test_a_class_that_does_not_exist_is_refused(model, chosen, message):
    with pytest.raises(UserError, match=message):
        Classes.of(model, chosen)


def test_the_class_that_is_asked_for_changes_the_image_and_nothing_else_does(model):
    def draw(*chosen: int) -> Tensor:
        return Generator.of(model, config(sample={"classes": list(chosen)}).sample, CPU).images([0, 1], 7)

    assert torch.equal(draw(0, 1)[0], draw(0, 2)[0])
    assert not torch.equal(draw(0, 1)[1], draw(0, 2)[1])


def test_the_bound_is_given_the_class(digits, tmp_path):
    model = {"classes": 10, "unet": {**PARAMS["model"]["unet"], "attention_sizes": [], "zero_init": False}}
    settings = small(data={"image_size": 16}, model=model, evaluate={"likelihood": {"images": 6, "timesteps": 3}})
    asked: list[Tensor] = []

    class Heard(torch.nn.Module):
        def forward(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None, _: None = None) -> Tensor:
            asked.append(labels)
            return torch.zeros_like(x_t)

    heard = Loaded(Heard(), settings.training(), {})
    bounds.likelihoods(bounds.Job(heard, digits, digits, settings.evaluate, CPU))
    _, labels = open_split(digits, "test")
    chosen = np.sort(np.random.default_rng(bounds.SEED).permutation(len(labels))[:6])
    assert asked[-1].tolist() == labels[chosen].tolist()


@pytest.mark.parametrize("facts", [
    {"names": ["a"], "counts": [1, 1, 1]}, {"names": ["a", "b", "c"], "counts": [0, 0, 0]},
    {"names": ["a", "b", "c"], "counts": [1, 1, -1]}, {"counts": [1]}, [], "x",
])  # fmt: skip
def test_a_file_that_lies_about_its_classes_is_refused(model, facts):
    with pytest.raises(UserError, match=r"^model file: facts\.classes"):
        Classes.of(model._replace(facts={"classes": facts}), None)


SPREAD, NONE = torch.full((1, 1, 1), 0.3**2).double(), 2  # the variance of a class; the label of no class
CLASSES = [exact.truth([1.0], torch.tensor([[mean]]).double(), SPREAD) for mean in (-0.6, 0.4)]
MIXTURE = exact.truth([0.3, 0.7], torch.tensor([[-0.6], [0.4]]).double(), SPREAD.expand(2, 1, 1))


class Exact(nn.Module):
    """Outputs the parameterization's target for the exact x_0 of a pixel, given its class or none."""

    def __init__(self, diffusion):
        super().__init__()
        self.target, self.seen = diffusion.parameterization.target, diffusion.parameterization.network_input
        self.chain = Chain(diffusion.schedule.noise_schedule(diffusion.T), dtype=torch.float64)
        self.calls: list[int] = []  # the size of each batch

    def forward(self, seen: Tensor, t: Tensor, labels: Tensor | None = None, _: None = None) -> Tensor:
        self.calls.append(len(seen))
        at = self.chain.at(t)
        x_t = seen.double() / self.seen(torch.ones_like(seen).double(), at)
        epsilon = self.epsilon(x_t, at, torch.full_like(t, NONE) if labels is None else labels)
        return self.target((x_t - at.sigma * epsilon) / at.signal, epsilon, at)

    def epsilon(self, x_t: Tensor, at: Coefficients, labels: Tensor) -> Tensor:
        each = torch.stack([one.posterior_mean(x_t, at.signal, at.sigma) for one in (*CLASSES, MIXTURE)])
        return (x_t - at.signal * each[labels, torch.arange(len(x_t))]) / at.sigma


def diffusion(target: str = "v", **fields):
    return small(diffusion={"parameterization": {"name": target}, **fields}).diffusion


def denoiser(network: nn.Module, weight: float, target: str = "v", **options) -> Denoiser:
    return Denoiser(network, diffusion(target), CPU, torch.float32, False, Guidance(weight=weight, **options), NONE)


def batch() -> tuple[Tensor, Tensor]:
    return torch.linspace(-2, 2, 6).view(6, 1, 1, 1), torch.tensor([0, 1, 0, 1, 0, 1])


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("target", variant.names("parameterizations"))
def test_the_guided_score_is_the_exact_one_for_every_target_in_one_call(target, weight):
    x_t, labels = batch()
    network = Exact(diffusion(target))
    for t in (5, 25, 45):
        network.calls.clear()
        found = denoiser(network, weight, target)(x_t, t, labels)
        assert network.calls == [6 if weight in {0, 1} else 12]
        at = network.chain.at(torch.full((6,), t))
        without, given = (network.epsilon(x_t.double(), at, each) for each in (torch.full_like(labels, NONE), labels))
        expected = (without + weight * (given - without)).float()
        torch.testing.assert_close(found.epsilon.float(), expected, rtol=1e-4, atol=1e-4)
        mixed = at.signal * found.x_0 + at.sigma * found.epsilon
        torch.testing.assert_close(mixed.float(), x_t, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("target", variant.names("parameterizations"))
def test_a_contrast_is_guidance_away_from_the_mean_target_for_every_target(target):
    """(u - w m) / (1 - w) for the target u of each image, and m of the mean image without noise, as of contrastive flow
    matching's optimum; x_0 and epsilon still lead to x_t."""
    (x_t, labels), image, weight = batch(), torch.tensor([[[0.25]]]), 0.1
    network, target_of = Exact(diffusion(target)), diffusion(target).parameterization.target
    plain, contrasted = denoiser(network, 1.0, target), denoiser(network, 1.0, target)
    contrasted.contrast, contrasted.mean = weight, image
    for t in (5, 25):
        own, found, at = plain(x_t, t, labels), contrasted(x_t, t, labels), network.chain.at(torch.full((6,), t))
        mixed = at.signal * found.x_0 + at.sigma * found.epsilon
        torch.testing.assert_close(mixed.float(), x_t, rtol=1e-4, atol=1e-4)
        expected = (target_of(own.x_0, own.epsilon, at) - weight * target_of(image, 0 * image, at)) / (1 - weight)
        torch.testing.assert_close(target_of(found.x_0, found.epsilon, at), expected, rtol=1e-3, atol=1e-3)


def test_a_learned_variance_is_that_of_the_class_and_guidance_and_the_clamp_leave_it_alone():
    class Halves(nn.Module):
        def forward(self, x_t: Tensor, t: Tensor, labels: Tensor, _: None) -> Tensor:
            of_class = labels.view(-1, 1, 1, 1).expand_as(x_t).float()
            return torch.cat([of_class, 10 + of_class], dim=1)

    learned = diffusion("x0", variance={"name": "learned_range"}, loss={"name": "hybrid"})
    x_t, labels = batch()
    for weight in (1.0, 3.0):
        made = Denoiser(Halves(), learned, CPU, torch.float32, True, Guidance(weight=weight), NONE)
        found = made(x_t, 20, labels)
        assert found.variance_output.flatten().tolist() == [10 + label for label in labels.tolist()]
        assert found.x_0.flatten().tolist() == [max(-1, min(1, 2 + weight * (k - 2))) for k in labels.tolist()]


def test_outside_the_interval_there_is_none():
    x_t, labels = batch()
    network = Exact(diffusion())
    sigma = denoiser(network, 1.0).chain.schedule.one_minus_alpha_bar ** 0.5
    within = denoiser(network, 3.0, interval=(float(sigma[9]), float(sigma[19])))
    for t, calls in ((9, 6), (10, 12), (20, 12), (21, 6)):
        network.calls.clear()
        found = within(x_t, t, labels)
        assert network.calls == [calls]
        same = torch.equal(found.x_0, denoiser(network, 1.0)(x_t, t, labels).x_0)
        assert same == (calls == 6)


@pytest.mark.parametrize("name", DENOISING)
def test_the_evaluations_that_are_reported_are_those_that_were_made(model, name):
    for guide in ({"weight": 1.0}, {"weight": 0.0}, {"weight": 2.0}, {"weight": 2.0, "interval": [0.3, 0.9]}):
        rows: list[int] = []
        handle = model.network.register_forward_hook(lambda _, given, __, rows=rows: rows.append(len(given[0])))
        options = config(sample={"sampler": {"name": name}, "steps": 6, "guidance": guide}).sample
        generator = Generator.of(model, options, CPU)
        generator.images([0, 1], 7)
        handle.remove()
        assert sum(rows) / 2 == guidance.evaluations(options, model.config.diffusion)
    assert sum(rows) / 2 > (11 if name == "heun" else 6)


def test_the_stage_contrasts_with_the_mean_train_image(digits, monkeypatch):
    prepare = Mock(side_effect=InterruptedError)
    monkeypatch.setattr(sample.averages, "load", lambda *_: None)
    monkeypatch.setattr(sample, "PROCESSED", digits)
    monkeypatch.setattr(Generator, "of", prepare)
    for contrast in (0.0, 0.1):
        with pytest.raises(InterruptedError):
            sample.main(config(sample={"contrast": contrast}).sample, CPU, ALONE)
    images = torch.from_numpy(np.array(open_split(digits, "train")[0])).double()
    without, contrasted = (called.args[-1] for called in prepare.call_args_list)
    assert without is None
    torch.testing.assert_close(contrasted, (images.mean(dim=0) / 127.5 - 1).float())
