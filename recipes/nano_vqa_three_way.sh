#!/usr/bin/env bash
# ThinkVG's headline on the embedded model: does reinforcement on one eighth of the data come to what supervision on all
# of it gives? From one start: supervision on all visual questions, and half as many steps of it on one eighth of them;
# from the latter GRPO on the same eighth and, beside it, further supervision on that eighth for as many seconds as GRPO
# took. With STEPS and MORE as they are, the three ends have cost about the same. All are measured on the test split, with
# baselines that don't look.
#
#   recipes/nano_vqa_three_way.sh START [DATA] [OUT] [STEPS] [MORE]
#
# START  folder of the model that all begin from, one that hasn't learned from these questions; nano v2, which is made for
#        both tasks, has
# DATA   folder with train.parquet, val.parquet and test.parquet of visual questions (recipes/open_vqa.sh)
# OUT    gets a folder for each arm and each baseline with its answers in test/, report/, and docs/results.md with the
#        table, the differences, and the steps, questions and hours of each arm
# STEPS  of supervision on the eighth; on all twice as many
# MORE   steps of GRPO
#
# LIMIT and SAMPLES of the evaluations can be set in the environment (recipes/nano_arms.sh). Two arms run at a time, with
# one thread each. Killed, the same command goes on where it was. SEED=1 makes a second set beside the first, on another
# eighth.
set -euo pipefail
cd "$(dirname "$0")/.."
start=$1
data=${2:-build/open_umrg/vqa}
out=${3:-runs/vqa-three-way}
python=${PYTHON:-.venv/bin/python}
steps=${4:-700}
more=${5:-80}
. recipes/nano_arms.sh

learn() { # learn KIND ARM MODEL [SETTINGS], KIND sft or grpo
  # Checks at the beginning and the end alone: they would count as compute.
  train "vqa_$1" "$2" "$3" "$data/train.parquet" data.val_limit=48 eval_every=1000000 "${@:4}"
}

as_long() { # as_long ARM OTHER: how many steps of ARM's kind take the time that OTHER took
  "$python" - "$(folder "$1")" "$(folder "$2")" << 'END'
import sys
from medground.train.curves import RunLog

one, other = map(RunLog, sys.argv[1:])
print(max(1, round(max(line["step"] for line in one.read()) * other.seconds() / one.seconds())))
END
}

all() { learn sft sft-all "$start" "steps=$((2 * steps))"; }
supervised=$(folder sft-eighth)/model
eighth() {
  learn sft sft-eighth "$start" "steps=$steps" data.vqa_limit=0.125
  learn grpo grpo-eighth "$supervised" "steps=$more" data.vqa_limit=0.125
}
continued() { # from a model that has come to rest, so at half the rate
  learn sft sft-eighth-continued "$supervised" "steps=$(as_long sft-eighth grpo-eighth)" data.vqa_limit=0.125 rate=2.5e-4
}

at_once all eighth
continued

places=()
for arm in sft-all sft-eighth grpo-eighth sft-eighth-continued; do
  question "$arm" "$(folder "$arm")/model" "$data/test.parquet"
  places+=("$(folder "$arm")/test")
done
for name in frequent-answer random-answer text-only; do
  "$python" -m medground eval --data "$data/test.parquet" --train "$data" --reasoner "baseline:$name" "${limit[@]}" \
    --out "$out/$name/test"
  places+=("$out/$name/test")
done
"$python" -m medground report "${places[@]}" --title "Supervision and reinforcement on visual questions" \
  --out "$(folder report)"
"$python" docs/results.py "$out" --out "$out/docs"
