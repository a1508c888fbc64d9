"""Bytes that are traps, by the file that holds them and what reads it; and files that are whole, to be damaged."""

import gzip
import io
import json
import os
import pickle
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from ddpm.data.data_params import Data
from ddpm.data.preprocessing import preprocess
from ddpm.data.processed import open_split, read_manifest
from ddpm.model import build
from ddpm.model.model_file import FORMAT, METADATA, load_model
from ddpm.params import config
from ddpm.referee import gate
from ddpm.runs import record
from ddpm.sampling.samples import read_samples
from ddpm.sources.cifar import _contents
from ddpm.variants.datasets.image_folder import ImageFolder
from tests.scored import result
from tests.small import CPU, small

END = bytes(2 * tarfile.BLOCKSIZE)
LONG = 3 << 30  # bytes that a header claims
DEEP = b"[" * 100_000


class Attack:
    def __reduce__(self) -> tuple:
        return os.system, ("touch pwned",)


PICKLE = pickle.dumps(Attack())


# archives


def header(name: str = "a/1.png", kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, link
    return info.tobuf(tarfile.GNU_FORMAT)


def pax(**records: str) -> bytes:
    text = b"".join(f"{len(key) + len(value) + 5:02d} {key}={value}\n".encode() for key, value in records.items())
    return header(kind=tarfile.XHDTYPE, size=len(text)) + text.ljust(-(-len(text) // 512) * 512, b"\0")


def zipped(name: str = "a/1.png", content: bytes = b"x", mode: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, content)
    return buffer.getvalue()


def with_lies(*places: tuple[int, bytes]) -> bytes:
    """A zip with bytes of its central directory replaced, at offsets from its start."""
    content = bytearray(zipped())
    for offset, value in places:
        at = content.index(b"PK\1\2") + offset
        content[at : at + len(value)] = value
    return bytes(content)


# pictures


DATA = Data(dataset=ImageFolder(), image_size=8, channels=3, test_fraction=0.5)


def encoded(format: str, mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, format)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """A PNG without pixels, whatever its header says."""
    shape = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + shape + b"".join(chunks) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def floats() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8), np.nan, dtype=np.float32)).save(buffer, "TIFF")
    return buffer.getvalue()


def put(content: bytes, name: str = "1.png") -> None:
    for folder in ("a", "b"):
        path = Path("photos") / folder / name
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    ImageFolder().download("photos", Path("raw"))


# arrays


def batch(**changes: object) -> bytes:
    return pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1], **changes}, protocol=3)


def npy(header: str) -> bytes:
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode()


def shaped(shape: str) -> bytes:
    return npy(f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}")


def processed(images: bytes = b"", **changes) -> None:
    """Write a folder of two 4x4 images as preprocessing leaves it, with these changes."""
    each = {"train": 1, "test": 1}
    manifest = {"dataset": "digits", "classes": ["a"], "image_size": 4, "channels": 1, "counts": each, "skipped": 0,
                "config": "", "sha256": {"train": "1", "test": "2"}}  # fmt: skip
    Path("manifest.json").write_text(json.dumps(manifest | changes))
    Path("train").mkdir(exist_ok=True)
    np.save("train/labels.npy", np.zeros(1, np.int64))
    Path("train/images.npy").write_bytes(images or shaped("(1, 1, 4, 4)") + bytes(16))


# model files


def model(change: Callable[[dict[str, torch.Tensor]], object] = lambda tensors: None, **sections: dict) -> bytes:
    """A model file of the small config, with ``sections`` changed in the stored config."""
    tensors = dict(build.network(small().training()).state_dict())
    change(tensors)
    written = small().training().to_dict()
    written |= {key: {**written[key], **values} for key, values in sections.items()}
    return save(tensors, {METADATA: json.dumps({"format": FORMAT, "config": written, "facts": {}})})


def described(text: str) -> bytes:
    return save({"x": torch.zeros(1)}, {METADATA: text})


def not_a_number(tensors: dict[str, torch.Tensor]) -> None:
    name = next(iter(tensors))
    tensors[name] = tensors[name] * torch.nan


def _unet(**shape) -> dict:
    return {"name": "unet", "unet": {**small().training().to_dict()["model"]["unet"], **shape}}


# records


def stored(**changes: str) -> bytes:
    """A baseline of five runs, fields of each changed, as JSON text."""
    fields = ({**json.loads(result(seed=seed).text())} for seed in range(5))
    runs = ({key: json.dumps(value) for key, value in run.items()} | changes for run in fields)
    entries = ("{" + ", ".join(f'"{key}": {value}' for key, value in run.items()) + "}" for run in runs)
    return f"[{', '.join(entries)}]".encode()


def bomb() -> bytes:
    """Ten lines of YAML that each have nine aliases of the line before."""
    aliases = (b", ".join([b"*a%d" % level] * 9) for level in range(9))
    lines = (b"a%d: &a%d [%s]" % (level, level, those) for level, those in enumerate(aliases, 1))
    return b"\n".join([b"a0: &a0 {x: 1, y: 2}", *lines])


def fetch(source: str) -> None:
    ImageFolder().download(source, Path("raw"))


BATCH, SAMPLES, MODEL, BASELINE = map(Path, ("data_batch_1", "samples.npy", "model.safetensors", "baseline.json"))
UNREADABLE = "not a readable model file of safetensors"
Content = bytes | dict | Callable[[], bytes]
Rows = Iterable[tuple[str, Content, str]]
# what lays a content out; what reads it; and what each content is, with words of the line that refuses it
READERS: list[tuple[Callable[..., object], Callable[[], object], Rows]] = [
    (Path("photos.tar").write_bytes, partial(fetch, "photos.tar"), [
        ("a name with ..", header("../../evil.png") + END, "leads outside the archive"),
        ("an absolute name", header("/tmp/evil.png") + END, "leads outside the archive"),  # noqa: S108
        ("a link", header(kind=tarfile.SYMTYPE, link="/etc/passwd") + END, "is a link or a device"),
        ("an old map of holes", header(kind=tarfile.GNUTYPE_SPARSE, size=5) + END, "a sparse file"),
        ("5,000 headers of headers", pax(path="x") * 5000 + header() + END, "RecursionError"),
        ("a member of -1 bytes", pax(size="-1") + header() + END, "a damaged header"),
        ("no images", header("a/virus.exe") + END, "no images in"),
    ]),
    (Path("photos.tar.gz").write_bytes, partial(fetch, "photos.tar.gz"), [
        ("attributes of 3 GB", lambda: gzip.compress(header(kind=tarfile.XHDTYPE, size=LONG) + bytes(2**24), 1),
         "a header of more"),
        ("10 GB of zeros in 20 KB", lambda: gzip.compress(header(size=10 * 2**30) + bytes(2**22), 1),
         "holds more than"),
    ]),
    (Path("photos.zip").write_bytes, partial(fetch, "photos.zip"), [
        ("a Windows name with ..", zipped("..\\evil.png"), "leads outside the archive"),
        ("a link in a zip", zipped(mode=stat.S_IFLNK | 0o777), "is a link"),
        ("a file that says 4 GB", with_lies((24, b"\xf0\xff\xff\xff")), "holds more"),
        ("a file that says 99 bytes", with_lies((24, b"c")), "broken archive"),
        ("a directory outside the file", with_lies((42, b"\xff\xff\xff\x7f")), "broken"),
        ("a name that claims to be UTF-8", with_lies((8, b"\0\x08"), (46, b"\xff\xfe")), "UnicodeDecodeError"),
        ("an encrypted file", with_lies((8, b"\1\0")), "is encrypted"),
        ("a web page named .zip", b"<!doctype html><h1>Sign in</h1>", "not a zip file"),
    ]),
    (put, lambda: preprocess(DATA, Path("raw"), Path("processed")), [
        ("a PNG that says 50,000 x 50,000", png(50_000, 50_000), "could be decompression bomb"),
        ("a PNG of 95 million pixels", png(10_000, 9_500), "at most 90,000,000 are allowed"),
        ("a PNG with 200 MB of packed text",
         lambda: png(8, 8, chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200 * 2**20), 9))),
         "Decompressed data too large"),
        ("half a JPEG", encoded("JPEG")[:600], "cannot be read"),
        ("text named .png", b"hello", "not an image, or not in a supported format"),
        ("a TIFF of NaN", floats, "floating point without a fixed range"),
        ("a TIFF whose next page is itself", b"II*\0\x08\0\0\0\0\0\x08\0\0\0", "cannot be read"),
    ]),
    (partial(put, name="1\n\x1b[2J.png"), lambda: preprocess(DATA, Path("raw"), Path("processed")), [
        ("a broken file named with a line break and escape codes", b"", "1 \\x1b[2J.png"),
    ]),
    (BATCH.write_bytes, partial(_contents, BATCH), [
        ("a CIFAR batch that runs a command", PICKLE, "asks for posix.system"),
        ("one that makes an array of objects", batch(data=np.array([Attack()])), "asks for"),
        ("one that announces 2^60 bytes", b"\x80\x04\x8e" + struct.pack("<Q", 2**60), "refused, not a CIFAR batch"),
        ("one with a memo of 2^31", b"Nr" + struct.pack("<I", 2**31 - 1) + b".", "refused, not a CIFAR batch"),
    ]),
    (SAMPLES.write_bytes, partial(read_samples, SAMPLES), [
        ("samples that are a pickle", PICKLE, "not an .npy file"),
        ("samples of objects", npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"), "not an .npy file"),
        ("samples of 2^80 bytes", shaped(f"({2**80},)"), "not an .npy file"),
        ("samples of no images", shaped("(0, 1, 4, 4)"), "samples must be uint8"),
        ("samples of floats", shaped("(1, 1, 4, 4)").replace(b"|u1", b"<f2") + bytes(32), "samples must be uint8"),
        ("a header that is code", npy("__import__('os').system('touch pwned')"), "not an .npy file"),
    ]),
    (processed, partial(open_split, Path(), "train"), [
        ("images of 2^80 bytes", shaped(f"({2**80},)"), "not an .npy file"),
    ]),
    (lambda changes: processed(**changes), partial(read_manifest, Path()), [
        ("a manifest without a train split", {"counts": {"test": 1}}, "counts: "),
        ("a manifest of -1 images", {"counts": {"train": -1, "test": 1}}, "counts.train: -1 is not"),
        ("a manifest of a size that is out of range", {"image_size": 10**30}, "image_size: 10"),
    ]),
    (MODEL.write_bytes, partial(load_model, MODEL, CPU), [
        ("a pickle that runs a command", PICKLE, UNREADABLE),
        ("a header of 2^63 bytes", struct.pack("<Q", 2**63) + b"{}", "a header of"),
        ("a config 100,000 deep", partial(described, DEEP.decode()), UNREADABLE),
        ("a file of another format", partial(described, '{"format": "ddpm-0"}'), "file format 'ddpm-0', this version"),
        ("all of params.yaml for a config",
         lambda: described(json.dumps({"format": FORMAT, "config": small().to_dict()})), "device: unknown key"),
        ("a network wider than memory", lambda: model(model=_unet(base_channels=2**20)), "do not fit its own"),
        ("a billion blocks", lambda: model(model=_unet(blocks=10**9)), "s: model.unet.blocks: 1000"),
        ("one weight too few", lambda: model(lambda tensors: tensors.pop("head.weight")), "do not fit its own config"),
        ("a NaN among the weights", lambda: model(not_a_number), "are not finite"),
    ]),
    (lambda nothing: MODEL.mkdir(), partial(load_model, MODEL, CPU), [("a folder", b"", UNREADABLE)]),
    (BASELINE.write_bytes, partial(gate.read, BASELINE), [
        ("a baseline 100,000 brackets deep", DEEP, "Invalid JSON"),
        ("a baseline of one run five times", stored(seed="7", params="{}"), "5 runs; allowed: at least 5, each with"),
        ("a score out of any range", stored(scores='{"classifier.fd": 1e999}'), "is not allowed"),
        ("a metric with escape codes", stored(scores='{"x\\n\\u001b[2J": 1}'), "is not allowed"),
        ("records of another version, with more", stored(format="2", mean="1.0"), "baseline.json: "),
        ("another's fingerprint", stored(fingerprint='{"hash": "0123456789ab", "comparable": {}}'), "digest of"),
    ]),
    (Path("run.json").write_bytes, lambda: record.read_record(Path("run.json")), [
        ("a record that is deep", b"[" * 90_000, "not a run's record"),
        ("a record of 30 MB", bytes(30_000_000), "at most 100,000"),
    ]),
    (Path("params.yaml").write_bytes, config.load, [
        ("nine aliases of nine aliases, ten levels deep", bomb(), "aliases (*) of aliases"),
        ("6,000 keys", b"\n".join(b"k%d: 1" % i for i in range(6000)), "stands for more than 10,000 values"),
        ("10 MB", b"seed: 0 #" + b"-" * 10_000_000, "larger than 100,000 bytes"),
        ("a number of 6,000 digits", b"seed: " + b"9" * 6000, "not valid YAML: Exceeds the limit"),
        ("800 brackets", b"seed: " + b"[" * 800, "maximum recursion depth"),
        ("a call of a function", b"seed: !!python/object/apply:os.system ['touch pwned']", "could not determine a"),
        ("Latin-1", "seed: ä".encode("latin-1"), "cannot be read as UTF-8 text"),
        ("a terminal's escape codes", b'seed: "\\e[2J\\a"', "seed: '\\x1b[2J\\x07' is not"),
        ("a key of 90,000 letters", b"? " + b"x" * 90_000 + b"\n: 1", "seed: missing"),
        ("a blank", b" ", "is empty"), ("a list", b"- a\n- b\n", "list"), ("a word", b"hello", "str"),
        ("a key twice", b"seed: 0\nseed: 1\n", 'line 2: found duplicate key "seed"'),
        ("a key twice in a section", b"data: {a: 1, a: 2}", 'not valid YAML: line 1: found duplicate key "a"'),
        ("two documents", b"seed: 0\n---\nseed: 1\n", "line 2: "), ("a tab", b"seed:\n\t- 1", "line 2: "),
        ("a word said to be a number", b"seed: !!int x", "not valid YAML"),
        ("a list in itself", b"seed: &a [*a]", "a section contains itself"),
        ("a number for a key", b"1: 2", "1 is not allowed as a key"),
        ("one deep inside", b"diffusion: {schedule: {name: cosine, 1: {}}}", "1 is not allowed as a key"),
        ("a mapping for a key", b"{a: 1}: 2", "line 1: found unhashable key"),
    ]),
    (lambda nothing: None, config.load, [("no params.yaml", b"", "params.yaml: no such file")]),
]  # fmt: skip


def lay(write: Callable[..., object], content: Content) -> None:
    write(content() if callable(content) else content)


CASES = {
    name: (partial(lay, write, content), read, line) for write, read, rows in READERS for name, content, line in rows
}
