"""A small convolutional classifier of the dataset's own classes, fitted on its train split.

It needs no download, and its features are learned from the data itself, where Inception's are learned from photographs.
The weights in ``weights/`` ship with the package and are used only for the exact train split they were fitted on, so
that every machine scores that dataset with the same weights. For any other data they are fitted in the reference stage,
which gives the same bytes for any number of threads, but only on the same type of device. Shipped weights are made by::

    python -m ddpm.variants.extractors.classifier data/processed ddpm/variants/extractors/weights/digits16.safetensors
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PositiveFloat
from safetensors import safe_open

from ddpm.base.errors import UserError, exit_code
from ddpm.base.files import atomic_path
from ddpm.base.sections import Positive, Shape
from ddpm.base.tensor import Device, Module
from ddpm.data.processed import open_split, read_manifest
from ddpm.scoring.extractor import Extractor

SHIPPED = Path(__file__).parent / "weights"
COMMAND = "python -m ddpm.variants.extractors.classifier data/processed FILE"
METADATA = "ddpm_classifier"


class Classifier(Extractor):
    """Fitted with AdamW and a one-cycle rate for ``epochs``, but at least ``min_steps``.

    Images of three channels are taken for photographs: they are mirrored and moved by up to a tenth of their smaller
    side, and their labels are smoothed, because otherwise a few thousand of them are known by heart (docs/extractors.md
    has what each step brings). Others are moved by a pixel. The seed is the extractor's own, not the experiment's: runs
    with different seeds must be scored by the same features.
    """

    dimensions = 64
    knows_classes = True
    epochs: Positive = 10
    min_steps: Positive = 1500
    batch_size: Annotated[int, Field(ge=2)] = 64
    learning_rate: PositiveFloat = 3e-3
    seed: int = 0

    def write_weights(self, processed: Path, path: Path, device: Device) -> None:
        """Copy the weights that ship for exactly this train split, or else fit new ones, to two classes or more
        (``limits.check_classes``)."""
        train = read_manifest(processed).sha256["train"]
        for shipped in SHIPPED.glob("*.safetensors"):
            if read_metadata(shipped)["train_sha256"] == train:
                shutil.copyfile(shipped, path)
                return
        self.fit(processed, path, device)

    def load(self, weights: Path) -> Module:
        from safetensors.torch import load_file

        from ddpm.scoring.networks.classifier_network import ClassifierNetwork

        about = read_metadata(weights)
        network = ClassifierNetwork(Shape.of(about["channels"], about["image_size"]), about["classes"])
        network.load_state_dict(load_file(weights))
        return network.eval()

    def fit(self, processed: Path, path: Path, device: Device) -> None:
        """Fit on the train split and write the weights; the metadata says how and from what they were made."""
        from safetensors.torch import save_file

        from ddpm.scoring.networks.classifier_network import fit

        manifest = read_manifest(processed)
        classes = len(manifest.classes)
        images, labels = open_split(processed, "train")
        state = fit(images, labels, classes, device, self)
        about = {
            "command": COMMAND,
            "recipe": {field: getattr(self, field) for field in type(self).model_fields},
            "dataset": manifest.dataset,
            "train_sha256": manifest.sha256["train"],
            "image_size": manifest.shape.image_size,
            "channels": manifest.channels,
            "classes": classes,
        }
        with atomic_path(path) as temporary:
            # one key, because safetensors writes several in a random order
            save_file(state, temporary, metadata={METADATA: json.dumps(about, sort_keys=True)})


def read_metadata(weights: Path) -> dict[str, Any]:
    """The metadata that ``Classifier.fit`` wrote."""
    with safe_open(weights, "np") as file:
        about: dict[str, Any] = json.loads(file.metadata()[METADATA])
    return about


def _main() -> None:
    from torch import device

    if len(sys.argv) != 3:
        raise UserError(COMMAND)
    Classifier().fit(Path(sys.argv[1]), Path(sys.argv[2]), device("cpu"))


if __name__ == "__main__":
    sys.exit(exit_code(_main))
