#!/usr/bin/env bash
# Test on several processes of one or more machines: dist_test.sh CONFIG CHECKPOINT PROCESSES [options of test.py]
# NNODES, NODE_RANK, MASTER_ADDR and PORT say where the others are.
source "$(dirname "$0")/launchers.bash"
needs 3 'CONFIG CHECKPOINT PROCESSES [options of test.py]' "$@"
on_processes "$3" test.py "$1" "$2" "${@:4}"
