"""The README.md of an exported model: what it is, how it scored, how to sample from it, what to mind.

Scores are those of the working folder, where its model is the exported one; elsewhere the card says that there are
none. The front matter is the Hugging Face Hub's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ddpm import config, metrics, paired, results, runs
from ddpm.checkpoint import Loaded
from ddpm.config import Config
from ddpm.errors import UserError
from ddpm.files import flatten, read_json, sha256
from ddpm.processed import read_manifest
from ddpm.results import Result

MODEL = Path("data/model/model.safetensors")  # the working folder's

# dataset -> what its authors say; a dataset that is not listed is said to be unknown
LICENCES = {
    "cifar10": "CIFAR-10's authors state no licence",
    "cifar100": "CIFAR-100's authors state no licence",
    "digits": "CC BY 4.0 (E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI, 1998)",
    "fashion_mnist": "MIT (Zalando SE)",
    "flowers": "CC BY 2.0, each photo by its own author",
    "mnist": "usually given as CC BY-SA 3.0 (Y. LeCun, C. Cortes)",
}
FRONT = "pipeline_tag: unconditional-image-generation\ntags: [ddpm, diffusion]"


class Usage(NamedTuple):
    """How a format is sampled from. library: the Hub's name of what loads it; how: Markdown with {folder}, {T}."""

    library: str
    how: str


OURS = Usage(
    "ddpm",
    """```
ddpm sample --model {folder} -n 64 --out grid.png --seed 7 --sampler ddim --steps {steps}
```

`model.safetensors` holds the whole config as well; `config.yaml` is a copy to read. `ddpm import` brings it back.""",
)

DIFFUSERS = Usage(
    "diffusers",
    """```python
from diffusers import DDIMPipeline, DDPMPipeline

ancestral = DDPMPipeline.from_pretrained("{folder}")
images = ancestral(batch_size=16, num_inference_steps={T}).images
ddim = DDIMPipeline.from_pretrained("{folder}")
images = ddim(batch_size=16, num_inference_steps={steps}, use_clipped_model_output=True).images
```

From the same noise these give the images of `ddpm sample --spacing trailing` with `--sampler ancestral` and `ddim`, to
rounding; a number of steps should divide {T}. The network takes whole numbers as timesteps, so schedulers with
fractional ones (Euler, Heun) do not go with it, and training in diffusers must leave `time_proj.weight` as it is.
DDIM needs a variance that is not learned. `ddpm import` brings the model back, bit for bit.""",
)


class Evidence(NamedTuple):
    """run: of the exported model itself; seeds: the runs of the same params and fingerprint, it included."""

    settings: Config
    run: Result
    seeds: Sequence[Result]


def write(source: Path, model: Loaded, folder: str, usage: Usage) -> str:
    """The card as Markdown. source: the model file; folder: the name that the export will have."""
    try:
        known: Evidence | UserError = evidence(source, model)
    except UserError as error:
        known = error
    T = model.config.diffusion.T
    blocks = [
        f"---\nlibrary_name: {usage.library}\n{FRONT}\n---",
        f"# {_title(model, known)}",
        "A denoising diffusion probabilistic model, trained and scored by the project `ddpm`.",
        _table(
            ("", ""), [*_model(model), *_budget(model, known), ("sha256 of model.safetensors", f"`{sha256(source)}`")]
        ),
        "## How to sample",
        usage.how.format(folder=folder, T=T, steps=_divisor(T, 50)),
        "## Scores",
        _scores(known),
        "## Limits",
        "\n".join(f"- {line}" for line in _limits(model, known)),
        "## Licence of the data",
        _licence(known),
    ]
    return "\n\n".join(blocks) + "\n"


def evidence(source: Path, model: Loaded) -> Evidence:
    """What the working folder knows of the model. Raises UserError that says why that is nothing."""
    settings = config.load()
    if settings.training().to_dict() != model.config.to_dict():
        raise UserError("params.yaml is another model's")
    if not MODEL.exists() or sha256(MODEL) != sha256(source):
        raise UserError(f"{MODEL} is another model")
    own = results.at_revision("workspace")
    try:
        alike = results.matching(results.gather().results, settings).results
    except UserError:
        alike = ()  # no repository of experiments: there is the one run
    seeds = [run for run in alike if run.fingerprint == own.fingerprint and run.seed != own.seed]
    return Evidence(settings, own, sorted([own, *seeds], key=lambda run: run.seed))


def _title(model: Loaded, known: Evidence | UserError) -> str:
    channels, size, _ = model.image_shape
    drawn = f"{size}x{size} {'RGB' if channels == 3 else 'gray'} images"
    return f"{drawn} of {known.settings.data.dataset.name}" if isinstance(known, Evidence) else drawn


def _model(model: Loaded) -> Iterable[tuple[str, str]]:
    channels, size, _ = model.image_shape
    diffusion = model.config.diffusion
    parameters = sum(parameter.numel() for parameter in model.network.parameters())
    yield "images", f"{channels} x {size} x {size}"
    yield "network", f"{model.config.model.name}, {parameters:,} parameters"
    yield "forward process", f"{_spec(diffusion.schedule)}, T = {diffusion.T:,}"
    yield "network predicts", _spec(diffusion.parameterization)
    yield "reverse variance", _spec(diffusion.variance)


def _budget(model: Loaded, known: Evidence | UserError) -> Iterable[tuple[str, str]]:
    train = model.config.train
    if origin := model.facts.get("imported"):
        yield "training", f"not known: imported from {origin['from'] if isinstance(origin, dict) else origin}"
        return
    yield "loss", _spec(model.config.diffusion.loss)
    if isinstance(steps := model.facts.get("steps"), int):
        yield "training", f"{steps:,} steps of {train.batch_size} images, seed {model.config.seed}"
    if isinstance(known, Evidence):
        yield "images seen", "not recorded" if known.run.images_seen is None else f"{known.run.images_seen:,}"
        cost = flatten(read_json(runs.METRICS / "train.json"))
        yield (
            "training took",
            f"{cost.get('seconds', 'an unknown number of')} s on {cost.get('device', 'an unknown device')}",
        )
        manifest = read_manifest(runs.PROCESSED) if runs.PROCESSED.exists() else None
        if manifest:
            counts = ", ".join(f"{count:,} {split}" for split, count in manifest.counts.items())
            yield "data", f"{manifest.dataset}: {counts} images"
            yield "sha256 of the train images", f"`{manifest.sha256['train']}`"


def _scores(known: Evidence | UserError) -> str:
    if isinstance(known, UserError):
        return f"None known: exported apart from the run that scored it ({known})."
    own, seeds = known.run, known.seeds
    names = metrics.judged(set.intersection(*(set(run.scores) for run in seeds)))
    heads, rows = (
        ["score", "better", "this model"],
        [[n, metrics.direction(n), _measured(own.scores, n)] for n in names],
    )
    notes = ["± is a standard error."] if any(f"{name}_se" in own.scores for name in names) else []
    if len(seeds) > 1 and names:
        level = known.settings.compare.confidence
        values = np.array([[run.scores[name] for run in seeds] for name in names])
        found = paired.evidence(values, 0.0, level)
        heads += [f"mean of {len(seeds)} training seeds", f"{level:.0%} interval of that mean"]
        for row, mean, low, high in zip(rows, found.mean, found.low, found.high, strict=True):
            row += [f"{mean:.4g}", f"{low:.4g} to {high:.4g}"]
        notes.append(f"Seeds {', '.join(str(run.seed) for run in seeds)}; the interval is Student's t.")
    else:
        notes.append("One training seed: another one moves these scores, by how much is not known.")
    sampling = known.settings.sample
    notes += [
        f"Of {sampling.count:,} samples: {_spec(sampling.sampler)}, {sampling.steps} steps, {sampling.spacing}.",
        f"Fingerprint `{own.fingerprint}`: scores compare only where it is the same.",
    ]
    return "\n\n".join([_table(heads, rows), *notes])


def _limits(model: Loaded, known: Evidence | UserError) -> Iterable[str]:
    _, size, _ = model.image_shape
    yield f"It draws images of {size}x{size} pixels like those that it was trained on; no class can be asked for."
    yield "A Fréchet distance falls as the number of samples grows: compare at the same number."
    yield "What is rare, wrong or unfair in the data is so in the samples."
    shares = known.run.scores if isinstance(known, Evidence) else {}
    copied = {name.split(".")[1]: share for name, share in shares.items()
              if name.startswith("memorisation.") and name.endswith(".share")}  # fmt: skip
    for space, share in copied.items():
        yield f"{share:.2%} of its samples lie nearer to a train image than any held-out image does, in {space}."
    if not copied:
        yield "Whether its samples copy train images was not measured."


def _licence(known: Evidence | UserError) -> str:
    if isinstance(known, UserError):
        return "Not known: the model file does not say what data it was trained on. Look it up before you share this."
    name = known.settings.data.dataset.name
    return f"{name}: {LICENCES.get(name, 'not known to the project: look it up before you share this')}."


def _measured(scores: dict[str, float], name: str) -> str:
    error = scores.get(f"{name}_se")
    return f"{scores[name]:.4g}" if error is None else f"{scores[name]:.4g} ± {error:.2g}"


def _spec(variant: Any) -> str:
    """A variant's name, with its hyperparameters where it has some."""
    spec = json.loads(variant.model_dump_json())
    fields = ", ".join(f"{key} {value}" for key, value in spec.get(spec["name"], {}).items())
    return f"{spec['name']} ({fields})" if fields else spec["name"]


def _divisor(T: int, most: int) -> int:
    return max(steps for steps in range(1, min(T, most) + 1) if T % steps == 0)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows))
