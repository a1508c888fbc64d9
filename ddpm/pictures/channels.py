"""What a picture shows of images with any number of channels."""


def visible(channels: int) -> slice:
    """The channels that a picture shows: the first three as RGB, or the first as gray if there are fewer."""
    return slice(3 if channels >= 3 else 1)
