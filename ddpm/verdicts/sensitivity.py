"""What each score notices on this data: metrics/sanity.json, which ``ddpm sanity`` measures, and verdicts heed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, FiniteFloat

from ddpm.base.errors import UserError, masked
from ddpm.base.files import read_json
from ddpm.base.paths import METRICS
from ddpm.data.data_params import Data
from ddpm.params.config import Config
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
    return read_json(path, Sanity, REMEDY)


def blind_to(scores: Sequence[str], config: Config, path: Path = PATH) -> list[str]:
    """The damage that one of the scores should see by its file, and none of them does, in real images of this data.

    Nothing of likelihoods, which are not measured; nor without ``path``, or if that is of other data or of another
    sample.count than those of ``config``: then it says nothing certain.
    """
    asked = (data_params(config.data), config.sample.count)
    if not path.exists() or ((sanity := read(path)).data, sanity.samples) != asked:
        return []
    rows = {score: sanity.scores[score].noticed for score in scores if score in sanity.scores}
    should = {damage for score in rows for damage in (*metrics.SCORES[metrics.kind(score)].sees, STATIC)}
    best = {
        damage: max((row[damage].worse for row in rows.values() if damage in row), default=1.0) for damage in should
    }
    return [damage for damage in DAMAGE if best.get(damage, 1.0) < BLIND]


def of_primary(score: str, config: Config, path: Path = PATH) -> list[str]:
    """What to be careful about when a verdict of runs with this ``config`` rests on ``score``."""
    missed = "; ".join(DAMAGE[damage].done for damage in blind_to([score], config, path))
    return [f"warning: {score} is blind to what it should see in real images of this data: {missed}"] if missed else []


def check_decisive(
    scores: Sequence[str], accepted: Collection[str], key: str, config: Config, path: Path = PATH
) -> None:
    """Raises UserError if the ``scores`` that decide are blind to damage that is not accepted, as ``key`` names it."""
    if blind := [damage for damage in blind_to(scores, config, path) if damage not in accepted]:
        done = ", ".join(f"{DAMAGE[damage].done} ({damage})" for damage in blind)
        of_images = " and ".join(score for score in scores if score not in metrics.ALONE)
        raise UserError(
            f"{path}: {of_images} cannot decide: blind to {done} in real images of this data: choose a score "
            f"that sees it, raise data.test_fraction, or accept it: {key}: [{', '.join(blind)}]"
        )
