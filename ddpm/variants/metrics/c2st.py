"""How often networks fitted afresh tell the samples from real images. Lopez-Paz & Oquab 2017 (arXiv:1610.06545)."""

import numpy as np
from numpy.typing import NDArray

from ddpm.base.images import Images
from ddpm.base.tensor import Device
from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.metric import ImageMetric, Score


class ClassifierTwoSample(ImageMetric):
    """A classifier two-sample test, cross-fitted: each network judges images that it was not fitted to, so samples of
    the data's own distribution have an AUC of 0.5 whatever the number of images. No features are given beforehand, and
    nothing can be fitted to it in advance.

    The AUC is the chance that a real image gets higher odds of being real than a sample. It stops at 1, where
    ``d_prime`` goes on: the gap between the mean log-odds of both, in their standard deviations (for normal log-odds
    the AUC is Phi(d' / sqrt 2)). Both grow with evaluate.c2st's images and steps, which are part of the fingerprint.
    """

    scores = (
        Score("auc", "lower", 0.01, "AUC of a fresh opponent", sees=("blur", "noise")),
        Score("d_prime", "lower", None, "d' of a fresh opponent", of="auc", sees=("blur", "noise")),
    )

    def least(self, evaluate: Evaluate, dimensions: int) -> tuple[int, str]:
        return evaluate.c2st.images, "evaluate.c2st.images, which may be lowered"

    def measure(self, fake: Images, real: Images, evaluate: Evaluate, device: Device) -> dict[str, float]:
        from ddpm.scoring.networks.opponent_network import tell_apart

        judged = tell_apart(fake, real, evaluate.c2st, device)
        gaps = [
            (odds.real.mean() - odds.fake.mean()) / np.sqrt((odds.real.var() + odds.fake.var()) / 2 + 1e-12)
            for odds in judged
        ]
        return {
            "auc": float(np.mean([measure_auc(odds.real, odds.fake) for odds in judged])),
            "d_prime": float(np.mean(gaps)),
        }


def measure_auc(high: NDArray[np.float64], low: NDArray[np.float64]) -> float:
    """The chance that one of ``high``, (N,), is above one of ``low``, (M,); a tie counts half (Mann & Whitney 1947)."""
    order = np.sort(low)
    below = np.searchsorted(order, high, "left") + np.searchsorted(order, high, "right")
    return float(below.mean() / (2 * len(low)))
