"""What each score notices on this data: metrics/sanity.json, which ``ddpm sanity`` measures, and verdicts heed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, FiniteFloat

from ddpm.base.errors import UserError, masked
from ddpm.base.paths import METRICS
from ddpm.data.data_params import Data
from ddpm.params.config import Config
from ddpm.runs import measured
from ddpm.scoring.metric import DAMAGE, STATIC
from ddpm.verdicts import metrics

PATH = METRICS / "sanity.json"
PICTURE = PATH.with_suffix(".png")
REMEDY = "`ddpm sanity` makes it"
BLIND = 0.7  # below: of the pairs of a damaged and a whole set, those in which the damaged one scores worse

Share = Annotated[float, Field(ge=0, le=1)]


class Noticed(BaseModel):
    """mean: of the damaged sets' scores. worse: the share of pairs of a damaged and a whole set in which the damaged
    one scores worse: 1 if it is always noticed, 0.5 if never, less if it is taken for an improvement."""

    mean: FiniteFloat
    worse: Share


class Sensitivity(BaseModel):
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
    scores: dict[str, Sensitivity]


def data_params(data: Data) -> dict[str, Any]:
    """What decides which images are real, without passwords."""
    return data.model_dump(mode="json", exclude={"on_error"}) | {"source": masked(str(data.source or ""))}


def read(path: Path = PATH) -> Sanity:
    """Raises UserError if the file is missing or damaged."""
    return measured.read(path, Sanity, REMEDY)


def of_primary(score: str, config: Config, path: Path = PATH) -> list[str]:
    """What to be careful about when a verdict of runs with this ``config`` rests on ``score``; nothing if it is a
    likelihood, or without ``path``."""
    if score in metrics.ALONE or not path.exists():
        return []
    sanity = read(path)
    if sanity.data != data_params(config.data):
        return [f"{path} is of other data: `ddpm sanity` on this data shows what {score} notices"]
    row = sanity.scores.get(score)
    if row is None:
        return [f"{path} has no {score}: `ddpm sanity` shows what it notices"]
    missed = [damage for damage in _should_see(score, row) if row.noticed[damage].worse < BLIND]
    if not missed:
        return []
    count = config.sample.count
    at = f"at {sanity.images:,} images" + (f", not the {count:,} used here" if sanity.images != count else "")
    done = "; ".join(DAMAGE[damage].done for damage in missed)
    return [f"warning: {score} is blind to what it should see in real images of this data ({at}): {done}"]


def check_decisive(
    scores: Sequence[str], accepted: Collection[str], key: str, config: Config, path: Path = PATH
) -> None:
    """Raises UserError if ``path`` says that none of the ``scores`` that decide sees a damage that one of them should.

    accepted: damage that they may be blind to, as ``key`` names it. Likelihoods are not measured, and a table of other
    data or of another sample.count than those of ``config`` says nothing certain.
    """
    asked = (data_params(config.data), config.sample.count)
    if not path.exists() or ((sanity := read(path)).data, sanity.samples) != asked:
        return
    rows = {score: sanity.scores[score] for score in scores if score in sanity.scores}
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
            f"{path}: {' and '.join(rows)} cannot decide: blind to {done} in {sanity.images:,} real images of this "
            f"data: choose a score that sees it, raise data.test_fraction, or accept it: {key}: [{', '.join(blind)}]"
        )


def _should_see(score: str, row: Sensitivity) -> list[str]:
    """The damage that the score's file claims, and that was measured."""
    return [damage for damage in (*metrics.SCORES[metrics.kind(score)].sees, STATIC) if damage in row.noticed]
