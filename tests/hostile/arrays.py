"""Files of arrays that lie: CIFAR's pickles, .npy, manifests."""

import io
import json
import os
import pickle
import struct
from functools import partial
from pathlib import Path

import numpy as np

from ddpm.data.processed import open_split, read_manifest
from ddpm.sampling.samples import read_samples
from ddpm.sources.cifar import _contents
from tests.hostile.case import Case

BATCH, SAMPLES = Path("data_batch_1"), Path("samples.npy")


class Attack:
    def __reduce__(self) -> tuple:
        return os.system, ("touch pwned",)


def batch(**changes: object) -> bytes:
    return pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1], **changes}, protocol=3)


def npy(header: str) -> bytes:
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode()


def shaped(shape: str) -> bytes:
    return npy(f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}")


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, images=np.zeros(3))
    return buffer.getvalue()


def processed(images: bytes | None = None, **changes) -> None:
    """Write a folder of two 4x4 images as preprocessing leaves it, with these changes."""
    each = {"train": 1, "test": 1}
    manifest = {"dataset": "digits", "classes": ["a"], "image_size": 4, "channels": 1, "counts": each, "skipped": 0,
                "config": "", "sha256": {"train": "1", "test": "2"}}  # fmt: skip
    Path("manifest.json").write_text(json.dumps(manifest | changes))
    Path("train").mkdir()
    np.save("train/images.npy", np.zeros((1, 1, 4, 4), np.uint8))
    np.save("train/labels.npy", np.zeros(1, np.int64))
    if images is not None:
        Path("train/images.npy").write_bytes(images)


BATCHES: list[tuple[str, bytes, str]] = [
    ("a CIFAR batch that runs a command", pickle.dumps(Attack()), "asks for posix.system"),
    ("one that imports", b"cimportlib\nimport_module\n(S'antigravity'\ntR.", "asks for importlib.import_module"),
    ("one that calls a builtin", b"c__builtin__\neval\n(S'1'\ntR.", "asks for __builtin__.eval"),
    ("one that makes an array of objects", batch(data=np.array([Attack()])), "asks for"),
    ("one that announces 2^60 bytes", b"\x80\x04\x8e" + struct.pack("<Q", 2**60), "refused, not a CIFAR batch"),
    ("one with a memo of 2^31 entries", b"Nr" + struct.pack("<I", 2**31 - 1) + b".", "refused, not a CIFAR batch"),
]
NPY: list[tuple[str, bytes, str]] = [
    ("samples that are a pickle", pickle.dumps(Attack()), "not an .npy file"),
    ("samples of objects", npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"), "not an .npy file"),
    ("samples of 2^80 bytes", shaped(f"({2**80},)"), "not an .npy file"),
    ("samples of no images", shaped("(0, 1, 4, 4)"), "samples must be uint8"),
    ("samples of floats", shaped("(1, 1, 4, 4)").replace(b"|u1", b"<f2") + bytes(32), "samples must be uint8"),
    ("a header that is code", npy("__import__('os').system('touch pwned')"), "not an .npy file"),
    ("not an .npy file", npz(), "not an .npy file"),
]
MANIFESTS = [
    ("a manifest without a train split", {"counts": {"test": 1}}, "counts: "),
    ("a manifest of -1 images", {"counts": {"train": -1, "test": 1}}, "counts.train: -1 is not"),
    ("a manifest of a size that is out of range", {"image_size": 10**30}, "image_size: 10"),
]
FOLDERS = [
    ("images that are an archive", {"images": npz()}, "not an .npy file"),
    ("images of 2^80 bytes", {"images": shaped(f"({2**80},)")}, "not an .npy file"),
]
CASES = [Case("array", name, partial(BATCH.write_bytes, content), partial(_contents, BATCH), line)
         for name, content, line in BATCHES]  # fmt: skip
CASES += [Case("array", name, partial(SAMPLES.write_bytes, content), partial(read_samples, SAMPLES), line)
          for name, content, line in NPY]  # fmt: skip
CASES += [Case("array", name, partial(processed, **changes), partial(open_split, Path(), "train"), line)
          for name, changes, line in FOLDERS]  # fmt: skip
CASES += [Case("array", name, partial(processed, **changes), partial(read_manifest, Path()), line)
          for name, changes, line in MANIFESTS]  # fmt: skip
