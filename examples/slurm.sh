#!/bin/bash
# A study on a Slurm cluster, an experiment a job. In the project's folder, on a disk that all nodes share:
#
#   sbatch --array=1-18 --time=60 examples/slurm.sh studies/schedule.yaml   # with --gres=gpu:1 if jobs need one
#
# `ddpm study status` lists the lines up to each look. A line that is done ends at once. A job that reaches its time
# limit, or whose node dies, is requeued, and its training resumes. So is one whose program is killed, but only three
# times: if it needs more memory than it has, it is killed each time.
#SBATCH --job-name=ddpm --cpus-per-task=1 --requeue --signal=B:USR1@60 --open-mode=append
stop() { kill -TERM "$run"; wait "$run"; }  # a training saves its state
requeue() { scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"; exit; }
# Before the time limit Slurm sends USR1, and the job goes back to the queue. scancel sends TERM, and then it must not.
trap 'stop; requeue' USR1
trap 'stop; exit 143' TERM
# a shell runs a trap as soon as `wait` returns, which signals interrupt
ddpm study run "$1" --line "$SLURM_ARRAY_TASK_ID" & run=$!
wait "$run"; code=$?
if [ $code = 137 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 3 ]; then requeue; fi  # 128 + SIGKILL
exit $code
