#!/usr/bin/env bash
# Train one nano for both tasks, from nano v1, on two CPU cores in about fifty minutes:
#
#   recipes/nano_joint.sh V1 [DATA] [OUT]
#
# V1    nano v1's folder (recipes/nano_v1.sh)
# DATA  folder of recipes/open_umrg.sh and, in its vqa/, of recipes/open_vqa.sh
#
# It keeps v1's words and gets tokens for the tags of visual answers (medground/train/more_tokens.py). It learns the second
# task before a tower that stays as it is and remembers what it saw; then all learns but the tower's first layers. Killed,
# the same command goes on where it was.
set -euo pipefail
cd "$(dirname "$0")/.."
v1=$1
data=${2:-build/open_umrg}
out=${3:-runs/nano_joint}
python=${PYTHON:-.venv/bin/python}
export OMP_WAIT_POLICY=passive GOMP_SPINCOUNT=0
export MALLOC_MMAP_THRESHOLD_=8589934592 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=268435456

train() { # train PHASE MODEL [SETTINGS]: from MODEL, or from the last checkpoint
  local phase=$1 model=$2 setting more=()
  shift 2
  if [ -d "$out/$phase/model" ]; then return; fi
  if compgen -G "$out/$phase/checkpoint-*" > /dev/null; then more=(--resume); fi
  for setting in name=nano-joint "model=$model" "out=$out/$phase" "data.train=$data/train.parquet" \
    "data.val=$data/val.parquet" "data.vqa=['$data/vqa/train.parquet']" "data.vqa_val=['$data/vqa/val.parquet']" "$@"; do
    more+=(--set "$setting")
  done
  "$python" -m medground train sft --config recipes/nano_joint_sft.toml "${more[@]}"
}

if [ ! -d "$out/start" ]; then
  "$python" -c 'import sys; from medground.train.more_tokens import write_with_tokens as w; w(*sys.argv[1:])' \
    "$v1" "$out/start.part"
  mv "$out/start.part" "$out/start"
fi
train first "$out/start" steps=1200 rate=3e-4 schedule=constant_with_warmup freeze_vision=true vision_rate=none \
  batch_statistics=false "frozen=[]" data.views=2 eval_every=600
train second "$out/first/model"
