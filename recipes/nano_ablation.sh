#!/usr/bin/env bash
# What reinforcement adds to nano: from one supervised start, supervision continued and GRPO by each recipe, for the same
# time on one core each, then all of them measured on the test split.
#
#   recipes/nano_ablation.sh START [DATA] [OUT] [STEPS]
#
# START  folder of the supervised model (recipes/nano_sft.toml)
# DATA   folder with train.parquet, val.parquet and test.parquet (recipes/open_umrg.sh)
#
# Two arms run at a time, with one thread each. Run it again after a crash: it goes on where it was.
set -euo pipefail
cd "$(dirname "$0")/.."
start=$1
data=${2:-build/open_umrg}
out=${3:-runs/ablation}
steps=${4:-70}
python=${PYTHON:-.venv/bin/python}
seed=${SEED:-0}
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive

train() { # train KIND NAME [SETTINGS]: from the start, or from the last checkpoint
  local kind=$1 name=$2
  shift 2
  if [ -d "$out/$name/model" ]; then return; fi
  local more=()
  if compgen -G "$out/$name/checkpoint-*" > /dev/null; then more=(--resume); fi
  for setting in "name=nano-$name" "model=$start" "out=$out/$name" "data.train=$data/train.parquet" \
    "data.val=$data/val.parquet" "seed=$seed" "$@"; do
    more+=(--set "$setting")
  done
  "$python" -m medground train "$kind" --config "recipes/nano_$kind.toml" "${more[@]}"
}

grpo() { # grpo NAME RECIPE CREDIT
  train grpo "$1" "grpo.recipe=$2" "grpo.credit=$3" "steps=$steps" "eval_every=$steps"
}

# A step of supervision on 16 rows takes a third of the time of a step of GRPO on 64 completions.
more() {
  train sft sft-continued "steps=$((steps * 3))" rate=1.5e-4 vision_rate=6e-5 workers=0 "eval_every=$((steps * 3))"
}

mkdir -p "$out"
(grpo grpo-medground-number medground number && grpo grpo-umrg-soft umrg-soft completion && grpo grpo-umrg-base umrg-base completion) &
first=$!
(more && grpo grpo-medground medground completion && grpo grpo-umrg-hard umrg-hard completion) &
wait "$first"
wait
