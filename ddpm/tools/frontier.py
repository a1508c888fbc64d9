"""Quality against cost: one model's scores over samplers, numbers of network evaluations and weights of guidance.

A cell is one sampler at one number of steps and one weight, drawn from one set of noise. Each is measured once and kept
in ``.ddpm/frontier/`` under the repository's root, named by a digest of everything that its images, scores and seconds
depend on.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch_fidelity
from pandas import DataFrame
from pydantic import FiniteFloat

from ddpm.base import files, variant
from ddpm.base.errors import UserError
from ddpm.base.sections import section
from ddpm.compute import devices
from ddpm.diffusion.diffusion_params import Diffusion
from ddpm.model import averages
from ddpm.model.model_file import Loaded
from ddpm.params import file
from ddpm.params.config import Config
from ddpm.report import pareto
from ddpm.runs import measured
from ddpm.sampling import guidance, samples
from ddpm.sampling.generator import Generator, write_set
from ddpm.sampling.sample_params import Guidance, Sample
from ddpm.sampling.sampler import Sampler
from ddpm.scoring import limits, scores
from ddpm.scoring.features import extract
from ddpm.scoring.reference import INDEX, load_features, read_reference

EVALUATIONS = (5, 10, 20, 50, 100)
CODE = Path(__file__).parents[1]
# the two clocks that are read around sampling alone
CLOCKS: dict[str, Callable[[], float]] = {"seconds": time.perf_counter, "cpu_seconds": time.process_time}


class Frontier:
    """Measures points of one model against one reference. ``config`` says how to draw and score.

    Raises UserError if the model or the reference is missing, the shapes of their images differ, there are too few
    images for a metric, or no Fréchet distance is among the metrics.
    """

    def __init__(self, model: Path, reference: Path, config: Config, device: torch.device):
        self.config = config
        self.device = device
        self.loaded: Loaded = averages.load(model, config.sample.ema_length, device)
        index = read_reference(reference)
        if self.loaded.image_shape != index.shape:
            raise UserError(
                f"{model}: draws images of {self.loaded.image_shape} (channels, height, width), {reference} holds "
                f"{index.dataset}'s of {index.shape}: train with this data.image_size and data.channels"
            )
        self.evaluate = index.resolved(config.evaluate)
        if "fid" not in self.evaluate.metrics:
            raise UserError("evaluate.metrics: a frontier ranks by the Fréchet distance; add fid")
        limits.check_counts(self.evaluate, {"sample.count": config.sample.count, "the train split": index.count})
        self.real = {name: load_features(reference, name) for name in self.evaluate.extractors}
        self.sha256 = {"model": files.sha256(model), "reference": files.sha256(reference / INDEX)}
        self.folder = Path(os.environ.get("DVC_ROOT", ".")) / ".ddpm" / "frontier"
        self.measured = 0

    def points(
        self, samplers: Iterable[Sampler], evaluations: Sequence[int], weights: Sequence[float] = ()
    ) -> DataFrame:
        """A row for each sampler, number of steps and weight: the mean over its sets.

        A sampler takes as many steps as the evaluations allow, of which guidance takes some, in the spacing that suits
        it at few steps. weights: of guidance, that of params.yaml if there are none. Reports on stderr what it
        measures.
        """
        diffusion, sample = self.loaded.config.diffusion, self.config.sample
        rows = []
        for sampler, weight in product(samplers, weights or [sample.guidance.weight]):
            guided = section(Guidance, sample.guidance.model_dump() | {"weight": weight})
            update = {"sampler": sampler, "spacing": sampler.few_steps, "guidance": guided}
            drawn = sample.model_copy(update=update)
            for steps in dict.fromkeys(steps_within(drawn, limit, diffusion) for limit in sorted(evaluations)):
                options = drawn.model_copy(update={"steps": steps})
                cells = DataFrame([self.cell(options, seed) for seed in options.seeds])
                facts = {"model": self.sha256["model"][:12], "sampler": sampler.name, "steps": steps, "weight": weight,
                         "spacing": options.spacing, "device": devices.describe(self.device),
                         "evaluations": guidance.evaluations(options, diffusion), "images": options.count,
                         "sets": len(cells)}  # fmt: skip
                rows.append(facts | cells.mean().to_dict())
        return pareto.marked(DataFrame(rows))

    def cell(self, options: Sample, seed: int) -> dict[str, float]:
        """The time of sampling alone, by CLOCKS, and the scores: from the cache, or measured now."""
        path = self.folder / f"{self.key(options, seed)}.json"
        try:
            cell: dict[str, float] = measured.read(path, dict[str, FiniteFloat])
        except UserError:  # missing, or damaged
            cell = self.measure(options, seed)
            files.write_json(path, cell)
        return cell

    def key(self, options: Sample, seed: int) -> str:
        """Digest of what a cell depends on: files, params, code, libraries, and (for the seconds) the device."""
        scoring = self.evaluate.model_dump(mode="json", exclude={"batch_size", "likelihood"})
        sampling = options.model_dump(mode="json", serialize_as_any=True, exclude={"seeds"})
        # what ``auto`` resolves to: two CPUs with the same description may differ in it
        sampling["precision"] = devices.precision_name(devices.precision(options.precision, self.device))
        return files.digest(
            {
                **self.sha256,
                "sample": sampling,
                "seed": seed,
                "evaluate": scoring,
                "code": files.md5(CODE),
                "versions": [torch.__version__, torch_fidelity.__version__],
                "device": devices.describe(self.device),
                "clocks": list(CLOCKS),
            }
        )

    def measure(self, options: Sample, seed: int) -> dict[str, float]:
        weight = options.guidance.weight
        what = f"{options.sampler.name}, {options.steps} steps" + (f", weight {weight:g}" if weight != 1 else "")
        print(f"{what}, set {seed}: drawing and scoring", file=sys.stderr)
        noise_seed = samples.noise_seed(self.loaded.config.seed, seed)
        generator = Generator.of(self.loaded, options, self.device)
        if not self.measured:
            # the first call of a process also loads and chooses kernels
            generator.images(range(min(options.batch_size, options.count)), noise_seed, self.loaded.image_shape)
        self.measured += 1
        with TemporaryDirectory() as folder:
            path = Path(folder) / "samples.npy"
            started = {name: clock() for name, clock in CLOCKS.items()}
            write_set(generator, options, noise_seed, self.loaded.image_shape, path)
            cell: dict[str, Any] = {name: clock() - started[name] for name, clock in CLOCKS.items()}
            images = samples.read_samples(path)
            for name, real in self.real.items():
                batch_size = self.evaluate.batch_size
                fake = extract(real.network, images, batch_size, self.device)
                cell[name] = scores.score(fake, real, self.evaluate)
                if generator.classes and real.extractor.knows_classes:
                    cell[name]["class_accuracy"] = scores.class_accuracy(fake, generator.classes(range(options.count)))
        return {name: float(value) for name, value in sorted(files.flatten(cell).items())}


def steps_within(options: Sample, evaluations: int, diffusion: Diffusion) -> int:
    """The most steps, at most T, that ``evaluations`` of the network allow. Raises UserError if they allow none."""
    for steps in range(min(evaluations, diffusion.T), 0, -1):
        if guidance.evaluations(options.model_copy(update={"steps": steps}), diffusion) <= evaluations:
            return steps
    raise UserError(f"--evaluations: {evaluations} is not allowed: {options.sampler.name} needs more for one step")


def chosen_samplers(names: Sequence[str]) -> list[Sampler]:
    """Samplers by name, with the hyperparameters of their blocks in params.yaml. Raises UserError for unknown ones."""
    for name in names:
        variant.check_name("samplers", name, "--samplers")
    spec = file.read()["sample"]["sampler"]
    return [variant.build("samplers", {**spec, "name": name}, "sample.sampler") for name in names]
