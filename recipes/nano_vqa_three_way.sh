#!/usr/bin/env bash
# ThinkVG's headline on the embedded model: does reinforcement on one eighth of the data come to what supervision on all
# of it gives? From one start: supervision on all visual questions, and on one eighth of them; from the latter GRPO on
# the same eighth and, beside it, further supervision on that eighth for as many seconds as GRPO took. All are measured
# on the test split, with baselines that don't look.
#
#   recipes/nano_vqa_three_way.sh [DATA] [OUT] [START]
#
# DATA   folder with train.parquet, val.parquet and test.parquet of visual questions (recipes/open_vqa.sh)
# OUT    gets a folder for each arm with its answers in test/, report/, and compute.md: steps, rows and hours of each arm
# START  folder of the model that all begin from; the embedded one where it isn't given
#
# EPOCHS (3) of supervision, on all as on the eighth, and STEPS (150) of GRPO can be set in the environment. Two arms run
# at a time, with one thread each. Killed, the same command goes on where it was. SEED=1 makes a second set beside the
# first, on another eighth.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:-build/open_umrg/vqa}
out=${2:-runs/vqa-three-way}
start=${3:-nano}
python=${PYTHON:-.venv/bin/python}
epochs=${EPOCHS:-3}
steps=${STEPS:-150}
. recipes/nano_arms.sh

learn() { # learn KIND ARM MODEL [SETTINGS]: from MODEL, or from the last checkpoint
  local kind=$1 arm=$2 model=$3 place setting more=()
  shift 3
  place=$(folder "$arm")
  if [ -d "$place/model" ]; then return; fi
  if compgen -G "$place/checkpoint-*" > /dev/null; then more=(--resume); fi
  # Checks at the beginning and the end alone: they would count as compute.
  for setting in "name=nano-vqa-$arm" "model=$model" "out=$place" "data.vqa=['$data/train.parquet']" \
    "data.vqa_val=['$data/val.parquet']" data.val_limit=48 eval_every=1000000 "seed=$seed" workers=0 "$@"; do
    more+=(--set "$setting")
  done
  "$python" -m medground train "$kind" --config "recipes/nano_vqa_$kind.toml" "${more[@]}"
}

as_long() { # as_long ARM OTHER: how many steps of ARM's kind take the time that OTHER took
  "$python" - "$(folder "$1")" "$(folder "$2")" << 'END'
import sys
from medground.train.curves import RunLog

one, other = map(RunLog, sys.argv[1:])
print(max(1, round(max(line["step"] for line in one.read()) * other.seconds() / one.seconds())))
END
}

all() {
  learn sft sft-all "$start" "epochs=$epochs"
}

eighth() {
  local supervised
  supervised=$(folder sft-eighth)/model
  learn sft sft-eighth "$start" "epochs=$epochs" data.vqa_limit=0.125
  learn grpo grpo-eighth "$supervised" "steps=$steps" data.vqa_limit=0.125
  # From a model that has come to rest, so at half the rate.
  learn sft sft-eighth-continued "$supervised" "steps=$(as_long sft-eighth grpo-eighth)" data.vqa_limit=0.125 \
    rate=1e-4 vision_rate=4e-5
}

measure() { # measure REASONER FOLDER
  "$python" -m medground eval --data "$data/test.parquet" --train "$data" --reasoner "$1" --max-new-tokens 300 --out "$2"
}

both all eighth

arms=(sft-all sft-eighth grpo-eighth sft-eighth-continued)
places=()
for arm in "${arms[@]}"; do
  measure "$(folder "$arm")/model" "$(folder "$arm")/test"
  places+=("$(folder "$arm")")
done
for name in frequent-answer random-answer text-only; do
  measure "baseline:$name" "$out/$name"
done
"$python" -m medground report "${places[@]/%//test}" "$out"/{frequent-answer,random-answer,text-only} \
  --title "Supervision and reinforcement on visual questions" --out "$(folder report)"

"$python" - "${places[@]}" > "$(folder compute).md" << 'END'
import json
import sys
from pathlib import Path

from medground.train.curves import RunLog

hours = {place: RunLog(place).seconds() / 3600 for place in sys.argv[1:]}
print("| arm | steps | sequences a step | hours | with those of its start |\n| :-- | --: | --: | --: | --: |")
for place, spent in hours.items():
    page = json.loads(Path(place, "run.json").read_text())["settings"]
    before = hours.get(str(Path(page["model"]).parent), 0.0)
    made = max(line["step"] for line in RunLog(place).read())
    print(f"| {Path(place).name} | {made:,} | {page['batch'] * page['accumulation']} | {spent:.2f} | {spent + before:.2f} |")
END
cat "$(folder compute).md"
