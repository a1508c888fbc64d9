"""Published weights: downloaded once into torch.hub's cache, and checked by their sha256 before they are read."""

import http.client
from dataclasses import dataclass
from pathlib import Path

from ddpm.base import files
from ddpm.base.errors import UserError
from ddpm.base.tensor import Tensor


@dataclass(frozen=True)
class PublishedWeights:
    """A file of weights that others published.

    title: whose weights they are, for messages. file: its name in the cache; by default the last part of ``url``.
    """

    title: str
    url: str
    sha256: str
    file: str = ""

    @property
    def cached(self) -> Path:
        """Where torch.hub keeps the file, and where it can be put by hand."""
        import torch

        return Path(torch.hub.get_dir()) / "checkpoints" / (self.file or self.url.rpartition("/")[2])

    @property
    def intact(self) -> bool:
        """Whether the cached file is the published one."""
        return files.sha256(self.cached) == self.sha256

    def read(self, extractor: str) -> dict[str, Tensor]:
        """The published tensors by name, on the CPU. Downloads them first if the cache has no such file.

        extractor: its name, for messages. Raises UserError when they cannot be downloaded or are not the published
        bytes.
        """
        import torch

        source = self.cached
        if not source.exists():
            source.parent.mkdir(parents=True, exist_ok=True)
            try:
                torch.hub.download_url_to_file(self.url, str(source), self.sha256)
            except (OSError, RuntimeError, http.client.HTTPException) as error:
                raise UserError(
                    f"evaluate.extractors: {extractor} needs {self.url} ({error}): put that file at {source}, "
                    "or choose auto, which needs no download"
                ) from error
        if not self.intact:
            raise UserError(
                f"{source}: sha256 {files.sha256(source)} is not that of the published {self.title} weights, "
                f"{self.sha256}: remove the file and run `dvc repro`, or put {self.url} there"
            )
        state: dict[str, Tensor] = torch.load(source, map_location="cpu", weights_only=True)
        return state
