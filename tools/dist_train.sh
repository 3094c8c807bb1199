#!/usr/bin/env bash
# Train on several processes of one or more machines: dist_train.sh CONFIG PROCESSES [options of train.py]
# NNODES, NODE_RANK, MASTER_ADDR and PORT say where the others are.
source "$(dirname "$0")/launchers.bash"
needs 2 'CONFIG PROCESSES [options of train.py]' "$@"
on_processes "$2" train.py "$1" "${@:3}"
