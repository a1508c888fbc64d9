"""data/samples and data/reference -> metrics/evaluate.json, metrics/fingerprint.json."""

from __future__ import annotations

from ddpm import devices, tracking
from ddpm.config import Config
from ddpm.evaluation import evaluate
from ddpm.files import write_json
from stages import METRICS, REFERENCE, SAMPLES, run


def main(config: Config, fingerprint: str) -> None:
    sample = config.sample
    sampling = {
        "sampler": sample.sampler.model_dump(),
        "steps": sample.steps,
        "evaluations": sample.sampler.evaluations(sample.steps),
        "spacing": sample.spacing,
        "clip_denoised": sample.clip_denoised,
    }
    device = devices.resolve(config.device)
    scores, comparable = evaluate(SAMPLES / "samples.npy", REFERENCE, config.evaluate, sampling, device)
    write_json(METRICS / "evaluate.json", scores)
    write_json(METRICS / "fingerprint.json", comparable)
    tracking.sync("evaluate")


if __name__ == "__main__":
    run("evaluate", main)
