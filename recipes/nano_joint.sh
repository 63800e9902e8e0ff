#!/usr/bin/env bash
# Train one nano for both tasks, from nano v1's eyes, on two CPU cores in about eighty minutes:
#
#   recipes/nano_joint.sh V1 [DATA] [OUT]
#
# V1    nano v1's folder (recipes/nano_v1.sh)
# DATA  folder of recipes/open_umrg.sh and, in its vqa/, of recipes/open_vqa.sh
#
# All words are new to it (medground/train/new_words.py): v1's own start had met the phrases that the data set keeps for
# testing. It learns them first, before a tower that stays as it is; then all learns but the tower's first layers. Killed,
# the same command goes on where it was. So far too short: it is worse than v1 (docs/log.md).
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

if [ ! -d "$out/words" ]; then
  "$python" -c \
    'import sys; from medground.train.new_words import write_new_words as w; w(*sys.argv[1:3], sys.argv[3:4], sys.argv[4:])' \
    "$v1" "$out/words.part" "$data/train.parquet" "$data/vqa/train.parquet"
  mv "$out/words.part" "$out/words"
fi
train first "$out/words" steps=800 rate=6e-4 schedule=constant_with_warmup freeze_vision=true vision_rate=none \
  batch_statistics=false "frozen=[]"
train second "$out/first/model"
