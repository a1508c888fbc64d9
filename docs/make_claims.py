"""Draw docs/claims-patches.png: how far x0 leads flow, by the network's width over the values of a patch.

``python -m docs.make_claims`` reads the records of the studies; nothing is drawn from memory.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

import numpy as np

from ddpm.pictures import plots
from ddpm.runs import rows
from ddpm.runs.rows import Rows

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
    runs = Rows(Path(f"metrics/studies/{study}") / rows.NAME).records
    flow, x_0 = (
        fmean(run.scores["classifier.fd"] for name, run in runs.items() if re.fullmatch(rf"{study}-{arm}-\d+", name))
        for arm in ("flow", "x0")
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
