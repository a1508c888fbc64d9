#!/usr/bin/env bash
# The study of digits: which noise schedule, which target, which sampler. From a clean clone, after `make setup`:
#   bash metrics/studies/digits/run.sh
# 30 trainings of the preset digits_small, paired by six seeds. A seed is queued whole, so that the study can be stopped
# and looked at after any of them; called again, it trains only what is missing. At its end params.yaml holds that
# preset: `git checkout params.yaml && dvc repro` goes back.
set -euo pipefail
cd "$(dirname "$0")/../../.."
export PATH="$PWD/.venv/bin:$PATH"
study=metrics/studies/digits

ddpm preset digits_small --force
for seed in 0 1 2 3 4 5; do
    dvc exp run --queue -S "seed=$seed" -S "diffusion.schedule.name=cosine,linear,sigmoid"
    dvc exp run --queue -S "seed=$seed" -S "diffusion.parameterization.name=epsilon,x0"
done
dvc exp run --run-all --jobs 1
dvc repro
ddpm frontier  # of the first seed's model: samplers against evaluations
cp metrics/frontier.csv metrics/frontier.png "$study/"
ddpm compare --by diffusion.schedule.name --out "$study/schedule"
ddpm compare --by diffusion.parameterization.name --out "$study/parameterization"
ddpm report --by diffusion.schedule.name --out "$study/report.html"
ddpm gate --update
