"""Fetching what ``data.source`` names."""

import http.client
import os
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import SplitResult, urlsplit

from ddpm.base import progress
from ddpm.base.errors import UserError
from ddpm.base.variant import quote
from ddpm.sources.archives import is_archive
from ddpm.sources.dataset import Dataset

ADDRESSES = ("http://", "https://")  # anything else is a path
TIMEOUT_S = 30
MAX_DOWNLOAD_BYTES = 200 * 2**30
CHUNK = 2**20
# a server that trickles bytes never hits the socket timeout
PATIENCE_S = 120
MIN_BYTES_PER_S = 1000


def check_source(dataset: Dataset, source: str | None) -> None:
    """Raises UserError if there is no place to fetch the images from, if there can be none, or if its address holds a
    secret, which DVC would record."""
    where = dataset.address if source is None else source
    if dataset.packaged:
        if source is not None:
            raise UserError(
                f"data.source: {quote(source)} is not allowed: {dataset.name} come with a package; for your own images "
                "set data.dataset.name: image_folder, otherwise data.source: null"
            )
    elif where and where.startswith(ADDRESSES):
        _parts(where)
    else:
        locate(where, None, (), Path())


def locate(source: str | None, address: str | None, files: tuple[str, ...], folder: Path) -> Path:
    """The folder or archive that ``source`` names; if that is None, the public ``address``.

    If ``address`` is an archive, a mirror or a folder that was filled by hand should hold an archive of that name,
    which is returned; otherwise it should hold ``files``. A relative path is relative to the repository root, also in
    DVC's temporary copies of it. Downloads go into a folder next to ``folder``. Raises UserError when there is nothing
    there.
    """
    if address and is_archive(address):
        files = (PurePosixPath(address).name,)
    source = address if source is None else source
    if source is None:
        raise UserError("data.source: null is not allowed here; name a folder or an archive of images")
    if source.startswith(ADDRESSES):
        path = folder.with_name(f"{folder.name}_fetched")
        path.mkdir()
        files = _mirror(source, files, path)
    else:
        path = Path(os.environ.get("DVC_ROOT", "."), os.path.expanduser(source))  # noqa: PTH111 (keeps an unknown ~user)
    if not os.path.exists(path):  # noqa: PTH110 (returns False for names that are too long or odd)
        allowed = "a folder, an archive, an http(s) address, or null"
        raise UserError(f"data.source: no such file or folder {quote(source)}; allowed: {allowed}")
    known = [path / name for name in files if is_archive(name) and (path / name).is_file()]
    return known[0] if known else path


def _parts(source: str) -> SplitResult:
    """The parts of an address. Raises UserError if it is not valid, or may hold a secret."""
    try:
        parts = urlsplit(source)
    except ValueError as error:
        raise UserError(f"data.source: {source!r} is not a valid address ({error})") from error
    if "@" in source or parts.query:  # urllib would not use a password anyway
        what = "an @, which may follow a password" if "@" in source else "a query, which may be a token"
        raise UserError(f"data.source: {source} contains {what}: fetch it by hand, and name its folder or archive")
    return parts


def _mirror(source: str, files: tuple[str, ...], scratch: Path) -> tuple[str, ...]:
    path = PurePosixPath(_parts(source).path)
    places = {name: f"{source.rstrip('/')}/{name}" for name in files}
    if is_archive(path.name):
        places = {path.name: source}
    if not places:
        raise UserError(f"data.source: {source!r} must be the address of an archive (.zip, .tar, .tar.gz, .tgz)")
    for name, address in places.items():
        download(address, scratch / name)
    return tuple(places)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects only to https, or from http to http: urllib would also follow them to ftp."""

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
        if urlsplit(newurl).scheme not in {"https", req.type}:
            raise OSError(f"it redirects to {newurl}, which is not allowed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(url: str, path: Path) -> None:
    """Fetch an http(s) address. Raises UserError when it cannot be reached, ends early, or is too large or too slow."""
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "ddpm"})  # noqa: S310 - locate allows http(s)
        started = time.monotonic()
        opener = urllib.request.build_opener(_Redirects)
        with opener.open(request, timeout=TIMEOUT_S) as response, path.open("wb") as out:
            received = 0
            with progress.bar(response.length, path.name, "B") as bar:
                while chunk := response.read1(CHUNK):
                    received += out.write(chunk)
                    bar.update(len(chunk))
                    if received > MAX_DOWNLOAD_BYTES:
                        raise UserError(f"{url}: larger than {MAX_DOWNLOAD_BYTES:,} bytes; fetch it by hand")
                    seconds = time.monotonic() - started
                    if seconds > PATIENCE_S and received < MIN_BYTES_PER_S * seconds:
                        raise OSError(f"{received:,} bytes in {seconds:.0f} s")
            if response.length:  # what is still to come
                raise OSError(f"connection ended {response.length:,} bytes early")
    except (OSError, http.client.HTTPException, ValueError) as error:
        remedy = f"fetch it by hand, put {path.name} into a folder such as downloads/, and set data.source: downloads"
        raise UserError(f"{url}: cannot be fetched ({error}); {remedy}") from error


def verify(path: Path, digest: Callable[[Path], str], published: str) -> None:
    """Raises UserError unless the file exists and has the published checksum. digest: ``files.md5`` or ``sha256``."""
    try:
        actual = digest(path)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; run `dvc repro download`") from error
    if actual != published:
        found = f"{digest.__name__} {actual} instead of {published}"
        raise UserError(f"{path.name}: wrong checksum, {found}: damaged, or not the published file; fetch it again")
