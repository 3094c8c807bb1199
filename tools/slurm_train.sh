#!/usr/bin/env bash
# Train on a Slurm cluster: slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [options of train.py]
# GPUS, GPUS_PER_NODE, CPUS_PER_TASK and SRUN_ARGS set the size of the job.
source "$(dirname "$0")/launchers.bash"
needs 4 'PARTITION JOB_NAME CONFIG WORK_DIR [options of train.py]' "$@"
on_slurm "$1" "$2" train.py "$3" --work-dir "$4" "${@:5}"
