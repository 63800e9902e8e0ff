#!/usr/bin/env bash
# Can rewards stand in for labels? nano from fresh weights, supervised on an eighth of the training rows; then supervised
# on the same eighth for as long again, or by GRPO on the other rows, whose labels only reward; against supervision on
# all. Measured on the test split, with the tables and curves in OUT/docs/results.md. Some collections are shown to no
# arm: what each makes of those stands apart.
#
#   recipes/nano_few_labels.sh [DATA] [OUT] [STEPS] [MORE]
#
# DATA   folder with train.parquet, val.parquet and test.parquet (recipes/open_umrg.sh)
# STEPS  of supervision on the eighth
# MORE   steps of GRPO after it; supervision continued makes three times as many, in about the same time
#
# LEAVE_OUT in the environment names the collections that no arm is shown: polyps and skin lesions, of which others stay,
# and the left ventricle in cine MR, of which none does ("kvasir_seg ph2 sunnybrook").
#
# The eighth is by patients, in each source those whose names' SHA-256 come first (medground/data/part.py). Fresh weights,
# because nano v0 has seen all of these masks. Two arms run at a time, with one thread each. Killed, the same command goes
# on where it was. SEED=1 in the environment makes a second set of arms beside the first, on another eighth.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:-build/open_umrg}
out=${2:-runs/few_labels}
steps=${3:-1500}
more=${4:-200}
common=(data.val_limit=48)
for collection in ${LEAVE_OUT-kvasir_seg ph2 sunnybrook}; do common+=("data.weights.$collection=0"); done
python=${PYTHON:-.venv/bin/python}
. recipes/nano_arms.sh

part=$(folder part)
[ -e "$part/rest.parquet" ] || "$python" -c \
  'import sys; from medground.data.part import write_part as w; print(*w(sys.argv[1], sys.argv[2], 1 / 8, seed=int(sys.argv[3])))' \
  "$data/train.parquet" "$part" "$seed"
untrained start "${LIKE:-medground/reasoners/nano}"

supervise() { # supervise ARM MODEL ROWS STEPS RATE TOWER_RATE
  train sft "$1" "$2" "$3" "steps=$4" "rate=$5" "vision_rate=$6" "eval_every=$((($4 + 5) / 6))" "${common[@]}"
}

eighth() { supervise eighth "$(folder start)/model" "$part/part.parquet" "$steps" 5e-4 2e-4; }
all() { supervise all "$(folder start)/model" "$data/train.parquet" "$((steps + 3 * more))" 5e-4 2e-4; }
continued() { supervise eighth-continued "$(folder eighth)/model" "$part/part.parquet" "$((3 * more))" 1.5e-4 6e-5; }
grpo() {
  train grpo eighth-grpo "$(folder eighth)/model" "$part/rest.parquet" "steps=$more" "eval_every=$(((more + 5) / 6))" \
    "${common[@]}"
}

at_once eighth all
at_once continued grpo
for arm in eighth eighth-continued eighth-grpo all; do
  ask "$arm" "$(folder "$arm")/model"
done
"$python" docs/results.py "$out" --out "$out/docs"
