#!/bin/bash

# Parameters
#SBATCH --account=vision
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=8
#SBATCH --job-name=r50_c4-seed1
#SBATCH --mem=128G
#SBATCH --nodes=1
#SBATCH --open-mode=append
#SBATCH --output=FOLDER/logs/%j_0_log.out
#SBATCH --partition=gpu
#SBATCH --requeue
#SBATCH --signal=USR2@120
#SBATCH --time=270
#SBATCH --wckey=submitit

# setup
export PYTHONPATH=PROJECTS

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output FOLDER/logs/%j_%t_log.out PYTHON -u -m submitit.core._submit FOLDER/logs
