"""The current model's error next to the smallest possible one, by noise level, and what that says."""

from __future__ import annotations

import numpy as np

from ddpm.compare import excess
from ddpm.compare.excess import LOG_SNR, Levels
from ddpm.compare.revisions import Revision
from ddpm.compare.snapshots import WORKSPACE
from ddpm.pages.parts import Note, Part, figure
from ddpm.pictures.plots import Panel

UNIT = "squared error of epsilon"
TINY = 1e-12  # against a division by 0
GOAL = (
    "The optimum on train images is that of a denoiser that knows them by heart, so reaching it at low noise is "
    "memorisation, and no goal. The least error that is possible on new images lies between the optimum's on train "
    "images and the optimum's on held-out images."
)


def convergence() -> list[Part]:
    """Raises UserError if the errors are not there."""
    levels = Levels.read(Revision(WORKSPACE, WORKSPACE))
    return [*map(Note, excess.diagnose(levels).sentences()), *_figures(levels)]


def _figures(levels: Levels) -> list[Part]:
    sides = {"train": levels.train, "held-out": levels.test}
    x = levels.log_snr
    errors = {f"model, {name}": np.stack([x, side.error], 1) for name, side in sides.items()}
    errors |= {f"optimum, {name}": np.stack([x, side.optimum], 1) for name, side in sides.items()}
    lowest = min(side.error.min() for side in sides.values())
    shown = {name: curve[curve[:, 1] > lowest / 10] for name, curve in errors.items()}
    # at less noise the optimum is so far off on held-out images that it would hide all else
    seen = levels.test.excess > -levels.test.error / 2
    above = {
        name: np.stack([x, *(np.array((side.excess, 2 * side.excess_se)) * 100 / np.maximum(side.error, TINY))], 1)[
            seen
        ]
        for name, side in sides.items()
    }
    return [
        figure(Panel("error and optimum", LOG_SNR, UNIT, shown, log="y"), GOAL),
        figure(
            Panel("excess over the optimum", LOG_SNR, "% of the model's error", above, {"optimum": 0.0}),
            "The model's error minus the optimum's, with two standard errors, as a share of the error; 100% is an "
            "optimum of 0. Above 0 on both: too small a network, or too little training. Above 0 on train and below 0 "
            "on held-out images: the optimum has memorised, and the model has not.",
        ),
    ]
