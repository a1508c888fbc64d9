"""data/samples, data/model, data/processed, data/reference -> metrics/evaluate.json, run.json and others."""

import time

import torch

from ddpm.base import images, paths
from ddpm.base.files import read_json
from ddpm.compute.distributed import Ranks
from ddpm.evaluation import evaluation, fingerprint
from ddpm.evaluation.bounds import Job
from ddpm.model import averages
from ddpm.runs import record
from ddpm.runs.assembly import assemble
from ddpm.runs.record import Provenance
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
    points = evaluation.learning_curve(result, snapshot_paths(paths.SAMPLES, sample.seeds), job)
    if not ranks.main:
        return
    evaluation.write(result, points)
    drawn, trained_in = read_json(paths.SAMPLE_FACTS), model.facts.get("precision", "unknown")
    judged_by = fingerprint.comparable(index, evaluate, sample, drawn), fingerprint.environment(device, trained_in)
    seconds, samples = time.perf_counter() - started, images.digest(map(read_samples, sets.values()))
    record.write_record(assemble(name, provenance, model, result, points, *judged_by, seconds, samples), paths.RUN)
