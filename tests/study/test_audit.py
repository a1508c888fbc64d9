"""What an audit makes of a record and the same run again."""

import pytest

from ddpm.runs.record import NumberTable
from ddpm.study import audit
from tests.scored import result

SCORES = {"classifier.fd": 1.0, "classifier.kid_mean": 0.91, "classifier.recall": 0.5}
AGAIN = result(
    scores=SCORES, comparable={"samples": 1000}, curve=NumberTable(columns={"images": (1.0,), "classifier.fd": (0.2,)})
)
COSTS = AGAIN.costs.model_dump()


def scores(**changes: float) -> dict:
    return {"scores": SCORES | {f"classifier.{name}": value for name, value in changes.items()}}


@pytest.mark.parametrize(
    ("recorded", "precision", "key", "rounding"),
    [
        ({}, "float32", None, False),
        ({"costs": COSTS | {"seconds": {"train": 99.0}}}, "float32", None, False),
        ({"costs": COSTS | {"images_seen": 97}}, "float32", "costs.images_seen", False),
        ({"costs": COSTS | {"flops": 1.0}}, "float32", "costs.flops", False),
        ({"curve": {"columns": {"images": (1.0,), "classifier.fd": (0.1,)}}}, "float32", "curve.", False),
        ({"curve": None}, "float32", "curve.", False),
        ({"samples": "0" * 64}, "float32", "samples", True),
        (scores(fd=1.00005), "float32", "scores.classifier.fd", True),
        (scores(fd=1.01), "float32", "scores.classifier.fd", False),
        (scores(fd=1.01), "bfloat16", "scores.classifier.fd", True),
        (scores(fd=1.06), "bfloat16", "scores.classifier.fd", False),
        (scores(kid_mean=0.0091), "bfloat16", "scores.classifier.kid_mean", False),
        # what rounding cannot explain is shown first
        (scores(fd=1.01, kid_mean=0.1), "bfloat16", "scores.classifier.kid_mean", False),
        ({"diverged": "the loss is not finite", "scores": {}}, "bfloat16", "diverged", False),
    ],
)
def test_all_but_times_is_compared_and_rounding_is_what_the_table_says(recorded, precision, key, rounding):
    here, there = ({"processor": name, "training_precision": precision} for name in ("one", "another"))
    again = AGAIN.model_copy(update={"environment": here})
    forged = audit.Record(**AGAIN.model_dump() | {"environment": there} | recorded)
    found = audit.compare("linear-1", forged, again)
    assert (found.difference[0] if found.difference else "").startswith(key or "")
    assert (found.difference is None) == (key is None)
    assert found.rounding == rounding
    same_place = audit.compare("linear-1", forged.model_copy(update={"environment": here}), again)
    assert (same_place.difference is None, same_place.rounding) == (key is None, False)
