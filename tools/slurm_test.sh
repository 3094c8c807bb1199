#!/usr/bin/env bash
# Test on a Slurm cluster: slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [options of test.py]
# GPUS, GPUS_PER_NODE, CPUS_PER_TASK and SRUN_ARGS set the size of the job.
source "$(dirname "$0")/launchers.bash"
needs 4 'PARTITION JOB_NAME CONFIG CHECKPOINT [options of test.py]' "$@"
on_slurm "$1" "$2" test.py "$3" "$4" "${@:5}"
