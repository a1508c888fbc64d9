"""Shared models: the same images in diffusers, what is refused and how."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from diffusers import DDIMPipeline, DDPMPipeline, UNet2DModel
from diffusers.pipelines.ddim import pipeline_ddim
from diffusers.pipelines.ddpm import pipeline_ddpm
from diffusers.schedulers import scheduling_ddim, scheduling_ddpm
from torch import Tensor

from ddpm.base import variant
from ddpm.base.errors import UserError
from ddpm.base.files import sha256
from ddpm.base.sections import section
from ddpm.compute import noise
from ddpm.data.processed import read_manifest
from ddpm.model import build
from ddpm.model.model_file import load_model, save_model
from ddpm.runs import library
from ddpm.sampling.generator import Generator
from ddpm.sampling.sample_params import Sample
from ddpm.sharing import card, exchange
from tests.command import refused, run
from tests.scored import result
from tests.small import small

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("folder")
POSTHOC = {"lengths": [0.05, 0.1], "snapshots": 16}
UNET, SCHEDULER = Path("unet/config.json"), Path("scheduler/scheduler_config.json")
WEIGHTS = Path("unet/diffusion_pytorch_model.safetensors")
SHAPE = {"base_channels": 8, "multipliers": [1, 2], "blocks": 1, "attention_sizes": [4], "attention_heads": 2,
         "groups": 4, "dropout": 0.1, "zero_init": False}  # fmt: skip


def unet(**fields: Any) -> dict[str, Any]:
    return {"name": "unet", "unet": {**SHAPE, **fields}}


def chosen(parameterization: str = "v", variance: str = "fixed_small", T: int = 50, **schedule: Any) -> dict[str, Any]:
    """A diffusion section; schedule: name -> its hyperparameters."""
    ((name, fields),) = (schedule or {"cosine": {}}).items()
    return {"T": T, "schedule": {"name": name, name: fields}, "parameterization": {"name": parameterization},
            "variance": {"name": variance},
            "loss": {"name": "hybrid" if variance == "learned_range" else "simple"}}  # fmt: skip


def model(path: str = "model.safetensors", **sections: Any) -> Path:
    """A model file with random weights, none of them zero."""
    settings = small(**{"model": unet(), **sections}).training()
    torch.manual_seed(0)
    network = build.network(settings)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.15)
    save_model(Path(path), network.state_dict(), settings, {"steps": 12})
    return Path(path)


def refusal(call: Callable[[], object]) -> str:
    """The one line of a call that must fail and leave nothing behind."""
    before = sorted(Path().rglob("*"))
    with pytest.raises(UserError) as refused:
        call()
    assert "\n" not in str(refused.value)
    assert sorted(Path().rglob("*")) == before
    return str(refused.value)


SHAPES: dict[str, dict[str, Any]] = {
    "heads of one width": {},
    "one head": {"attention_heads": 1, "attention_sizes": [8, 4], "multipliers": [1, 2], "time_multiple": 2},
    "no attention": {"attention_sizes": [], "middle_attention": False, "attention_heads": 4},
    "ADM": {"scale_shift_norm": True, "resample": "residual", "attention_head_width": 4, "attention_sizes": [4, 2],
            "multipliers": [1, 2, 3], "blocks": 2},
    "three levels": {"multipliers": [1, 1, 2], "blocks": 2, "attention_sizes": [8], "attention_head_width": 8},
    "odd width": {"base_channels": 9, "groups": 3, "attention_heads": 1},
    "one level": {"multipliers": [1], "attention_sizes": []},
}  # fmt: skip


def test_diffusers_network_takes_the_classes_and_both_cards_say_so():
    path = model(model={**unet(), "classes": 3})
    for form in exchange.FORMATS:
        exchange.export_model(path, Path(form), form)
        card = Path(form, "README.md").read_text()
        assert "| classes | 3 |" in card
        assert "unconditional" not in card
        assert "it takes no class" not in card
    theirs = UNet2DModel.from_pretrained("diffusers", subfolder="unet").eval()
    ours = load_model(path, CPU).network
    x, t, labels = torch.randn(4, 1, 8, 8), torch.tensor([1, 20, 30, 50]), torch.tensor([0, 1, 2, 3])
    with torch.no_grad():
        expected = theirs(x, t - 1, class_labels=labels).sample
        torch.testing.assert_close(ours(x, t, labels), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ours(x[3:], t[3:]), expected[3:], rtol=1e-4, atol=1e-4)
    assert not Path("diffusers/model_index.json").exists()


def test_the_same_model_is_exported_as_the_same_bytes():
    path = model()
    for form in exchange.FORMATS:
        for name in ("one", "two"):
            exchange.export_model(path, Path(name) / form, form)
        assert sha256(Path("one") / form) == sha256(Path("two") / form)


# --- the same function in diffusers


class Draws:
    """A stand-in for diffusers' randn_tensor: x_T first, then our noise for each step."""

    def __init__(self, steps: list[int], shape: tuple[int, ...]):
        self.index, self.shape = torch.arange(2), shape
        self.draws = iter([("x_T", 0), *(("reverse", t) for t in steps)])

    def __call__(self, *_: Any, **__: Any) -> Tensor:
        purpose, step = next(self.draws)
        return noise.gaussian(5, purpose, self.index, step, self.shape)


def ours(path: Path, sampler: dict[str, Any], steps: int) -> tuple[Tensor, list[int]]:
    """Two images in [0, 1], and the training chain's t of each step."""
    loaded = load_model(path, CPU)
    values = {"count": 2, "sampler": variant.build("samplers", sampler, "s"), "steps": steps, "spacing": "trailing",
              "precision": "float32"}  # fmt: skip
    generator = Generator.of(loaded, section(Sample, values), CPU)
    for x in generator.trajectory([0, 1], 5, loaded.image_shape):
        last = x
    return (last / 2 + 0.5).clamp(0, 1), generator.chain.schedule.timesteps[::-1].tolist()


def theirs(pipeline: Any, monkeypatch: pytest.MonkeyPatch, draws: Draws, **options: Any) -> Tensor:
    for module in (pipeline_ddim, pipeline_ddpm, scheduling_ddim, scheduling_ddpm):
        monkeypatch.setattr(module, "randn_tensor", draws)
    pipeline.set_progress_bar_config(disable=True)
    return torch.from_numpy(pipeline(batch_size=2, output_type="np", **options).images).permute(0, 3, 1, 2)


DIFFUSIONS = {
    "cosine v": chosen(),
    "linear epsilon": chosen("epsilon", "fixed_large", linear={}),
    "linear epsilon, 1000 steps": chosen("epsilon", linear={}, T=1000),
    "sigmoid x0": chosen("x0", sigmoid={}),
    "no signal at T": chosen("v", cosine={"zero_terminal_snr": True}),
}


def same_images(path: Path, sampler: str, steps: int, monkeypatch: pytest.MonkeyPatch, eta: float = 0.0) -> None:
    """Both draw the same images of the model from the same noise."""
    exchange.export_model(path, Path("out"), "diffusers")
    expected, visited = ours(path, {"name": sampler, sampler: {"eta": eta} if eta else {}}, steps)
    pipeline, options = DDPMPipeline, {"num_inference_steps": steps}
    if sampler == "ddim":
        pipeline, options = DDIMPipeline, options | {"eta": eta, "use_clipped_model_output": True}
    draws = Draws(visited, tuple(load_model(path, CPU).image_shape))
    found = theirs(pipeline.from_pretrained("out"), monkeypatch, draws, **options)
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-5)
    assert expected.std() > 0.05


@pytest.mark.parametrize("diffusion", DIFFUSIONS.values(), ids=DIFFUSIONS)
def test_ddim_of_diffusers_gives_the_same_images(diffusion, monkeypatch):
    same_images(model(diffusion=diffusion), "ddim", 10, monkeypatch, eta=0.5)


@pytest.mark.parametrize(
    ("diffusion", "steps"),
    [
        *((diffusion, 10) for name, diffusion in DIFFUSIONS.items() if name != "linear epsilon"),
        (DIFFUSIONS["linear epsilon"], 50),
        (chosen("epsilon", "learned_range", linear={}), 50),
        (chosen("v", "learned_range"), 25),
    ],
)
def test_ddpm_of_diffusers_gives_the_same_images(diffusion, steps, monkeypatch):
    same_images(model(diffusion=diffusion), "ancestral", steps, monkeypatch)


@pytest.mark.parametrize(("size", "channels"), [([8, 12], 3), ([12, 8], 1), ([4, 6], 5)])
def test_images_of_any_shape_are_the_same_in_diffusers(size, channels, monkeypatch):
    about = {"dataset": {"name": "arrays"}, "image_size": size, "channels": channels}
    same_images(model(data=about, model=unet(attention_sizes=[size[0] // 2])), "ddim", 10, monkeypatch)
    assert f"# {size[0]}x{size[1]} " in Path("out/README.md").read_text()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_every_shape_is_the_same_function_in_diffusers(shape):
    path = model(model=unet(**shape))
    exchange.export_model(path, Path("out"), "diffusers")
    network = UNet2DModel.from_pretrained("out", subfolder="unet").eval()
    x, t = torch.randn(3, 1, 8, 8), torch.tensor([1, 20, 50])
    with torch.no_grad():
        expected = load_model(path, CPU).network(x, t)
        torch.testing.assert_close(network(x, t - 1).sample, expected, rtol=1e-4, atol=1e-5)
    assert expected.std() > 0.05


# --- export


@pytest.mark.parametrize(
    ("sections", "line"),
    [
        ({"model": unet(patch_size=2, attention_sizes=[])}, "model.unet.patch_size: 2 has no counterpart"),
        ({"model": unet(multipliers=[2, 2])}, "model.unet.multipliers: [2, 2]: the first level"),
        ({"model": unet(attention_sizes=[8])}, "model.unet.attention_heads: 2 makes heads of 4 and 8 channels"),
        (
            {"model": {"name": "dit", "dit": {"depth": 2, "width": 16, "heads": 2}}},
            "model.name: dit has no counterpart",
        ),
        ({"diffusion": chosen("mean")}, "diffusion.parameterization: mean has no counterpart"),
        ({"diffusion": chosen(constant={"log_snr_shift": 19.0})}, "diffusion.schedule: constant has a beta_1 of"),
    ],
)
def test_what_diffusers_cannot_say_is_named(sections, line):
    path = model(**sections)
    assert line in refusal(lambda: exchange.export_model(path, Path("out"), "diffusers"))
    exchange.export_model(path, Path("out"), "ddpm")


@pytest.mark.parametrize("taken", ["out", "out/kept.txt"])
def test_nothing_is_replaced(taken):
    path = model()
    Path("out").mkdir()
    Path("out/kept.txt").touch()
    assert "is there already" in refusal(lambda: exchange.export_model(path, Path(taken), "ddpm"))


def test_the_card_says_how_the_model_was_made_and_that_no_score_is_known():
    exchange.export_model(model(), Path("out"), "ddpm")
    text = Path("out/README.md").read_text()
    assert "12 steps of 8 images, seed 0" in text
    assert "None are known" in text
    assert sha256(Path("model.safetensors")) in text
    assert "ddpm sample --model out " in text
    params = text.partition("```yaml\n")[2].partition("```")[0]
    assert yaml.safe_load(params) == load_model(Path("model.safetensors"), CPU).written


@pytest.fixture
def scored(monkeypatch) -> Callable[..., str]:
    """The card of the working folder's model, with these scores."""

    def write(licence: str = "digits", source: str | None = None, **scores: float) -> str:
        sections = {"model": unet(), "data": {"dataset": {"name": licence}}}
        settings = small(**sections | {"data": {"dataset": {"name": licence}, "source": source}})
        Path("params.yaml").write_text(json.dumps(settings.to_dict()))
        run = result(fd=1.5)
        run.scores.update(scores)
        monkeypatch.setattr(library, "current", lambda config: run)
        Path("metrics").mkdir()
        Path("metrics/train.json").write_text('{"seconds": 12.5, "device": "a certain GPU"}')
        exchange.export_model(model("data/model/model.safetensors", **sections), Path("out"), "ddpm")
        return Path("out/README.md").read_text()

    return write


@pytest.mark.parametrize(
    ("count", "beside", "apart"), [(12, " 0.1250 |", ""), (359, "", "N = 359: classifier.fd 0.125")]
)
def test_the_card_gives_scores_their_standard_error_and_real_images(scored, count, beside, apart):
    memorisation = {"share": 0.5, "expected": 0.05, "limit": 0.14}
    scores = {"classifier.fd_se": 0.25, "real.classifier.fd": 0.125, "real.classifier.count": count}
    text = scored(**scores | {f"memorisation.pixels.{name}": value for name, value in memorisation.items()})
    assert f"| classifier.fd | lower | 1.500 ± 0.2500 |{beside}\n" in text
    assert apart in text
    assert f"`{result().fingerprint.hash}`" in text
    assert "**Copies train images** in pixels: 50.00% of its samples come as near to one as 5.00% of held-out" in text
    assert "12.5 s on a certain GPU" in text
    assert "digits: CC BY 4.0" in text


def test_the_card_says_which_of_your_own_images_it_learned_and_under_what_licence(scored):
    manifest = {"dataset": "image_folder", "classes": ["a"], "image_size": 8, "channels": 1, "skipped": 0}
    counted = {"counts": {"train": 8, "test": 2}, "sha256": {"train": "1" * 64, "test": "2" * 64}}
    Path("data/processed").mkdir(parents=True)
    Path("data/processed/manifest.json").write_text(json.dumps(manifest | counted))
    digest = read_manifest(Path("data/processed")).digest
    text = scored(licence="image_folder", source="photos/flowers64/")
    assert f"| data | flowers64-{digest}: 8 train, 2 test images |" in text
    assert f"flowers64-{digest}: not known to the project" in text


def test_the_scores_of_another_model_are_never_given(scored):
    scored()
    other = Path("other.safetensors")
    loaded = load_model(Path("data/model/model.safetensors"), CPU)
    changed = {key: tensor + 1 for key, tensor in loaded.network.state_dict().items()}
    save_model(other, changed, loaded.config, {"steps": 12})
    third = model("third", train={"steps": 9})
    averaged = small(model=unet(), sample={"ema_length": 0.1}, train={"posthoc": POSTHOC})
    for path, reason in ((other, "is another model"), (third, "params.yaml is another model's")):
        with pytest.raises(UserError, match=reason):
            card.known(path, load_model(path, CPU))
    Path("params.yaml").write_text(json.dumps(averaged.to_dict()))
    path = model("data/model/model.safetensors", train={"posthoc": POSTHOC})
    with pytest.raises(UserError, match="another average"):
        card.known(path, load_model(path, CPU))


# --- the command


def test_what_the_command_exports_is_a_model(capsys):
    path = model()
    for form in exchange.FORMATS:
        assert run("export", "--model", path, "--out", form, "--format", form) == 0
    assert Path("ddpm/model.safetensors").read_bytes() == path.read_bytes()
    assert run("sample", "--model", "ddpm", "-n", "2", "--steps", "2", "--device", "cpu") == 0
    assert Path("grid.png").exists()
    capsys.readouterr()
    assert "nothing.safetensors: no such model file" in refused(capsys, "export", "--model", "nothing.safetensors")


def test_the_models_that_come_with_the_repository_are_those_of_their_cards():
    models = Path(__file__).parents[1] / "models"
    classes = {"digits": 10, "fashion_mnist": 10, "flowers": 5}
    assert {path.parent.name for path in models.glob("*/model.safetensors")} == classes.keys()
    for name, count in classes.items():
        file, card = models / name / "model.safetensors", (models / name / "README.md").read_text()
        assert f"| `{sha256(file)}` |" in card
        assert file.stat().st_size < 5e6
        assert load_model(file, torch.device("cpu")).config.model.classes == count
        assert f"| classes | {count}: " in card
        assert f"ddpm sample --model models/{name} " in card
