#!/usr/bin/env bash
# What reinforcement adds to nano: from one supervised start, supervision continued and GRPO by each recipe, for about the
# same time on one core each; then all of them, the start and fresh weights measured on the test split, and
# OUT/docs/results.md with the tables and curves.
#
#   recipes/nano_ablation.sh START [DATA] [OUT] [STEPS]
#
# START  folder of the supervised model (recipes/nano_sft.toml)
# DATA   folder with train.parquet, val.parquet and test.parquet (recipes/open_umrg.sh)
# STEPS  of GRPO
#
# Two arms run at a time, with one thread each. Killed, the same command goes on where it was. SEED=1 in the environment
# makes a second set of trained arms beside the first, of whose figures the tables show the means.
set -euo pipefail
cd "$(dirname "$0")/.."
start=$1
data=${2:-build/open_umrg}
out=${3:-runs/ablation}
steps=${4:-70}
python=${PYTHON:-.venv/bin/python}
. recipes/nano_arms.sh

rows=$data/train.parquet

more() { # more ARM: a step of supervision on 16 rows takes a third of the time of a step of GRPO on 64 completions
  train sft "$1" "$start" "$rows" "steps=$((steps * 3))" "eval_every=$((steps))" rate=1.5e-4 vision_rate=6e-5
}

grpo() { # grpo ARM RECIPE [CREDIT]
  train grpo "$1" "$start" "$rows" "steps=$steps" "eval_every=$(((steps + 2) / 3))" "grpo.recipe=$2" \
    "grpo.credit=${3:-completion}"
}

one() {
  grpo grpo-medground-number medground number
  grpo grpo-umrg-soft umrg-soft
  grpo grpo-umrg-base umrg-base
}

other() {
  more sft-continued
  grpo grpo-medground medground
  grpo grpo-umrg-hard umrg-hard
  grpo grpo-medground-part medground part
}

at_once one other

if [ "$seed" = 0 ]; then
  untrained untrained "$start"
  ask untrained "$out/untrained/model"
  ask sft "$start"
fi
for arm in sft-continued grpo-umrg-{base,soft,hard} grpo-medground{,-number,-part}; do
  ask "$arm" "$(folder "$arm")/model"
done
"$python" docs/results.py "$out" --out "$out/docs"
