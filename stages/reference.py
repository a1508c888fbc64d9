"""data/processed -> data/reference: the extractors' weights, the real images' features, and what real images score."""

from __future__ import annotations

from ddpm.base.files import write_json
from ddpm.base.paths import PROCESSED, REFERENCE
from ddpm.compute import devices
from ddpm.params.config import Config
from ddpm.params.inputs import Start
from ddpm.scoring import calibration
from ddpm.scoring.reference import make_reference
from stages import run


def main(config: Config, start: Start) -> None:
    device = devices.resolve(config.device)
    make_reference(config.evaluate, PROCESSED, REFERENCE, device)
    found = calibration.calibrate(config.evaluate, PROCESSED, REFERENCE, device)
    write_json(REFERENCE / calibration.FILE, found)
    for extractor, about in found.items():
        for metric, value in about["floor"].items():
            print(f"real test split, {extractor}.{metric}: {value:.6g}")


if __name__ == "__main__":
    run("reference", main)
