"""What each score notices on this data: metrics/sanity.json, which ``ddpm sanity`` measures, and verdicts heed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, FiniteFloat

from ddpm.base.errors import mask_secrets
from ddpm.base.files import read_json
from ddpm.base.paths import METRICS
from ddpm.data.data_params import Data
from ddpm.params.config import Config
from ddpm.scoring.metric import DAMAGE, STATIC
from ddpm.verdicts import metrics

PATH = METRICS / "sanity.json"
PICTURE = PATH.with_suffix(".png")
BLIND = 0.7  # below: of the pairs of a damaged and a whole set, those in which the damaged one scores worse


class Sensitivity(BaseModel):
    """What one score notices."""

    whole: FiniteFloat  # mean score of the whole sets
    # by damage, the share of pairs of a damaged and a whole set in which the damaged one scores worse: 1 if the score
    # always notices it, 0.5 if never, less if damage passes for an improvement
    noticed: dict[str, Annotated[float, Field(ge=0, le=1)]]


class Sanity(BaseModel):
    """The content of ``PATH``."""

    images: int  # in each set
    samples: int  # sample.count, which asked for so many images; sets are smaller if the test split is
    sets: int
    data: dict[str, Any]  # the params, as ``data_params`` has them
    scores: dict[str, Sensitivity]  # by name, such as ``classifier.fd``


def data_params(data: Data) -> dict[str, Any]:
    """The params that decide which images are real, without passwords."""
    return data.model_dump(mode="json", exclude={"on_error"}) | {"source": mask_secrets(str(data.source or ""))}


def read(path: Path = PATH) -> Sanity:
    """The table in a file. Raises UserError if the file is missing or damaged."""
    return read_json(path, Sanity, "`ddpm sanity` makes it")


def warnings(score: str, config: Config, path: Path = PATH) -> list[str]:
    """A line for a verdict that rests on ``score``, if that does not see damage to real images that it should see.

    There is none without ``path``, or if that has another ``data`` or sample.count than ``config``, or not this score.
    """
    if not path.exists():
        return []
    sanity = read(path)
    if (sanity.data, sanity.samples) != (data_params(config.data), config.sample.count) or score not in sanity.scores:
        return []
    should = (*metrics.SCORES[metrics.kind(score)].sees, STATIC)
    noticed = sanity.scores[score].noticed
    missed = [DAMAGE[name].done for name in DAMAGE if name in should and name in noticed and noticed[name] < BLIND]
    blind = f"warning: {score} is blind to damage of these real images that it should see: {'; '.join(missed)}"
    return [blind] if missed else []
