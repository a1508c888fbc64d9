"""The end of ``make repro``: what was trained, its scores next to real images', where to look, what to try next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from ddpm.base import variant
from ddpm.base.errors import UserError
from ddpm.base.files import flatten
from ddpm.base.paths import EVALUATION, SAMPLES
from ddpm.base.progress import duration
from ddpm.compare import excess, metrics
from ddpm.compare.revisions import Revision
from ddpm.params.config import Config
from ddpm.runs.library import WORKSPACE

PICTURES = {
    SAMPLES / "grid.png": "",
    SAMPLES / "reverse.mp4": "",
    EVALUATION / "nearest.png": " (samples and the training images nearest to them)",
}
# metric of an extractor -> what a person calls it
NAMES = dict.fromkeys(metrics.HEADLINE, "Fréchet distance") | {
    name: metrics.title(name) for name in (*metrics.SHARES, "class_accuracy")
}
NEXT = ("linear", "cosine")  # the schedule to try: the first that was not used


def lines(settings: Config, measured: Mapping[str, Any]) -> list[str]:
    """The summary's lines. measured: the content of metrics/ by stage. What is missing there or on disk is left out."""
    pictures = [f"{path}{what}" for path, what in PICTURES.items() if path.exists()]
    other = next(name for name in NEXT if name != settings.diffusion.schedule.name)
    return [
        *results(settings, measured),
        f"look     {', '.join(pictures) or 'no pictures are here: `dvc repro` makes them'}",
        "browse   `ddpm report` writes report.html; `make ui` shows all runs on http://127.0.0.1:5000",
        f"next     `dvc exp run -S diffusion.schedule.name={other}`, then `ddpm runs`",
    ]


def results(settings: Config, measured: Mapping[str, Any]) -> list[str]:
    """The lines about the model itself."""
    data, train = settings.data, measured["train"]
    facts = [f"{train[name]:,} {name}" for name in ("parameters", "steps") if name in train]
    took = f" in {duration(train['seconds'])}" if "seconds" in train else ""
    return [
        f"trained  {', '.join([settings.model.name, *facts])} on {data.dataset.name} {data.shape.sides}{took}",
        *_scores(measured),
        *_denoising(),
        *_copies(measured["evaluate"]),
    ]


def _denoising() -> Iterator[str]:
    """Nothing without the errors by noise level."""
    with suppress(UserError):
        yield f"denoises {excess.diagnose(excess.Levels.read(Revision(WORKSPACE, WORKSPACE))).words()}"


def _copies(scores: Mapping[str, Any]) -> Iterator[str]:
    """Nothing without scores of memorisation. Of several spaces, the one with the clearest sign."""
    if found := metrics.closeness(flatten(scores)):
        worst = max(found, key=lambda each: each.share - each.limit)
        sign = "of train images" if worst.copies else "no sign of any"
        yield (
            f"copies   {sign}: {worst.share:.0%} of the samples are as near to a train image as the nearest "
            f"{worst.expected:.0%} of test images"
        )


def numbers(measured: Mapping[str, Any]) -> Iterator[str]:
    """Every number, one per line."""
    for stage, values in measured.items():
        for name, value in flatten(values).items():
            yield f"{stage:9} {name:24} {f'{value:.4f}' if isinstance(value, float) else value}"


def _scores(measured: Mapping[str, Any]) -> Iterator[str]:
    """A line of the samples' scores, and one each of those of the yardsticks and of real images that the model never
    saw. Each begins with its number of images: a Fréchet distance falls as that grows."""
    evaluate = measured["evaluate"]
    scores = flatten(evaluate)
    extractors = [name for name in evaluate if name in variant.names("extractors")]

    def listed(prefix: str = "") -> str:
        shown = []
        for extractor in extractors:
            of = f" by {extractor}" if len(extractors) > 1 else ""
            for name, called in NAMES.items():
                if (key := f"{prefix}{extractor}.{name}") in scores:
                    shown.append(f"{called}{of} {scores[key]:.3g}")
        return ", ".join(shown)

    alone = [f"{scores[name]:.3g} {metrics.title(name)}" for name in metrics.ALONE if name in scores]
    drawn = f"{measured['sample']['count']:,} samples: " if "count" in measured["sample"] else ""
    yield f"scores   {drawn}{', '.join(filter(None, [listed(), *alone])) or 'none'}"
    for prefix, what in metrics.OTHERS.items():
        count = next((n for name in extractors if (n := scores.get(f"{prefix}.{name}.count"))), None)
        if count and (shown := listed(f"{prefix}.")):
            yield f"         {count:,.0f} {what if prefix == 'real' else f'draws of {what}'}: {shown}"
