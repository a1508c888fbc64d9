#!/usr/bin/env bash
# The study of digits: which noise schedule, which target, which sampler. From a clean clone, after `make setup`:
#   bash metrics/studies/digits/run.sh
# 30 trainings of 1,000 steps, paired by six seeds. A seed is queued whole, so that the study can be stopped and looked
# at after any of them; called again, it runs only what is missing.
set -euo pipefail
cd "$(dirname "$0")/../../.."
export PATH="$PWD/.venv/bin:$PATH"
study=metrics/studies/digits
seeds="0 1 2 3 4 5"
budget=(-S train.steps=1000 -S sample.count=720 -S evaluate.kid_subset_size=500 -S evaluate.likelihood.images=64)

for seed in $seeds; do
    dvc exp run --queue "${budget[@]}" -S "seed=$seed" -S "diffusion.schedule.name=cosine,linear,sigmoid"
    dvc exp run --queue "${budget[@]}" -S "seed=$seed" -S "diffusion.parameterization.name=epsilon,x0"
done
dvc exp run --run-all --jobs 1
