"""Photos of five flowers: TensorFlow's flower_photos (3,670), or Kaggle's flowers-recognition (4,317)."""

from pathlib import PurePosixPath

from ddpm.base.errors import UserError
from ddpm.sources.photos import Photos

CLASSES = ("daisy", "dandelion", "roses", "sunflowers", "tulips")


class Flowers(Photos):
    """Any folder tree with the five class folders, named in the singular or plural; other folders are ignored."""

    licence = "CC BY 2.0, each photo by its own author"
    address = "http://download.tensorflow.org/example_images/flower_photos.tgz"
    # as TensorFlow Datasets publishes it (url_checksums/tf_flowers.txt); 228,813,984 bytes
    sha256 = "4c54ace7911aaffe13a365c34f650e71dd5bf1be0a58b464e5a7183e3e595d9c"

    def arrange(self, names: list[str]) -> tuple[dict[str, str], None]:
        folders = {form: name for name in CLASSES for form in (name, name.rstrip("s"), name + "s")}
        paths: dict[tuple[str, str], str] = {}
        for name in names:
            path = PurePosixPath(name)
            if flower := folders.get(path.parent.name.lower()):
                # Kaggle's archive once contained the tree twice: a copy of an image must not get into the other split
                paths.setdefault((flower, path.name), name)
        if missing := sorted(set(CLASSES) - {flower for flower, _ in paths}):
            raise UserError(
                f"data.source: no images in a folder {missing[0]!r}; flowers needs the folders "
                f"{', '.join(CLASSES)}; for other images set data.dataset.name: image_folder"
            )
        return {name: flower for (flower, _), name in paths.items()}, None
