"""data/samples, data/model, data/processed, data/reference -> metrics/evaluate.json and others, data/evaluation."""

import time

import torch

from ddpm.base import paths
from ddpm.base.files import flatten, read_json, write_json
from ddpm.compute.distributed import Ranks
from ddpm.evaluation import curve, evaluation
from ddpm.evaluation.bounds import Job
from ddpm.evaluation.fingerprint import fingerprint
from ddpm.model import averages, flops
from ddpm.runs import record
from ddpm.runs.record import Costs, Fingerprint, Provenance, Record
from ddpm.sampling import guidance
from ddpm.sampling.sample_params import Sample
from ddpm.sampling.samples import read_precision, set_paths, snapshot_paths
from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.reference import read_reference


def main(
    evaluate: Evaluate, sample: Sample, device: torch.device, ranks: Ranks, provenance: Provenance, name: str
) -> None:
    """provenance: of the run, for its record; name: of the run."""
    started = time.perf_counter()
    index = read_reference(paths.REFERENCE)
    identity, evaluate = evaluate.identity(), index.resolved(evaluate)
    model = averages.load(paths.MODEL_FILE, sample.ema_length, device)
    sets = set_paths(paths.SAMPLES, sample.seeds)
    job = Job(model, paths.PROCESSED, paths.REFERENCE, evaluate, device, ranks)
    result = evaluation.evaluate(sets, job)
    points = curve.curve(result, snapshot_paths(paths.SAMPLES, sample.seeds), paths.SAMPLES, job)
    if not ranks.main:
        return
    drawn_in, trained_in = read_precision(paths.SAMPLES), model.facts.get("precision", "unknown")
    evaluations = guidance.evaluations(sample, model.config.diffusion)
    comparable = fingerprint(index, evaluate, sample, drawn_in, trained_in, device, evaluations)
    evaluation.write(result, points)
    write_json(paths.FINGERPRINT, comparable | {"config": identity})
    trained, drawn = read_json(paths.TRAIN_FACTS), read_json(paths.SAMPLE_FACTS)
    seconds = {"train": trained["seconds"], "sample": drawn["seconds"], "evaluate": time.perf_counter() - started}
    run = Record(
        name=name,
        seed=model.config.seed,
        finished=record.now(),
        params=provenance.params,
        code=provenance.code,
        fingerprint=Fingerprint(hash=comparable["hash"], comparable=comparable["comparable"]),
        scores=flatten(result.scores),
        curve=record.table(points, digits=9),
        noise_levels=record.table(result.excess, digits=4),
        costs=Costs(
            images_seen=trained["images_seen"],
            parameters=trained["parameters"],
            flops=float(flops.per_image(model.config) * trained["images_seen"]),
            evaluations=drawn["evaluations_per_image"],
            seconds={stage: round(taken, 2) for stage, taken in seconds.items()},
        ),
        environment=comparable["environment"],
    )
    record.write(run, paths.RUN)
