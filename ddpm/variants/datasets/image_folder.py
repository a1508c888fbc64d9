"""Any folder or archive of images."""

from __future__ import annotations

import os
from pathlib import PurePosixPath

import numpy as np

from ddpm.base.errors import printable
from ddpm.sources.photos import Arrangement, Photos

CLASSLESS = "images"
HELD_OUT = frozenset({"test", "val", "valid", "validation"})


class ImageFolder(Photos):
    """The folders at the top level are the classes; images may be at any depth below them.

    Images outside any folder have the class "images". If the top level is train/ and one or more of test/, val/, valid/
    and validation/, that is the split: all but train/ are held out, and the classes are one level below.
    """

    def arrange(self, names: list[str]) -> Arrangement:
        parents = [PurePosixPath(name).parent.as_posix() for name in names]
        root = PurePosixPath(os.path.commonpath(parents))
        inner = [PurePosixPath(parent).relative_to(root).parts for parent in parents]
        tops = {parts[0] if parts else "" for parts in inner}
        is_test = None
        if "train" in tops and len(tops) > 1 and tops <= {"train", *HELD_OUT}:
            is_test = np.array([parts[0] != "train" for parts in inner])
            inner = [parts[1:] for parts in inner]
        folders = [parts[0] if parts else CLASSLESS for parts in inner]
        classes, labels = np.unique(folders, return_inverse=True)
        shown = tuple(printable(name) or repr(str(name)) for name in classes)
        return Arrangement(names, labels.astype(np.int64), shown, is_test)
