#!/usr/bin/env bash
# What does a model for both tasks pay in grounding? The joint model and one trained for grounding alone are asked the same
# test questions, the joint one visual questions too; OUT/docs/results.md holds the one against the other.
#
#   recipes/nano_both_tasks.sh JOINT ALONE [DATA] [OUT]
#
# JOINT  folder of the model for both tasks (recipes/nano_v2.sh, nano_v3.sh)
# ALONE  folder of the model trained for grounding alone (its grounding-alone)
# DATA   folder of recipes/open_umrg.sh and, in its vqa/, of recipes/open_vqa.sh
#
# LIMIT and SAMPLES can be set in the environment (recipes/nano_arms.sh). Killed, the same command goes on where it was.
set -euo pipefail
cd "$(dirname "$0")/.."
joint=$1
alone=$2
data=${3:-build/open_umrg}
out=${4:-runs/both-tasks}
python=${PYTHON:-.venv/bin/python}
. recipes/nano_arms.sh

ask joint "$joint"
ask grounding-alone "$alone"
question joint "$joint" "$data/vqa/test.parquet"
"$python" docs/results.py "$out" --out "$out/docs"
