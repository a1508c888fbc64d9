"""The commands of ``ddpm`` that draw from, average and share model files."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Path as FileKind

from ddpm.base.errors import UserError, plural
from ddpm.base.machine import exit_at_sigterm
from ddpm.base.paths import MODEL_FILE
from ddpm.cli.app import MODELS, SCORES, Classes, Json, Model, Names, Picture, app, list_files
from ddpm.cli.terminal import answer


@app.command(group=MODELS)
def sample(
    *,
    model: Model = MODEL_FILE,
    count: Annotated[int, Parameter(("--count", "-n"))] = 64,
    out: Picture = Path("grid.png"),
    seed: int = 0,
    sampler: Annotated[str, Parameter(help=list_files("variants/samplers"))] = "ddim",
    steps: int = 50,
    spacing: str = "uniform",
    classes: Classes = (),
    guidance: float = 1.0,
    batch_size: int = 256,
    device: str = "auto",
) -> None:
    """Draw images from a model file, anywhere.

    examples:
      ddpm sample -n 16 --out digits.png     # 16 images of the current model
      ddpm sample --class 3 --guidance 2     # one class, more clearly
      ddpm sample --model m.safetensors --seed 7 --sampler ancestral --steps 250

    Args:
        count: number of images
        seed: one of sample.seeds draws that set again
        steps: number of steps
        spacing: of the steps: uniform, trailing or karras
        classes: numbers or names to cycle through (all)
        guidance: weight of the guidance; 1 is none
        batch_size: number of images at a time
        device: auto, cpu, cuda or cuda:N
    """
    import torch

    from ddpm.base import variant
    from ddpm.base.sections import parse
    from ddpm.compute import devices
    from ddpm.model.model_file import load_model
    from ddpm.pictures import grids
    from ddpm.sampling.generator import Generator
    from ddpm.sampling.guidance import evaluations
    from ddpm.sampling.sample_params import Sample
    from ddpm.sampling.samples import noise_seed

    given: dict[str, object] = {"count": count, "batch_size": batch_size, "steps": steps, "spacing": spacing}
    given |= {"classes": classes or None, "seeds": (seed,)}
    given["sampler"] = variant.build("samplers", {"name": sampler}, "--sampler")
    options = parse(given | {"guidance": {"weight": guidance}}, "sample", Sample)
    on = devices.resolve(device)
    loaded = load_model(model, on)
    generator = Generator.of(loaded, options, on)
    noise = noise_seed(loaded.config.seed, seed)
    batches = generator.batches(count, batch_size, noise)
    grids.save_grid(torch.cat([batch for _, batch in batches]), out)
    print(f"{out}: {plural(count, 'image')}, {evaluations(options, loaded.config.diffusion)} evaluations each")


@app.command(group=MODELS)
def ema(*, length: float, model: Model = MODEL_FILE, out: Path = Path("ema.safetensors")) -> None:
    """Write a model file with another average of the weights (train.posthoc).

    examples:
      ddpm ema --length 0.075  # from the snapshots of train.posthoc

    Args:
        length: as sample.ema_length, the paper's sigma_rel
        model: model file with the folder ema/ next to it
        out: new file to write
    """
    from ddpm.model import averages

    averages.save(model, length, out)
    print(f"{out}: the average of length {length:g}; `ddpm sample --model {out}` draws from it")


@app.command(group=MODELS)
def export(*, model: Model = MODEL_FILE, out: Path = Path("export")) -> None:
    """Write the model and its card to a folder, to share.

    examples:
      ddpm export --out shared

    Args:
        out: new folder to write
    """
    from ddpm.sharing import card

    card.export_model(model, out)
    print(f"{out}: {model} as a folder to share; read its README.md before you do")


@app.command(group=SCORES)
def score(
    samples: Path,
    /,
    *,
    seed: int,
    name: str | None = None,
    param: Names = (),
    cost: Names = (),
    out: Annotated[Path | None, Parameter(validator=FileKind(ext=("json",)))] = None,
    reference: Path | None = None,
    extractor: str | None = None,
    json: Json = False,
) -> None:
    """Score images that any program drew, and write their run's record.

    examples:
      ddpm score samples.npz --seed 0 --name edm2 --param lr=0.01
      ddpm score samples.npz --seed 0 --cost images_seen=64000 seconds.train=120
      ddpm score samples.npz --seed 0 --reference cifar10-32x32.npz  # published FID

    Args:
        samples: folder or archive of pictures, or an .npy or .npz file
        seed: seed of the program's training, by which runs are paired
        name: name of the program, to compare by (the file's name)
        param: the program's params, as KEY=VALUE
        cost: images_seen, parameters, flops, teacher_flops, evaluations or seconds.STAGE, as KEY=VALUE
        out: a .json file (metrics/scored/NAME-SEED.json)
        reference: .npz file of others' mu and sigma (the real images here)
        extractor: of the reference's features (inception)
    """
    from ddpm.params import file
    from ddpm.report import render, summary
    from ddpm.report.blocks import Chapter
    from ddpm.tools import score

    exit_at_sigterm()  # so that what was unpacked is removed
    name = name or samples.resolve().stem
    params, costs = file.decode_options("--param", param), file.decode_options("--cost", cost)
    if extractor and not reference:
        raise UserError(f"--extractor: {extractor} is of others' features; allowed: with --reference")
    against = (reference, extractor or "inception") if reference else None
    run = score.score(samples, seed, name, {"name": name} | params, costs, against)
    path = score.write_record(run, out)
    text = render.text([Chapter("", [*summary.scores(run), *summary.findings(run)])])
    answer(json, run.scores, text, "", path)
