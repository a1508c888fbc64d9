"""data/processed -> data/reference: the extractors' weights, and the real images' features."""

import torch

from ddpm.base.paths import PROCESSED, REFERENCE
from ddpm.data.processed import read_manifest
from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.limits import check_classes, check_counts
from ddpm.scoring.reference import make_reference


def main(settings: Evaluate, device: torch.device) -> None:
    manifest = read_manifest(PROCESSED)
    resolved = settings.resolve(len(manifest.classes), manifest.channels)
    count = len(manifest.classes) if len(manifest.classes) > 1 else "no"
    print(f"evaluate.extractors: {', '.join(resolved.extractors)}, for images of {count} classes")
    # this is the first stage that can check them: evaluate would find out after hours of training
    check_classes(resolved, len(manifest.classes), manifest.dataset)
    check_counts(resolved, {"the train split": manifest.counts["train"]})
    make_reference(settings, PROCESSED, REFERENCE, device)
