"""Any folder or archive of images."""

import os
from pathlib import PurePosixPath

from ddpm.sources.dataset import CLASSLESS
from ddpm.sources.photos import HELD_OUT, Photos


class ImageFolder(Photos):
    """The folders at the top level are the classes; images may be at any depth below them.

    Images outside any folder have the class "images". If the top level is train/ and one or more of test/, val/, valid/
    and validation/, that is the split: all but train/ are held out, and the classes are one level below.
    """

    def arrange(self, names: list[str]) -> tuple[dict[str, str], set[str] | None]:
        parents = {name: PurePosixPath(name).parent for name in names}
        root = os.path.commonpath(parents.values())
        folders = {name: parent.relative_to(root).parts for name, parent in parents.items()}
        tops = {parts[0] if parts else "" for parts in folders.values()}
        split = "train" in tops and len(tops) > 1 and tops <= {"train", *HELD_OUT}
        classes = {name: (*parts[split:], CLASSLESS)[0] for name, parts in folders.items()}
        return classes, {name for name, parts in folders.items() if parts[0] != "train"} if split else None
