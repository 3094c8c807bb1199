# What dist_train.sh, dist_test.sh, slurm_train.sh and slurm_test.sh share. They source it.
set -euo pipefail
TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PYTHONPATH="$TOOLS/..:${PYTHONPATH:-}"

# needs COUNT USAGE WORDS...: ends the script with its usage where there are fewer words.
needs() {
    if [ $(($# - 2)) -lt "$1" ]; then
        echo "usage: $0 $2" >&2
        exit 2
    fi
}

# on_processes COUNT TOOL CONFIG WORDS...: runs a tool by torchrun, COUNT times on this machine.
# NNODES, NODE_RANK, MASTER_ADDR and PORT say which one it is and where the others are.
on_processes() {
    if [ "${NNODES:-1}" != 1 ] && [ -z "${MASTER_ADDR:-}" ]; then
        echo "$0: NNODES=$NNODES needs MASTER_ADDR, the address of the machine with NODE_RANK=0" >&2
        exit 2
    fi
    exec python -m torch.distributed.run \
        --nnodes="${NNODES:-1}" \
        --node_rank="${NODE_RANK:-0}" \
        --master_addr="${MASTER_ADDR:-127.0.0.1}" \
        --master_port="${PORT:-29500}" \
        --nproc_per_node="$1" \
        "$TOOLS/$2" --launcher pytorch "${@:3}"
}

# on_slurm PARTITION JOB_NAME TOOL CONFIG WORDS...: runs a tool as a job of Slurm.
# GPUS, GPUS_PER_NODE, CPUS_PER_TASK and SRUN_ARGS set the size of the job.
on_slurm() {
    local gpus=${GPUS:-8}
    local gpus_per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
    # SRUN_ARGS holds several words.
    # shellcheck disable=SC2086
    exec srun -p "$1" \
        --job-name="$2" \
        --gres="gpu:$gpus_per_node" \
        --ntasks="$gpus" \
        --ntasks-per-node="$gpus_per_node" \
        --cpus-per-task="${CPUS_PER_TASK:-5}" \
        --kill-on-bad-exit=1 \
        ${SRUN_ARGS:-} \
        python -u "$TOOLS/$3" --launcher slurm "${@:4}"
}
