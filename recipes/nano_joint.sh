#!/usr/bin/env bash
# Train one nano for both tasks, from nano v1, on two CPU cores:
#
#   recipes/nano_joint.sh V1 [DATA] [OUT]
#
# V1    nano v1's folder (recipes/nano_v1.sh)
# DATA  folder of recipes/open_umrg.sh and, in its vqa/, of recipes/open_vqa.sh
#
# It keeps v1's words and gets tokens for the tags of visual answers (medground/train/more_tokens.py). It learns the second
# task before a tower that stays as it is and remembers what it saw; then all learns but the tower's first layers. Killed,
# the same command goes on where it was. Its first 600 steps have been run, not yet the rest (docs/log.md).
set -euo pipefail
cd "$(dirname "$0")/.."
v1=$1
data=${2:-build/open_umrg}
out=${3:-runs/nano_joint}
python=${PYTHON:-.venv/bin/python}
. recipes/nano_arms.sh
unset OMP_NUM_THREADS # one training at a time, on all cores

with_tokens start "$v1"
joint first "$(folder start)/model" steps=1200 rate=3e-4 schedule=constant_with_warmup freeze_vision=true vision_rate=none \
  batch_statistics=false "frozen=[]" data.views=2 eval_every=600 workers=1
joint second "$(folder first)/model" workers=1
