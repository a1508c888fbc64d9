"""Networks: ``network(x_t, t, labels, condition)`` from noisy images (B, C, H, W) and timesteps (B,), int64 or
floating, to (B, outputs, H, W).

labels are (B,) int64 in 0..classes; ``classes`` itself, and None for all, is "no class". A network without classes
ignores them. condition is (B, time_features) float32, added to the features of t, or None: training has one for images
that it augments, and a flow map for where its step ends. Networks do not depend on the diffusion.

Contract: a variant's fields are its shape, and ``network`` builds the module, which is in _NAME.py next to it: fields
are read without torch.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from ddpm.base.sections import Shape
from ddpm.base.variant import Variant

if TYPE_CHECKING:
    from ddpm.model.layers import Backbone
else:
    Backbone = Any  # for annotations: importing torch takes a second

__all__ = ["Architecture", "Backbone"]


class Architecture(Variant, ABC):
    """Contract of an architecture."""

    @abstractmethod
    def network(self, image: Shape, outputs: int, classes: int = 0) -> Backbone:
        """Build the module; with 0 ``classes`` it has no weights for them.

        Raises ValueError naming the field when the shape does not fit the ``image``'s.
        """
