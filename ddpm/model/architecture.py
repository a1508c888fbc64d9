"""Networks: ``network(x_t, t, labels, condition)`` from noisy images (B, C, H, W) and timesteps (B,) int64 to
(B, outputs, H, W).

labels are (B,) int64 in 0..classes; ``classes`` itself, and None for all, is "no class". A network without classes
ignores them. condition is (B, time_features) float32, added to the features of t, or None: only training has one, for
images that it augments. Networks do not depend on the diffusion.

Contract: a variant's fields are its shape; ``network`` builds it. The module's ``time_features`` says how many features
of t it sees, its ``ends`` which of its parts touch the image: the first layer and the last ones.
"""

from abc import ABC, abstractmethod

from ddpm.base import variant
from ddpm.base.errors import UserError
from ddpm.base.settings import Shape
from ddpm.base.tensor import Module
from ddpm.base.variant import Variant
from ddpm.model.settings import ModelConfig


class Architecture(Variant, ABC):
    """Contract of an architecture."""

    @abstractmethod
    def network(self, image: Shape, outputs: int, classes: int = 0) -> Module:
        """Build the module; with 0 ``classes`` it has no weights for them.

        Raises ValueError naming the field when the shape does not fit the ``image``'s.
        """


def build(config: ModelConfig) -> Module:
    """The network that ``config.model`` chooses, freshly initialised.

    Raises UserError when its shape is impossible, or its weights alone exceed the free memory.
    """
    import psutil
    import torch

    size = torch.float32.itemsize * parameters(config)
    free = psutil.virtual_memory().available
    if size > free:
        raise UserError(
            f"model.{config.model.name}: its weights take {size / 2**30:,.1f} GiB, {free / 2**30:,.1f} are free; "
            "choose a smaller network"
        )
    return _network(config)


def parameters(config: ModelConfig) -> int:
    """How many weights the network has. Raises UserError when its shape is impossible."""
    return sum(parameter.numel() for parameter in outline(config).parameters())


def outline(config: ModelConfig) -> Module:
    """The network without memory for its weights. Raises UserError when its shape is impossible."""
    import torch

    try:
        with torch.device("meta"):
            return _network(config)
    except (OverflowError, RuntimeError, TypeError) as error:
        reason = str(error).partition("\n")[0]  # the rest is torch's own stack
        raise UserError(f"model.{config.model.name}: no tensor has these sizes ({reason}); choose smaller") from error


def _network(config: ModelConfig) -> Module:
    architecture: Architecture = variant.build("networks", config.model.spec(), "model")
    image = config.data.shape
    try:
        return architecture.network(image, image.channels * config.diffusion.variance.outputs, config.model.classes)
    except ValueError as error:
        raise UserError(f"model.{architecture.name}: {error}") from error
