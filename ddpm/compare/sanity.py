"""What each score notices on this data: metrics/sanity.json, which ``ddpm sanity`` measures, in words."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, FiniteFloat

from ddpm.base.errors import UserError, masked
from ddpm.base.paths import METRICS
from ddpm.compare import measured, metrics
from ddpm.compare.tables import Rows
from ddpm.data.data_params import Data
from ddpm.params.config import Config
from ddpm.scoring.metric import DAMAGE, HARMLESS, STATIC

PATH = METRICS / "sanity.json"
PICTURE = PATH.with_suffix(".png")
REMEDY = "`ddpm sanity` makes it"
SEES, BLIND = 0.9, 0.7  # of the pairs of a damaged and a whole set, those in which the damaged one scores worse

Share = Annotated[float, Field(ge=0, le=1)]


class Noticed(BaseModel):
    """mean: of the damaged sets' scores. worse: the share of pairs of a damaged and a whole set in which the damaged
    one scores worse: 1 if it is always noticed, 0.5 if never, less if it is taken for an improvement."""

    mean: FiniteFloat
    worse: Share


class Row(BaseModel):
    """One score: the mean of the whole sets, and what it notices, by damage."""

    whole: FiniteFloat
    noticed: dict[str, Noticed]


class Sanity(BaseModel):
    """The content of ``PATH``. images: in each set, of as many ``sets``. samples: the sample.count that asked for them;
    sets are smaller if the test split is. data: params.yaml's, as ``data_params``. scores: by name, such as
    ``classifier.fd``."""

    images: int
    samples: int
    sets: int
    data: dict[str, Any]
    scores: dict[str, Row]


def data_params(data: Data) -> dict[str, Any]:
    """What decides which images are real, without passwords."""
    return data.model_dump(mode="json", exclude={"on_error"}) | {"source": masked(str(data.source or ""))}


def read(path: Path = PATH) -> Sanity:
    """Raises UserError if the file is missing or damaged."""
    return measured.read(path, Sanity, REMEDY)


def verdict(worse: float) -> str:
    """``sees``, ``partly`` or ``blind``; ``misled`` if damage is taken for an improvement."""
    if worse >= SEES:
        return "sees"
    return "misled" if worse <= 1 - SEES else "partly" if worse >= BLIND else "blind"


def table(found: Sanity) -> Rows:
    """A row for each score, a column for each damage: the verdict and the share behind it."""
    done = [damage for damage in DAMAGE if any(damage in row.noticed for row in found.scores.values())]
    rows = [["score", "whole", *(DAMAGE[damage].head for damage in done)]]
    for name, row in found.scores.items():
        rows.append([name, f"{row.whole:.4g}", *(_cell(damage, row.noticed.get(damage)) for damage in done)])
    return rows


def _cell(damage: str, noticed: Noticed | None) -> str:
    if noticed is None:
        return "-"
    word = verdict(noticed.worse) if damage != HARMLESS else "moves" if moves(noticed) else "steady"
    return f"{word} ({noticed.worse:.2f})"


def moves(noticed: Noticed) -> bool:
    """Whether the number of images alone changes the score."""
    return verdict(noticed.worse) in ("sees", "misled")


def title(found: Sanity) -> str:
    return f"what each score notices in {found.sets} sets of {found.images:,} real test images"


def explanation(found: Sanity) -> str:
    return (
        "In parentheses: of the pairs of a damaged and a whole set, the share in which the damaged one scores worse. "
        f"sees: at least {SEES:g}; blind: below {BLIND:g}; misled: at most {1 - SEES:.1f}: damage passes for progress."
    )


def findings(found: Sanity) -> list[str]:
    """For each score, what it does not see, and whether the number of images moves it."""
    lines = []
    for name, row in found.scores.items():
        harmful = [damage for damage in DAMAGE if damage in row.noticed and damage != HARMLESS]
        parts = []
        for word, link in (("blind", "blind to"), ("misled", "misled by")):
            if missed := [DAMAGE[each].done for each in harmful if verdict(row.noticed[each].worse) == word]:
                parts.append(f"{link} {', '.join(missed)}")
        if HARMLESS in row.noticed and moves(row.noticed[HARMLESS]):
            parts.append("moved by the number of images alone")
        if parts:
            lines.append(f"{name}: {'; '.join(parts)}")
    return lines


def of_primary(score: str, settings: Config, path: Path = PATH) -> list[str]:
    """What to be careful about when a verdict of runs with these ``settings`` rests on ``score``; nothing if it is a
    likelihood, or without ``path``."""
    if score in metrics.ALONE or not path.exists():
        return []
    found = read(path)
    if found.data != data_params(settings.data):
        return [f"{path} is of other data: `ddpm sanity` on this data shows what {score} notices"]
    row = found.scores.get(score)
    if row is None:
        return [f"{path} has no {score}: `ddpm sanity` shows what it notices"]
    missed = [damage for damage in _should_see(score, row) if row.noticed[damage].worse < BLIND]
    if not missed:
        return []
    count = settings.sample.count
    at = f"at {found.images:,} images" + (f", not the {count:,} used here" if found.images != count else "")
    done = "; ".join(DAMAGE[damage].done for damage in missed)
    return [f"warning: {score} is blind to what it should see in real images of this data ({at}): {done}"]


def check_decisive(
    scores: Sequence[str], accepted: Collection[str], key: str, settings: Config, path: Path = PATH
) -> None:
    """Raises UserError if ``path`` says that none of the ``scores`` that decide sees a damage that one of them should.

    accepted: damage that they may be blind to, as ``key`` names it. Likelihoods are not measured, and a table of other
    data or of another sample.count than those of ``settings`` says nothing certain.
    """
    asked = (data_params(settings.data), settings.sample.count)
    if not path.exists() or ((found := read(path)).data, found.samples) != asked:
        return
    rows = {score: found.scores[score] for score in scores if score in found.scores}
    should = {damage for score, row in rows.items() for damage in _should_see(score, row)}
    blind = [
        damage
        for damage in DAMAGE
        if damage in should - set(accepted)
        and all(row.noticed[damage].worse < BLIND for row in rows.values() if damage in row.noticed)
    ]
    if blind:
        done = ", ".join(f"{DAMAGE[damage].done} ({damage})" for damage in blind)
        raise UserError(
            f"{path}: {' and '.join(rows)} cannot decide: blind to {done} in {found.images:,} real images of this "
            f"data: choose a score that sees it, raise data.test_fraction, or accept it: {key}: [{', '.join(blind)}]"
        )


def _should_see(score: str, row: Row) -> list[str]:
    """The damage that the score's file claims, and that was measured."""
    return [damage for damage in (*metrics.SCORES[metrics.kind(score)].sees, STATIC) if damage in row.noticed]
