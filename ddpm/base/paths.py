"""Where the pipeline's files are, relative to the repository root: the outs of dvc.yaml."""

from pathlib import Path

CHECKED = Path("data/checked")
RAW = Path("data/raw")
PROCESSED = Path("data/processed")
REFERENCE = Path("data/reference")
MODEL = Path("data/model")
MODEL_FILE = MODEL / "model.safetensors"
GRIDS = MODEL / "grids"
SNAPSHOTS = MODEL / "snapshots"
AVERAGES = MODEL / "ema"
SAMPLES = Path("data/samples")
EVALUATION = Path("data/evaluation")

STUDIES = Path("studies")
METRICS = Path("metrics")
LOSS = METRICS / "loss.csv"
BASELINE = METRICS / "baseline.json"
EVALUATE = METRICS / "evaluate.json"
RUN = METRICS / "run.json"
SCORED = METRICS / "scored"  # records of `ddpm score`
TRAIN_FACTS = METRICS / "train.json"
SAMPLE_FACTS = METRICS / "sample.json"
FD_N = METRICS / "fd_n.csv"
CURVE = METRICS / "curve.csv"
LIKELIHOOD = METRICS / "likelihood.csv"
