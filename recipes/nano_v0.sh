#!/usr/bin/env bash
# Train nano v0 on two CPU cores: recipes/nano_v0.sh MASKS [OUT]; recipes/nano_report.sh measures it.
# MASKS holds manifest.jsonl, images/ and masks/. Run it again after a crash: it goes on from the last checkpoint.
set -euo pipefail
cd "$(dirname "$0")/.."
masks=$1
out=${2:-runs/nano_v0}
python=${PYTHON:-.venv/bin/python}

# Waiting threads that spin cost 8 times the time when anything else runs on the machine; handing freed memory back to
# the system after each step costs a third (docs/log.md).
export OMP_WAIT_POLICY=passive GOMP_SPINCOUNT=0
export MALLOC_MMAP_THRESHOLD_=8589934592 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=268435456

train() { # train CONFIG OUT [OPTIONS]: from the start, or from the last checkpoint
  local config=$1 folder=$2
  shift 2
  if compgen -G "$folder/checkpoint-*" > /dev/null; then set -- "$@" --resume; fi
  "$python" -m medground.train.sft --config "$config" --masks "$masks" --out "$folder" "$@"
}

# The first phase ends at step 1300 of 1862, shortly after its rates began to fall; the second goes on from there.
[ -d "$out/first/checkpoint-1300" ] || train recipes/nano_v0.toml "$out/first" --most-steps 1300
[ -d "$out/second/model" ] || train recipes/nano_v0_wide.toml "$out/second" --start-from "$out/first/checkpoint-1300"
