"""data/processed -> data/reference: the extractors' weights, the real images' features, and what real images score."""

from __future__ import annotations

import torch

from ddpm.base.files import write_json
from ddpm.base.paths import PROCESSED, REFERENCE
from ddpm.scoring import calibration
from ddpm.scoring.reference import make_reference
from ddpm.scoring.settings import Evaluate


def main(settings: Evaluate, device: torch.device) -> None:
    make_reference(settings, PROCESSED, REFERENCE, device)
    found = calibration.calibrate(settings, PROCESSED, REFERENCE, device)
    write_json(REFERENCE / calibration.FILE, found)
    for extractor, about in found.items():
        for metric, value in about["floor"].items():
            print(f"real test split, {extractor}.{metric}: {value:.6g}")
