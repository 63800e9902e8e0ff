#!/usr/bin/env bash
# Train nano v1, the embedded model, from nano v0 (recipes/nano_v0.sh) on two CPU cores, in some two hours:
#
#   recipes/nano_v1.sh V0 [DATA] [OUT]
#
# V0    nano v0's folder
# DATA  folder of recipes/open_umrg.sh, with vqa/ of recipes/open_vqa.sh in it
#
# Grounding alone first, then with visual questions. Killed, the same command goes on where it was;
# recipes/nano_report.sh measures the model.
set -euo pipefail
cd "$(dirname "$0")/.."
v0=$1
data=${2:-build/open_umrg}
out=${3:-runs/nano_v1}
python=${PYTHON:-.venv/bin/python}
export OMP_WAIT_POLICY=passive GOMP_SPINCOUNT=0
export MALLOC_MMAP_THRESHOLD_=8589934592 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=268435456

train() { # train PHASE RECIPE MODEL [SETTINGS]: from MODEL, or from the last checkpoint
  local phase=$1 recipe=$2 model=$3 setting more=()
  shift 3
  if [ -d "$out/$phase/model" ]; then return; fi
  if compgen -G "$out/$phase/checkpoint-*" > /dev/null; then more=(--resume); fi
  for setting in "model=$model" "out=$out/$phase" "data.train=$data/train.parquet" "data.val=$data/val.parquet" "$@"; do
    more+=(--set "$setting")
  done
  "$python" -m medground train sft --config "recipes/$recipe.toml" "${more[@]}"
}

train first nano_sft "$v0" steps=1400 stop_after=600
train second nano_joint_sft "$out/first/model" name=nano-v1 stop_after=800 "data.vqa=[\"$data/vqa/train.parquet\"]" \
  "data.vqa_val=[\"$data/vqa/val.parquet\"]"
