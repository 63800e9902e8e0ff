#!/usr/bin/env bash
# GRPO of a 7B model by verl on a Ray cluster, from our parquet and with our reward; settings in umrg_7b_verl.yaml.
# Needs verl 0.9 with vLLM and medground on each machine, in an environment of their own (docs/integrations.md).
#
#   recipes/umrg_7b_verl.sh data ROWS            ROWS: a folder with train.parquet and val.parquet
#   recipes/umrg_7b_verl.sh train [OVERRIDES]    on the first machine, once the cluster is there
#
# The cluster: `ray start --head --port 6379` on the first machine, `ray start --address FIRST:6379` on the others; it
# is found by RAY_ADDRESS=auto. OVERRIDES are verl's: trainer.nnodes=4 data.train_batch_size=256 ...
# By environment variable: COORDINATES, the ruler on which the model is asked to answer (0-1000); OUT, for build/verl.
#
# What was run, without a GPU (tests/test_recipes.py): `data`; verl's reading of it; verl's checks of the settings; our
# reward called by verl's reward manager. What wasn't: `train`, whose completions want vLLM on a GPU.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python}

case "${1:-}" in
data)
  rows=${2:?give the folder with train.parquet and val.parquet}
  # Pictures go into the files, so that each machine has them, and each question is asked with its ruler: thousandths
  # stay right whatever size verl and vLLM make of a picture. "pixels" are right for Qwen2.5-VL where all sides are
  # multiples of 28, as in the UMRG set (840 x 840).
  out=${OUT:-build/verl}
  mkdir -p "$out"
  for split in train val; do
    "$python" -m medground data export "$rows" "$out/$split.parquet" --to verl --split "$split" \
      --coordinates "${COORDINATES:-0-1000}" --set template=umrg-v1
  done
  ;;
train)
  shift
  export RAY_ADDRESS=${RAY_ADDRESS:-auto}
  exec "$python" -m verl.trainer.main_ppo --config-path "$PWD/recipes" --config-name umrg_7b_verl "$@"
  ;;
*)
  sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' recipes/umrg_7b_verl.sh >&2
  exit 2
  ;;
esac
