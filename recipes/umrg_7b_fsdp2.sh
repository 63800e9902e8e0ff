#!/usr/bin/env bash
# GRPO of all weights of a 7B model as in umrg_7b.toml, spread by FSDP2 over the GPUs of several machines; a vLLM server
# on GPUs of its own makes the completions. Needs medground[train] and a vLLM that TRL knows (see its extra, vllm), the
# repository and the data at the same paths on each machine, and ports 8000, 29500 and 51216 open between them.
#
#   recipes/umrg_7b_fsdp2.sh server                  on the machine that makes completions: 4 GPUs
#   recipes/umrg_7b_fsdp2.sh train RANK [OPTIONS]    on each training machine, RANK 0, 1, ...: 8 GPUs each
#
# OPTIONS go to `medground train grpo`: --resume, --dry-run, --set key=value. By environment variable: MAIN (address of
# rank 0), SERVER (http://host:8000), MACHINES (that train, 2), GPUS (of each, 8), MODEL.
#
# What was run: neither command, for want of GPUs. Each line is parsed by the packages that it is for
# (tests/test_recipes.py), and FSDP2 trained a small model of the same family in two CPU processes as one process does
# (tests/test_train_processes.py).
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python}
engine=${ENGINE:-fsdp2} # zero3 from umrg_7b_zero3.sh
model=${MODEL:-lingshu-medical-mllm/Lingshu-7B}
machines=${MACHINES:-2} gpus=${GPUS:-8}

case "${1:-}" in
server)
  # 4 divides the model's 28 heads and 4 key-value heads. 4096: a prompt of 2048 tokens and a completion of 2048.
  exec "$python" -m trl.scripts.vllm_serve --model "$model" --host 0.0.0.0 --port 8000 \
    --tensor_parallel_size 4 --max_model_len 4096 --gpu_memory_utilization 0.9
  ;;
train)
  rank=${2:?give the number of this machine: 0 to $((machines - 1))}
  shift 2
  processes=$((machines * gpus)) batch=4 completions=2048 # 128 questions x 16
  if ((completions % (batch * processes))); then
    echo "$completions completions can't be shared evenly by $processes GPUs, $batch at a time" >&2
    exit 2
  fi
  # Checks generate with spread weights, which are gathered anew for each token: on few rows, and seldom.
  exec "$python" -m accelerate.commands.accelerate_cli launch --config_file "recipes/accelerate_$engine.yaml" \
    --num_machines "$machines" --num_processes "$processes" --machine_rank "$rank" \
    --main_process_ip "${MAIN:?give the address of the machine with rank 0}" --main_process_port 29500 \
    -m medground train grpo --config recipes/umrg_7b.toml --set name="umrg-7b-$engine" --set model="$model" \
    --set batch=$batch --set accumulation=$((completions / (batch * processes))) \
    --set grpo.vllm=server --set grpo.server="${SERVER:?give the address of the server: http://host:8000}" \
    --set data.val_limit=$((2 * processes)) --set eval_every=100 "$@"
  ;;
*)
  sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "recipes/umrg_7b_$engine.sh" >&2
  exit 2
  ;;
esac
