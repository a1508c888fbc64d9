"""Which other models' scores an evaluation's may be compared with."""

import os
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch

from ddpm.compute import devices
from ddpm.sampling.sample_params import Sample
from ddpm.scoring import distances, frechet, metric
from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.metric import ISC_SPLITS, RNG_SEED
from ddpm.scoring.reference import WEIGHTS, Reference


def comparable(
    index: Reference, evaluate: Evaluate, sample: Sample, drawn: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What two models must share for their scores to be compared, the same on every machine.

    drawn: metrics/sample.json; None for another program's images. A model's samples score differently in bfloat16 and
    in float32, so the precision that ``auto`` stood for is part of the sampling.
    """
    # of sets that are compared in part
    images = index.manifest
    part = {"part": distances.MOST} if max(images.counts["train"], sample.count) > distances.MOST else {}
    sampling = None
    if drawn:
        keys = {"sampler", "steps", "spacing", "clip_denoised", "classes", "guidance", "ema_length"}
        sampling = sample.model_dump(mode="json", include=keys, serialize_as_any=True)
        sampling |= {"contrast": sample.contrast} if sample.contrast else {}  # newer than stored fingerprints
        sampling |= {"evaluations": drawn["evaluations_per_image"], "precision": drawn["precision"]}
    measures = {"metrics", "kid_subsets", "kid_subset_size", "prc_neighborhood", "likelihood"}
    return {
        "images": {
            "sha256": images.sha256["train"],
            "held_out": images.sha256["test"],
            "count": images.counts["train"],
            "channels": images.channels,
            "size": images.shape.image_size,
        },
        "extractors": {name: index.extractors[name][WEIGHTS] for name in evaluate.extractors},
        "sets": len(sample.seeds),
        "samples": sample.count,
        "sampling": sampling,
        "metrics": {
            **evaluate.model_dump(mode="json", include=measures),
            "isc_splits": ISC_SPLITS,
            "rng_seed": RNG_SEED,
            "fd_parts": frechet.PARTS,
            **part,
            **(evaluate.model_dump(mode="json", include={"c2st"}) if metric.of_images(evaluate) else {}),
        },
        "torch_fidelity": version("torch-fidelity"),
    }


def environment(device: torch.device, trained_in: str) -> dict[str, Any]:
    """The processor and libraries, as far as rounding depends on them, which are recorded and not compared. trained_in:
    the precision of the training."""
    return {
        "torch": torch.__version__,
        "ranks": int(os.environ.get("WORLD_SIZE", "1")),
        "threads": torch.get_num_threads(),
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "processor": devices.processor(device),
        "training_precision": trained_in,
    }
