"""Quality against cost: one model's scores over samplers and numbers of network evaluations.

A cell is one sampler at one number of steps, drawn from one set of noise. Each is kept in ``.ddpm/frontier/`` under
the repository's root, named by a digest of all that its images, scores and seconds depend on, and is measured once.
"""

from __future__ import annotations

import csv
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch_fidelity
from pydantic import BaseModel, ConfigDict, ValidationError

from ddpm import devices, extractors, files, inputs, metrics, params_file, plots, samples, scores, variants
from ddpm.checkpoint import Loaded, load_model
from ddpm.config import Config, Sample, Spacing
from ddpm.errors import UserError
from ddpm.reference import INDEX, load_features, read_reference
from ddpm.samplers import Sampler
from ddpm.sampling import Generator, write_set

EVALUATIONS = (5, 10, 20, 50, 100)
# Measured on the digits preset's network at 5 to 20 evaluations: the other spacings were no better for any solver of
# the probability-flow ODE, and log_snr far worse at 5, whose first steps are too long on a cosine schedule.
FEW_STEPS: Spacing = "trailing"
SPACINGS: dict[str, Spacing] = {"ancestral": "uniform"}
COLUMNS = ("model", "sampler", "steps", "evaluations", "spacing", "images", "sets", "seconds")
PARETO = "pareto"


class Cell(BaseModel):
    """What is kept. seconds: of sampling alone, measured once; scores: ``classifier.fd`` and so on."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    seconds: float
    scores: dict[str, float]


@dataclass(frozen=True)
class Point:
    """A sampler at ``steps`` of the model's chain: the mean over its sets of ``images`` images.

    model: the first 12 digits of the model file's sha256. evaluations: of the network, per image. pareto: no other
    point has a Fréchet distance as low from as few evaluations.
    """

    model: str
    sampler: str
    steps: int
    evaluations: int
    spacing: str
    images: int
    sets: int
    seconds: float
    scores: dict[str, float]
    pareto: bool = False

    @property
    def headline(self) -> str:
        """The name of the Fréchet distance by which points are ranked: that of the first extractor."""
        return next(name for name in self.scores if metrics.is_headline(name))


class Frontier:
    """Measures points of one model against one reference, as ``settings`` say how to draw and to score.

    Raises UserError when the model or the reference is missing, the two differ in the shape of their images, there
    are too few images for a metric, or no Fréchet distance is among the metrics.
    """

    def __init__(self, model: Path, reference: Path, settings: Config, device: torch.device):
        self.settings = settings
        self.device = device
        self.loaded: Loaded = load_model(model, device)
        index = read_reference(reference)
        shape = (index.channels, index.image_size, index.image_size)
        if self.loaded.image_shape != shape:
            raise UserError(
                f"{model}: draws images of {self.loaded.image_shape} (channels, height, width), {reference} holds "
                f"{index.dataset}'s of {shape}: train with this data.image_size and data.channels"
            )
        if "fid" not in settings.evaluate.metrics:
            raise UserError("evaluate.metrics: a frontier ranks by the Fréchet distance; add fid")
        for name in settings.evaluate.extractors:
            counts = {"sample.count": settings.sample.count, "the train split": index.count}
            scores.check_counts(settings.evaluate, extractors.get(name), counts)
        self.real = {name: load_features(reference, name) for name in settings.evaluate.extractors}
        self.sha256 = {"model": files.sha256(model), "reference": files.sha256(reference / INDEX)}
        self.folder = Path(os.environ.get("DVC_ROOT", ".")) / ".ddpm" / "frontier"
        self.measured = 0

    def points(self, samplers: Iterable[Sampler], evaluations: Sequence[int], spacing: Spacing | None) -> list[Point]:
        """A point for each sampler and number of evaluations, those that come out alike once; with their Pareto front.

        A sampler takes the most steps whose evaluations come to no more. spacing: of the steps; None: what suits the
        sampler at few steps. Says on stderr what it measures.
        """
        T = self.loaded.config.diffusion.T
        found = []
        for sampler in samplers:
            for steps in dict.fromkeys(steps_within(sampler, limit, T) for limit in sorted(evaluations)):
                found.append(self.point(sampler, steps, spacing or SPACINGS.get(sampler.name, FEW_STEPS)))
        return marked(found)

    def point(self, sampler: Sampler, steps: int, spacing: Spacing) -> Point:
        changes = {"sampler": sampler, "steps": steps, "spacing": spacing}
        options = self.settings.sample.model_copy(update=changes)
        cells = [self.cell(options, seed) for seed in options.seeds]
        return Point(
            model=self.sha256["model"][:12],
            sampler=sampler.name,
            steps=steps,
            evaluations=sampler.evaluations(steps),
            spacing=spacing,
            images=options.count,
            sets=len(cells),
            seconds=float(np.mean([cell.seconds for cell in cells])),
            scores={name: float(np.mean([cell.scores[name] for cell in cells])) for name in cells[0].scores},
        )

    def cell(self, options: Sample, seed: int) -> Cell:
        """From the cache, or measured now; an unreadable file is said and measured again."""
        path = self.folder / f"{self.key(options, seed)}.json"
        if path.exists():
            try:
                return Cell.model_validate_json(path.read_bytes())
            except ValidationError as error:
                print(f"warning: {path}: not a measured cell ({error.error_count()} errors); again", file=sys.stderr)
        cell = self.measure(options, seed)
        files.write_json(path, cell.model_dump())
        return cell

    def key(self, options: Sample, seed: int) -> str:
        """Digest of what a cell depends on: files, settings, code, libraries, and the device, for the seconds."""
        scoring = self.settings.evaluate.model_dump(mode="json", exclude={"batch_size", "likelihood"})
        return files.digest(
            {
                **self.sha256,
                "sample": options.model_dump(mode="json", serialize_as_any=True, exclude={"seeds"}),
                "seed": seed,
                "evaluate": scoring,
                "code": code(self.loaded, options.sampler),
                "versions": [torch.__version__, torch_fidelity.__version__],
                "device": devices.describe(self.device),
            }
        )

    def measure(self, options: Sample, seed: int) -> Cell:
        print(f"{options.sampler.name}, {options.steps} steps, set {seed}: drawing and scoring", file=sys.stderr)
        noise_seed = samples.noise_seed(self.loaded.config.seed, seed)
        generator = Generator.of(self.loaded, options, self.device)
        if not self.measured:
            # the first call of a process also loads and chooses kernels
            generator.images(range(min(options.batch_size, options.count)), noise_seed, self.loaded.image_shape)
        self.measured += 1
        with TemporaryDirectory() as folder:
            path = Path(folder) / "samples.npy"
            started = time.perf_counter()
            write_set(generator, options, noise_seed, self.loaded.image_shape, path)
            seconds = time.perf_counter() - started
            images = samples.read_samples(path)
            found: dict[str, Any] = {}
            for name, real in self.real.items():
                batch_size = self.settings.evaluate.batch_size
                fake = extractors.extract(real.network, images, batch_size, self.device)
                found[name] = scores.score(fake, real, self.settings.evaluate)
        return Cell(seconds=seconds, scores={k: float(v) for k, v in files.flatten(found).items()})


def steps_within(sampler: Sampler, evaluations: int, T: int) -> int:
    """The most steps, at most T, that ``evaluations`` of the network pay for. Raises UserError when not even one."""
    for steps in range(min(evaluations, T), 0, -1):
        if sampler.evaluations(steps) <= evaluations:
            return steps
    raise UserError(f"--evaluations: {evaluations} is not allowed: {sampler.name} needs at least one")


def code(model: Loaded, sampler: Sampler) -> dict[str, str]:
    """sha256 of each file of ddpm/ that draws or scores with them: as dvc.yaml lists it for these variants."""
    if not inputs.DVC_YAML.exists():
        raise UserError(f"{inputs.DVC_YAML}: no such file; run this in the project's folder")
    params = model.config.to_dict() | {"sample": {"sampler": {"name": sampler.name}}}
    listed = {dep for stage in ("sample", "evaluate") for dep in inputs.stage(stage, params)[1]}
    return {dep: files.sha256(Path(dep)) for dep in sorted(listed) if Path(dep).is_relative_to("ddpm")}


def chosen_samplers(names: Sequence[str]) -> list[Sampler]:
    """Samplers by name, with the hyperparameters of their blocks in params.yaml. Raises UserError for unknown ones."""
    for name in names:
        variants.check_name("samplers", name, "--samplers")
    spec = params_file.read()["sample"]["sampler"]
    return [variants.build("samplers", {**spec, "name": name}, "sample.sampler") for name in names]


def marked(points: Sequence[Point]) -> list[Point]:
    """The points with ``pareto`` set."""
    front = pareto([(point.evaluations, point.scores[point.headline]) for point in points])
    return [replace(point, pareto=on_it) for point, on_it in zip(points, front, strict=True)]


def pareto(costs: Sequence[tuple[float, float]]) -> list[bool]:
    """Which pairs no other pair is at least as low as in both, and lower in one."""
    return [not any(x <= own_x and y <= own_y and (x, y) != (own_x, own_y) for x, y in costs) for own_x, own_y in costs]


def write_csv(path: Path, points: Sequence[Point]) -> None:
    """A row for each point, its scores under their own names."""
    named = list(dict.fromkeys(name for point in points for name in point.scores))
    with files.atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS, *named, PARETO])
        for point in points:
            facts = [getattr(point, column) for column in COLUMNS]
            facts[-1] = f"{point.seconds:.3f}"
            writer.writerow([*facts, *(f"{point.scores[name]:.6g}" for name in named), str(point.pareto).lower()])


def read_csv(path: Path) -> list[Point]:
    """What ``write_csv`` wrote. Raises UserError when it is missing or anything else."""
    try:
        with path.open(newline="") as file:
            points = list(_rows(csv.DictReader(file)))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; `ddpm frontier` makes it") from error
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: not a frontier ({error!r}); run `ddpm frontier` again") from error
    if not points:
        raise UserError(f"{path}: holds no point; run `ddpm frontier` again")
    return points


def _rows(reader: csv.DictReader[str]) -> Iterator[Point]:
    for row in reader:
        named = {key: float(value) for key, value in row.items() if key not in (*COLUMNS, PARETO)}
        point = Point(
            model=row["model"],
            sampler=row["sampler"],
            steps=int(row["steps"]),
            evaluations=int(row["evaluations"]),
            spacing=row["spacing"],
            images=int(row["images"]),
            sets=int(row["sets"]),
            seconds=float(row["seconds"]),
            scores=named,
            pareto={"true": True, "false": False}[row[PARETO]],
        )
        if not any(map(metrics.is_headline, named)):
            raise ValueError("no column of a Fréchet distance")
        yield point


def table(points: Sequence[Point]) -> str:
    """The Pareto front by rising cost, for a terminal."""
    front = sorted((point for point in points if point.pareto), key=lambda point: point.evaluations)
    shown = metrics.judged(front[0].scores)
    lines = [["evaluations", "sampler", "steps", "spacing", "seconds", *shown]]
    for point in front:
        facts = [str(point.evaluations), point.sampler, str(point.steps), point.spacing, f"{point.seconds:.2f}"]
        lines.append([*facts, *(f"{point.scores[name]:.4g}" for name in shown)])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)


def panels(points: Sequence[Point]) -> list[plots.Panel]:
    """The headline score against evaluations and against seconds, a line for each sampler, with the front of each."""
    headline, images = points[0].headline, points[0].images
    costs = {"network evaluations per image": "evaluations", f"seconds for {images:,} images": "seconds"}
    found = []
    for label, cost in costs.items():
        pairs = [(float(getattr(point, cost)), point.scores[headline]) for point in points]
        curves: dict[str, list[tuple[float, float]]] = {}
        for point, pair in zip(points, pairs, strict=True):
            curves.setdefault(point.sampler, []).append(pair)
        front = sorted(pair for pair, on_it in zip(pairs, pareto(pairs), strict=True) if on_it)
        found.append(
            plots.Panel(
                title=f"{headline} against {cost}",
                x=label,
                y=headline,
                curves={name: np.array(sorted(line)) for name, line in curves.items()},
                front=np.array(front),
                log="xy",
                points=True,
            )
        )
    return found
