"""What a picture shows of images with any number of channels."""

from __future__ import annotations


def visible(channels: int) -> slice:
    """Of an image's channels, those that a picture shows: the first three as RGB, or of fewer the first as gray."""
    return slice(3 if channels >= 3 else 1)
