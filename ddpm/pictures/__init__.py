"""Image grids, films and plots.

A picture of images with other than 1 or 3 channels shows their first three as RGB, or the first of two as gray.
"""


def visible(channels: int) -> slice:
    """Of an image's channels, those that a picture shows: three or one."""
    return slice(3 if channels >= 3 else 1)
