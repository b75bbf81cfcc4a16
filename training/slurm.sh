#!/bin/bash
# The paper's training on several nodes of a Slurm cluster:  sbatch training/slurm.sh DATA OUT
#
# Submitted in the checkout, after the first `sh predict.sh`, with DATA and OUT on a file system that
# all nodes share. A job that ran out of time goes on where it was when it is submitted again.
#SBATCH --job-name=cpn
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
set -eu
: "${2:?usage: sbatch training/slurm.sh DATA OUT}"
data=$1
out=$2
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" .venv/bin/python -m torch.distributed.run \
    --nnodes="$SLURM_NNODES" --nproc_per_node=4 \
    --rdzv_id="$SLURM_JOB_ID" --rdzv_backend=c10d --rdzv_endpoint="$first:29500" \
    -m training --data "$data" --out "$out" \
    --from-scratch --preset paper --schedule paper --minutes 1020
