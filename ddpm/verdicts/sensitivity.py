"""What each score notices on this data: metrics/sanity.json, which ``ddpm sanity`` measures, and verdicts heed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, FiniteFloat

from ddpm.base.errors import masked
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


class Sensitivity(BaseModel):
    """One score. whole: the mean of the whole sets. noticed: by damage, the share of pairs of a damaged and a whole set
    in which the damaged one scores worse: 1 if it is always noticed, 0.5 if never, less if it is taken for an
    improvement."""

    whole: FiniteFloat
    noticed: dict[str, Annotated[float, Field(ge=0, le=1)]]


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


def warnings(score: str, config: Config, path: Path = PATH) -> list[str]:
    """A line, if ``score`` does not see damage to real images of this data that it should see, for a verdict of runs
    with this ``config`` that rests on it.

    There is none without ``path``, or if that is of other data or of another sample.count, or not of this score.
    """
    if not path.exists():
        return []
    sanity = read(path)
    if (sanity.data, sanity.samples) != (data_params(config.data), config.sample.count) or score not in sanity.scores:
        return []
    should = (*metrics.SCORES[metrics.kind(score)].sees, STATIC)
    noticed = sanity.scores[score].noticed
    missed = [DAMAGE[name].done for name in DAMAGE if name in should and name in noticed and noticed[name] < BLIND]
    blind = f"warning: {score} is blind to what it should see in real images of this data: {'; '.join(missed)}"
    return [blind] if missed else []
