"""params.yaml from somebody else."""

from functools import partial
from pathlib import Path

from ruamel.yaml import YAML

from ddpm.model import build
from ddpm.params import config
from tests.hostile.case import Case
from tests.small import PARAMS

PATH = Path("params.yaml")


def _bomb(width: int, depth: int, item: bytes = b"[%s]") -> bytes:
    """Lines that each have nine aliases of the line before."""
    lines = [b"a0: &a0 {x: 1, y: 2}"]
    for level in range(1, depth):
        aliases = b", ".join([b"*a%d" % (level - 1)] * width)
        lines.append(b"a%d: &a%d " % (level, level) + item % aliases)
    return b"\n".join(lines)


TEXTS: list[tuple[str, bytes, str]] = [
    ("nine aliases of nine aliases, ten levels deep", _bomb(9, 10), "aliases (*) of aliases"),
    ("6,000 keys", b"\n".join(b"k%d: 1" % i for i in range(6000)), "stands for more than 10,000 values"),
    ("10 MB", b"seed: 0 #" + b"-" * 10_000_000, "larger than 100,000 bytes"),
    ("a number of 6,000 digits", b"seed: " + b"9" * 6000, "not valid YAML: Exceeds the limit"),
    ("5,000 brackets", b"seed: " + b"[" * 5000, "maximum recursion depth"),
    ("a call of a function", b"seed: !!python/object/apply:os.system ['touch pwned']", "could not determine a"),
    ("NUL", b"seed: 0\0", "unacceptable character #x0000"),
    ("Latin-1", "seed: ä".encode("latin-1"), "cannot be read as UTF-8 text"),
    ("a terminal's escape codes", b'seed: "\\e[2J\\a"', "seed: '\\x1b[2J\\x07' is not"),
    ("a key of 90,000 letters", b"? " + b"x" * 90_000 + b"\n: 1", "seed: missing"),
]


def _one_step(**chosen: dict) -> dict:
    return {"diffusion": {"T": 1, **chosen}, "sample": {"steps": 1}}


def _unet(**shape) -> dict:
    return {"model": {"name": "unet", "unet": {"groups": 1, "attention_sizes": [], **shape}}}


def _guided(**guidance) -> dict:
    return {"sample": {"guidance": guidance}}


def _undropped() -> dict:
    return {**_guided(weight=2.0), "model": {"classes": 3}, "train": {"label_dropout": 0.0}}


def _optimizer(name: str, fields=None, **train) -> dict:
    return {"train": {"optimizer": {"name": name, name: fields}, **train}}


def _by_losses(loss: str) -> dict:
    return {"train": {"timestep_sampler": {"name": "loss_second_moment"}}, "diffusion": {"loss": {"name": loss}}}


def _posthoc(ema_length: float | None = None, **posthoc) -> dict:
    return {"train": {"posthoc": posthoc}, "sample": {"ema_length": ema_length}}


SILENT = {"name": "linear", "linear": {"zero_terminal_snr": True}}
VALUES = [
    ("a variant named as a path", {"data": {"dataset": {"name": "../../etc/passwd"}}}, "unknown '../../etc/passwd'"),
    ("10^18 steps of noise", {"diffusion": {"T": 10**18}}, "diffusion.T: 1000000000000000000 is not allowed"),
    ("a network wider than memory", _unet(base_channels=200_000), "its weights take"),
    ("a billion blocks", _unet(blocks=10**9), "model.unet.blocks: 1000000000 is not allowed"),
    ("an odd image for a network that halves it", {"data": {"image_size": 15}}, "must be a multiple of 2"),
    ("a million channels", {"data": {"channels": 10**6}}, "data.channels: 1000000 is not allowed"),
    ("one step of noise, and that without signal", _one_step(schedule=SILENT), "needs a chain of at least 2 steps"),
    ("a derivative along one step of noise", _one_step(loss={"name": "mean_flow"}), "T: 1 makes a single step"),
    ("a class of a model that knows none", {"sample": {"classes": [3]}}, "sample.classes: the model has none"),
    ("a class that does not exist", {"model": {"classes": 3}, "sample": {"classes": [3]}}, "no class 3; allowed: 0..2"),
    ("guidance of a model that knows no classes", _guided(weight=2.0), "guidance.weight: 2 needs a model with classes"),
    ("guidance away from what is never trained", _undropped(), "which train.label_dropout: 0 does not train"),
    ("a snapshot beyond the end", {"train": {"snapshots": [16, 960]}}, "snapshots: 960 is beyond the end at 96 images"),
    ("a snapshot in the middle of a decay", {"train": {"snapshots": [16], "lr_decay": "cosine"}}, "snapshots need"),
    ("two averages of the weights", _optimizer("schedule_free"), "schedule_free averages already; allowed: off"),
    ("t by losses below 0", _by_losses("mean_flow"), "losses of mean_flow may be negative; allowed: logit_normal"),
    ("averages from long to short", _posthoc(lengths=[0.1, 0.05]), "must be at least 1.25 times the first"),
    ("an average that was never kept", {"sample": {"ema_length": 0.05}}, "needs the snapshots of train.posthoc"),
    ("an average out of the snapshots' range", _posthoc(0.25), "sample.ema_length: an average of length 0.25 cannot"),
    ("a metric named as a path", {"evaluate": {"metrics": ["../fid"]}}, "unknown '../fid'"),
]


def write(changes: dict) -> None:
    value = {key: {**found, **changes.get(key, {})} if isinstance(found, dict) else found
             for key, found in PARAMS.items()}  # fmt: skip
    with PATH.open("w") as file:
        YAML().dump(value, file)


def check() -> None:
    """As ``ddpm check`` does."""
    build.network(config.load(PATH).training())


CASES = [Case("params.yaml", name, partial(PATH.write_bytes, text), partial(config.load, PATH), line)
         for name, text, line in TEXTS]  # fmt: skip
CASES += [Case("params.yaml", name, partial(write, changes), check, line) for name, changes, line in VALUES]
