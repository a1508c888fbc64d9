"""The end of ``make repro``: what was trained, its scores next to real images', where to look, what to try next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from ddpm.base import variant
from ddpm.base.errors import UserError
from ddpm.base.paths import EVALUATION, METRICS, SAMPLES
from ddpm.base.progress import duration
from ddpm.params.config import Config
from ddpm.report import convergence
from ddpm.runs import library
from ddpm.runs.record import Record
from ddpm.verdicts import metrics

PICTURES = {
    SAMPLES / "grid.png": "",
    SAMPLES / "reverse.mp4": "",
    EVALUATION / "nearest.png": " (samples and the training images nearest to them)",
}
# metric of an extractor -> what a person calls it
NAMES = dict.fromkeys(metrics.HEADLINE, "Fréchet distance") | {
    name: metrics.title(name) for name in (*metrics.SHARES, "class_accuracy")
}
SCHEDULE = "diffusion.schedule.name"


def check_current(run: Record, working: Config) -> None:
    """Raises UserError unless the checked-out params and code made the working folder's record."""
    if why := library.why_stale(run, working.flat()):
        raise UserError(f"{METRICS}/ are not of the params and code that are checked out: {why}; run `dvc repro`")


def lines(run: Record) -> list[str]:
    """The summary's lines. What the record or the disk lacks is left out."""
    pictures = [f"{path}{what}" for path, what in PICTURES.items() if path.exists()]
    other = "linear" if run.params.get(SCHEDULE) != "linear" else "cosine"
    return [
        *results(run),
        f"look     {', '.join(pictures) or 'no pictures are here: `dvc repro` makes them'}",
        "browse   `ddpm report` writes report.html; `make ui` shows all runs on http://127.0.0.1:5000",
        f"next     `dvc exp run -S {SCHEDULE}={other}`, then `ddpm runs`",
    ]


def results(run: Record) -> list[str]:
    """The lines about the model itself."""
    params, costs = run.params, run.costs
    facts = {"parameters": costs.parameters, "steps": params.get("train.steps"), "images seen": costs.images_seen}
    model = [str(params.get("model.name", run.name)), *(f"{n:,} {what}" for what, n in facts.items() if n is not None)]
    size = params.get("data.image_size", "")
    sides = "x".join(map(str, size)) if isinstance(size, list) else f"{size}x{size}"
    images = f"{params['data.dataset.name']} {sides}" if "data.dataset.name" in params else "unknown images"
    took = f" in {duration(costs.seconds['train'])}" if "train" in costs.seconds else ""
    return [
        f"trained  {', '.join(model)} on {images}{took}",
        *_scores(run),
        *_denoising(run),
        *_copies(run),
    ]


def _scores(run: Record) -> Iterator[str]:
    """A line of the samples' scores, and one each of those of the yardsticks and of real images that the model never
    saw. Each begins with its number of images: a Fréchet distance falls as that grows."""
    scores = run.scores
    extractors = [name for name in variant.names("extractors") if any(key.startswith(f"{name}.") for key in scores)]

    def listed(prefix: str = "") -> str:
        shown = []
        for extractor in extractors:
            of = f" by {extractor}" if len(extractors) > 1 else ""
            for name, called in NAMES.items():
                if (key := f"{prefix}{extractor}.{name}") in scores:
                    shown.append(f"{called}{of} {scores[key]:.3g}")
        return ", ".join(shown)

    alone = [f"{scores[name]:.3g} {metrics.title(name)}" for name in metrics.ALONE if name in scores]
    count = run.fingerprint.comparable.get("samples")
    drawn = f"{count:,} samples: " if isinstance(count, int) else ""
    yield f"scores   {drawn}{', '.join(filter(None, [listed(), *alone])) or 'none'}"
    for prefix, what in metrics.OTHERS.items():
        count = next((n for name in extractors if (n := scores.get(f"{prefix}.{name}.count"))), None)
        if count and (shown := listed(f"{prefix}.")):
            yield f"         {count:,.0f} {what if prefix == 'real' else f'draws of {what}'}: {shown}"


def _denoising(run: Record) -> Iterator[str]:
    """Nothing without the errors by noise level."""
    with suppress(UserError):
        yield f"denoises {'; '.join(convergence.diagnose(convergence.errors(run)).sentences())}"


def _copies(run: Record) -> Iterator[str]:
    """Nothing without scores of memorisation. Of several spaces, the one with the clearest sign."""
    if spaces := metrics.closeness(run.scores):
        worst = max(spaces, key=lambda space: space.share - space.limit)
        sign = "of train images" if worst.copies else "no sign of any"
        yield (
            f"copies   {sign}: {worst.share:.0%} of the samples are as near to a train image as the nearest "
            f"{worst.expected:.0%} of test images"
        )
