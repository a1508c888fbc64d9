"""data/samples, data/model, data/processed, data/reference -> metrics/evaluate.json, run.json and others."""

import time

import torch

from ddpm.base import files, images, paths
from ddpm.base.files import read_json
from ddpm.compute.distributed import Ranks
from ddpm.evaluation import evaluation, fingerprint
from ddpm.evaluation.bounds import Job
from ddpm.model import averages
from ddpm.runs import record
from ddpm.runs.record import Costs, Fingerprint, Provenance, Record
from ddpm.sampling.sample_params import Sample
from ddpm.sampling.samples import read_samples, set_paths, snapshot_paths
from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.reference import read_reference


def main(
    evaluate: Evaluate, sample: Sample, device: torch.device, ranks: Ranks, provenance: Provenance, name: str
) -> None:
    """provenance: of the run, for its record; name: of the run."""
    started = time.perf_counter()
    index = read_reference(paths.REFERENCE)
    evaluate = index.resolve(evaluate)
    model = averages.load(paths.MODEL_FILE, sample.ema_length, device)
    job = Job(model, paths.PROCESSED, paths.REFERENCE, evaluate, device, ranks)
    sets = set_paths(paths.SAMPLES, sample.seeds)
    result = evaluation.evaluate(sets, job)
    points = evaluation.learning_curve(result, snapshot_paths(paths.SAMPLES, sample.seeds), paths.SAMPLES, job)
    if not ranks.main:
        return
    evaluation.write(result, points)
    trained, drawn = read_json(paths.TRAIN_FACTS), read_json(paths.SAMPLE_FACTS)
    taken = {"train": trained["seconds"], "sample": drawn["seconds"]}
    run = Record(
        name=name,
        seed=model.config.seed,
        finished=record.now(),
        params=provenance.params,
        code=provenance.code,
        fingerprint=Fingerprint.of(fingerprint.comparable(index, evaluate, sample, drawn)),
        samples=images.digest(map(read_samples, sets.values())),
        scores=files.flatten(result.scores),
        curve=record.table(points, digits=9),
        costs=Costs(
            images_seen=trained["images_seen"],
            parameters=trained["parameters"],
            flops=float(trained["flops"]),
            teacher_flops=model.facts.get("teacher_flops", 0.0),
            evaluations=drawn["evaluations_per_image"],
            seconds=taken | {"evaluate": round(time.perf_counter() - started, 2)},
        ),
        environment=fingerprint.environment(device, model.facts.get("precision", "unknown")),
    )
    record.write_record(run, paths.RUN)
