"""Which other models' scores an evaluation's may be compared with."""

import os
from importlib.metadata import version
from typing import Any

import torch

from ddpm.base import files
from ddpm.compute import devices
from ddpm.sampling.sample_params import Sample
from ddpm.scoring import distances, frechet, metric
from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.metric import ISC_SPLITS, RNG_SEED
from ddpm.scoring.reference import WEIGHTS, Reference


def fingerprint(
    index: Reference,
    evaluate: Evaluate,
    sample: Sample,
    drawn_in: str,
    trained_in: str,
    device: torch.device,
    evaluations: int | None = None,
) -> dict[str, Any]:
    """Of the scores, for metrics/run.json.

    ``comparable``: what two models must share for their scores to be compared; ``hash``: its digest, the same on every
    machine; ``environment``: recorded but not hashed. drawn_in, trained_in: the precisions that ``auto`` stood for. A
    model's samples score differently in bfloat16 and in float32, so the precision they were drawn in is part of the
    sampling. evaluations: of the network per image; None: the sampler's.
    """
    specs = (metric.get(name).model_dump(mode="json") for name in evaluate.metrics)
    hyperparameters = {spec["name"]: spec[spec["name"]] for spec in specs if spec["name"] in spec}
    # of sets that are compared in part
    part = {"part": distances.MOST} if max(index.count, sample.count) > distances.MOST else {}
    comparable = {
        "images": {
            "sha256": index.images,
            "held_out": index.held_out,
            "count": index.count,
            "channels": index.channels,
            "size": index.image_size,
        },
        "extractors": {name: index.extractors[name][WEIGHTS] for name in evaluate.extractors},
        "sets": len(sample.seeds),
        "samples": sample.count,
        "sampling": {
            **sample.model_dump(
                mode="json",
                include={"sampler", "steps", "spacing", "clip_denoised", "classes", "guidance", "ema_length"},
                serialize_as_any=True,
            ),
            "evaluations": evaluations or sample.sampler.evaluations(sample.steps),
            "precision": drawn_in,
        },
        "metrics": {
            **evaluate.model_dump(
                mode="json",
                include={"metrics", "kid_subsets", "kid_subset_size", "prc_neighborhood", "likelihood"},
            ),
            "isc_splits": ISC_SPLITS,
            "rng_seed": RNG_SEED,
            "fd_parts": frechet.PARTS,
            **hyperparameters,
            **part,
        },
        "torch_fidelity": version("torch-fidelity"),
    }
    environment = {
        "torch": torch.__version__,
        "ranks": int(os.environ.get("WORLD_SIZE", "1")),
        "threads": torch.get_num_threads(),
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "processor": devices.processor(device),
        "training_precision": trained_in,
    }
    return {"hash": files.digest(comparable), "comparable": comparable, "environment": environment}
