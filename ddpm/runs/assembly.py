"""From what the stages measured to the run's record."""

from typing import Any

from ddpm.base.files import Rows, flatten, read_json
from ddpm.base.paths import SAMPLE_FACTS, TRAIN_FACTS
from ddpm.evaluation.evaluation import Evaluation
from ddpm.model.model_file import Loaded
from ddpm.runs import record
from ddpm.runs.record import Costs, Fingerprint, Provenance, Record


def assemble(
    name: str,
    provenance: Provenance,
    model: Loaded,
    evaluation: Evaluation,
    points: Rows,
    comparable: dict[str, Any],
    environment: dict[str, Any],
    seconds: float,
    samples: str,
) -> Record:
    """The record of the run that was just scored. points: ``evaluation.learning_curve``; seconds: what scoring took;
    samples: the digest of what was scored."""
    trained, drawn = read_json(TRAIN_FACTS), read_json(SAMPLE_FACTS)
    taken = {"train": trained["seconds"], "sample": drawn["seconds"], "evaluate": round(seconds, 2)}
    return Record(
        name=name,
        seed=model.config.seed,
        finished=record.now(),
        params=provenance.params,
        code=provenance.code,
        fingerprint=Fingerprint.of(comparable),
        samples=samples,
        scores=flatten(evaluation.scores),
        curve=record.table(points, digits=9),
        costs=Costs(
            images_seen=trained["images_seen"],
            parameters=trained["parameters"],
            flops=float(trained["flops"]),
            teacher_flops=model.facts.get("teacher_flops", 0.0),
            evaluations=drawn["evaluations_per_image"],
            seconds=taken,
        ),
        environment=environment,
    )
