"""Draw docs/claims-patches.png: how far x0 leads flow, by the network's width over the values of a patch.

``python -m docs.make_claims`` reads the records of the studies; nothing is drawn from memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

import numpy as np

from ddpm.pictures import plots
from ddpm.runs import record

PICTURE = Path(__file__).parent / "claims-patches.png"
# of each curve: study -> channels of the network for each value of a patch
STUDIES: Mapping[str, Mapping[str, float]] = {
    "digits, UNet of 16 channels, patches of 64 to 4": {
        "claims_patch_8": 0.25,
        "claims_patch_4": 1,
        "claims_patch_2": 4,
    },
    "digits, UNet of 16 to 64, patches of 4": {"size_digits_16": 4, "size_digits_32": 8, "size_digits_64": 16},
    "MNIST, DiT of 32 and 128, patches of 64": {"claims_patch_dit_32": 0.5, "claims_patch_dit_128": 2},
    "MNIST, UNet of 16 to 64, patches of 4": {"size_mnist_16": 4, "size_mnist_32": 8, "size_mnist_64": 16},
}


def measure_lead(study: str) -> float:
    """Flow's mean Fréchet distance over x0's."""
    flow, x_0 = (
        fmean(record.read_record(path).scores["classifier.fd"] for path in paths)
        for paths in (
            sorted(Path(f"metrics/studies/{study}/runs").glob(f"{arm}-[0-9]*.json")) for arm in ("flow", "x0")
        )
    )
    return flow / x_0


def main() -> None:
    curves = {
        name: np.array([(ratio, measure_lead(study)) for study, ratio in studies.items()])
        for name, studies in STUDIES.items()
    }
    axes = "channels / values of a patch", "flow's distance / x0's"
    plots.lines(PICTURE, [plots.Panel("", *axes, curves, {"equal": 1.0}, log="xy")])


if __name__ == "__main__":
    main()
