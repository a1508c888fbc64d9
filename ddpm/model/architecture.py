"""Networks: ``network(x_t, t, labels, condition)`` from noisy images (B, C, H, W) and timesteps (B,), int64 or
floating, to (B, outputs, H, W).

labels are (B,) int64 in 0..classes; ``classes`` itself, and None for all, is "no class". A network without classes
ignores them. condition is (B, time_features) float32, added to the features of t, or None: training has one for images
that it augments, and a flow map for where its step ends. Networks do not depend on the diffusion.

Contract: a variant's fields are its shape, and ``network`` builds the module, which is in _NAME.py next to it: fields
are read without torch. The module's ``time_features`` says how many features of t it sees, its ``ends`` which of its
parts touch the image: the first layer and the last ones.
"""

from abc import ABC, abstractmethod

from ddpm.base.sections import Shape
from ddpm.base.tensor import Module
from ddpm.base.variant import Variant


class Architecture(Variant, ABC):
    """Contract of an architecture."""

    @abstractmethod
    def network(self, image: Shape, outputs: int, classes: int = 0) -> Module:
        """Build the module; with 0 ``classes`` it has no weights for them.

        Raises ValueError naming the field when the shape does not fit the ``image``'s.
        """
