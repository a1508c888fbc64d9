"""What `ddpm check` looks at besides params.yaml: this clone of git and DVC, and where the images come from."""

import os
import stat
from pathlib import Path
from typing import NamedTuple

from ddpm.base.errors import UserError, plural
from ddpm.base.machine import SITE_CACHE, close_site_cache
from ddpm.base.paths import PROCESSED, RAW
from ddpm.data.data_params import Data
from ddpm.data.processed import read_manifest
from ddpm.params import credit, file
from ddpm.params.config import Config
from ddpm.params.inputs import on_record
from ddpm.sources import fetch
from ddpm.sources.photos import Photos


class Found(NamedTuple):
    """What ``data.source`` has: images to train on, their classes, and a line for people. Empty if nobody looked."""

    train: int | None = None
    classes: int | None = None
    line: str = ""


def find_images(config: Config) -> Found:
    """What there is to train on: what ``look`` sees or, if dvc.lock says that preprocess has made its images of those
    that params.yaml names, these. Raises UserError as ``look`` does."""
    here = RAW.exists() and on_record("download", file.read_params())
    if not (here and credit.is_made(config, "preprocess")):
        return look(config.data)
    manifest = read_manifest(PROCESSED)
    return Found(manifest.counts["train"], len(manifest.classes))


def look(data: Data) -> Found:
    """What there is in ``data.source``; empty unless it is a folder or archive of pictures on this machine. Raises
    UserError if it leads nowhere or cannot be read."""
    source = data.source
    fetch.check_source(data.dataset, source)
    if source is None or source.startswith(fetch.ADDRESSES) or not isinstance(data.dataset, Photos):
        return Found()
    images, classes, held_out, others = data.dataset.look(fetch.locate(source, None, (), Path()))
    train = images - (round(images * data.test_fraction) if held_out is None else held_out)
    line = f"{source}: {plural(images, 'image')} of {plural(classes, 'class', 'classes')}, {train:,} to train on"
    return Found(train, classes, "; ".join(filter(None, [line, others])))


def check_dvc() -> None:
    """Raises UserError unless the working folder is in a git and DVC repository with files that DVC can read, and
    nobody else can change its pickles."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.scm import SCMError

    try:
        with Repo() as repo:
            _ = repo.index.stages
            cache = Path(repo.site_cache_dir)
    except (DvcException, SCMError) as error:  # a kill may leave half of dvc.lock, which DVC writes in place
        raise UserError(f"{str(error).rstrip('.')}; run in the clone, or see docs/troubleshooting.md") from error
    close_site_cache()
    if place := _open_to_others(cache):
        raise UserError(
            f"{place}: other users of this machine may write here, and DVC runs the pickles in {cache}: "
            f"delete that, unset DVC_SITE_CACHE_DIR, and run `dvc config core.site_cache_dir {SITE_CACHE}`"
        )


def _open_to_others(folder: Path) -> Path | None:
    """The folder, or one that it is in, where everybody on this machine may replace what lies there, or somebody else's
    in the folder; None if there is none."""
    for part in (*reversed(folder.parents), folder):
        mode = part.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            return part
        if not mode & (stat.S_IXGRP | stat.S_IXOTH):  # nobody else gets to what is below
            break
    inside = (folder.parent, folder, *folder.rglob("*"))
    return next((path for path in inside if path.stat().st_uid not in (0, os.getuid())), None)
