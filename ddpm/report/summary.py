"""The end of ``make repro``: what was trained, its scores next to real images', where to look, what to try next."""

from ddpm.base.paths import EVALUATION, SAMPLES
from ddpm.base.progress import duration
from ddpm.referee import metrics
from ddpm.referee.guards import COPIES
from ddpm.referee.pairing import images
from ddpm.report.blocks import Block, Note, Table, cell
from ddpm.runs.record import Record

PICTURES = (SAMPLES / "grid.png", SAMPLES / "reverse.mp4", EVALUATION / "nearest.png")


def show_summary(run: Record) -> list[Block]:
    """The blocks that ``ddpm summary`` prints, without those that the record or the disk lacks."""
    pictures = [str(path) for path in PICTURES if path.exists()]
    return [
        describe_training(run),
        *scores(run),
        *findings(run),
        Note(f"look: {', '.join(pictures) or 'no pictures are here: `dvc repro` makes them'}"),
        Note("browse: `ddpm report` writes report.html; `make ui` shows all runs on http://127.0.0.1:5000"),
        Note(f"next: `dvc exp run -S seed={(run.seed or 0) + 1}`, then `ddpm runs`: one seed is an impression"),
    ]


def describe_training(run: Record) -> Note:
    """The network, its data, and how long it was trained."""
    params, costs = run.params, run.costs
    facts = {"parameters": costs.parameters, "steps": params.get("train.steps"), "images seen": costs.images_seen}
    model = [str(params.get("model.name", run.name)), *(f"{n:,} {what}" for what, n in facts.items() if n is not None)]
    took = f" in {duration(costs.seconds['train'])}" if "train" in costs.seconds else ""
    return Note(f"trained: {', '.join(model)} on {images(run)}{took}")


def scores(run: Record) -> list[Block]:
    """The scores next to those of the yardsticks and of real test images, with the number of images where that is
    another one: a Fréchet distance falls as it grows."""
    names = metrics.in_order(filter(metrics.is_judged, run.scores))
    drawn = int(run.fingerprint.comparable.get("samples", 0))
    others = {name: metrics.others(run.scores, name) for name in names}
    heads = [what for what in metrics.OTHERS.values() if any(what in row for row in others.values())]

    def show(score: float, size: int) -> str:
        return cell(score) + ("" if size == drawn else f" (N = {size:,})")

    rows = []
    for name in names:
        error = run.scores.get(f"{name}_se")
        score = cell(run.scores[name]) + (f" ± {cell(error)}" if error is not None else "")
        cells = (show(*others[name][what]) if what in others[name] else "" for what in heads)
        rows.append((name, metrics.direction(name), score, *cells))
    columns = ("score", "better", run.program or "this model", *heads)
    return [Table(columns, rows, f"scores at N = {drawn:,}", text_columns=(0, 1))]


def findings(run: Record) -> list[Block]:
    """Whether the model is worse than a Gaussian, and whether its samples are copies: of several spaces, in the one
    with the clearest sign."""
    notes: list[Block] = []
    first, *_ = [*metrics.select_judged(run.scores), ""]
    gaussian = metrics.yardstick(run.scores, first) if first else None
    if gaussian is not None and metrics.is_early(run.scores[first], gaussian):
        than = f"{first} is worse than that of a Gaussian of the train images, {cell(gaussian)}"
        notes.append(Note(f"too early: {than}: train for longer"))
    if spaces := metrics.closeness(run.scores):
        worst = max(spaces, key=lambda space: space.share - space.limit)
        sign = f"{run.program or 'this model'} {COPIES}" if worst.copies else "no sign of any"
        nearness = f"{worst.share:.0%} of the samples are as near to a train image as the nearest {worst.expected:.0%}"
        notes.append(Note(f"copies: {sign}: {nearness} of test images"))
    return notes
