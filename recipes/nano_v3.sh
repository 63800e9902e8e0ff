#!/usr/bin/env bash
# Train nano v3, the embedded model, from nano v2 on two CPU cores in about an hour (docs/nano_v3/results.md):
#
#   recipes/nano_v3.sh V2 [DATA] [OUT] [STEPS]
#
# V2     nano v2's folder (recipes/nano_v2.sh)
# DATA   folder of recipes/open_umrg.sh and, in its vqa/, of recipes/open_vqa.sh
# STEPS  of GRPO; supervision continued, beside it, makes six times as many, in about the same time
#
# First more visual questions, with a loss of their answers alone, before a tower that stays as it is; then fewer of them
# at a lower rate, until grounding is what it was. Then GRPO on both tasks, each rewarded by its own recipe: its model is
# nano v3. Beside it, from the same start, supervision of both continued. OUT/docs/results.md tells them side by side.
# Killed, the same command goes on where it was. LIMIT and SAMPLES: recipes/nano_arms.sh. recipes/nano_report.sh measures
# the model.
set -euo pipefail
cd "$(dirname "$0")/.."
v2=$1
data=${2:-build/open_umrg}
out=${3:-runs/nano_v3}
steps=${4:-120}
python=${PYTHON:-.venv/bin/python}
. recipes/nano_arms.sh

rows=$data/train.parquet
visual=("data.vqa=['$data/vqa/train.parquet']" "data.vqa_val=['$data/vqa/val.parquet']")

joint() { # joint ARM MODEL [SETTINGS]: on both tasks, before a tower that stays as it is
  train joint_sft "$1" "$2" "$rows" "${visual[@]}" freeze_vision=true vision_rate=none batch_statistics=false \
    "frozen=[]" data.views=2 "${@:3}"
}

export OMP_NUM_THREADS=2
joint answers "$v2" steps=1200 rate=5e-4 decay=0.5 data.vqa_share=0.6 sft.answer_weight=0.5 eval_every=600
joint settled "$(folder answers)/model" steps=500 rate=3e-4 data.vqa_share=0.35 sft.answer_weight=0.3 eval_every=1000 seed=1
export OMP_NUM_THREADS=1

start=$(folder settled)/model
reinforced() {
  train grpo grpo-medground-part "$start" "$rows" "${visual[@]}" data.vqa_share=0.25 "steps=$steps" rate=6e-5 \
    grpo.credit=part grpo.weights.honesty=3 grpo.max_completion=128 "eval_every=$((steps / 2))"
}
more() {
  joint sft-continued "$start" "steps=$((steps * 6))" rate=1.5e-4 data.vqa_share=0.35 sft.answer_weight=0.3 \
    "eval_every=$((steps * 3))"
}
at_once reinforced more

answered() { # answered ARM MODEL
  ask "$1" "$2"
  question "$1" "$2" "$data/vqa/test.parquet"
}
for arm in grpo-medground-part sft-continued; do
  answered "$arm" "$(folder "$arm")/model"
done
answered sft "$start"
"$python" docs/results.py "$out" --shipped grpo-medground-part --out "$out/docs"
