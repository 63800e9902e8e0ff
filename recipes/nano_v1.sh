#!/usr/bin/env bash
# Train nano v1, from which nano v2 goes on, from nano v0 (recipes/nano_v0.sh) on two CPU cores, in about an hour:
#
#   recipes/nano_v1.sh V0 [DATA] [OUT]
#
# V0    nano v0's folder
# DATA  folder of recipes/open_umrg.sh
#
# The first phase ends at step 600 of 1400, the second lets its rates fall to zero. Killed, the same command goes on where
# it was; recipes/nano_report.sh measures the model.
set -euo pipefail
cd "$(dirname "$0")/.."
v0=$1
data=${2:-build/open_umrg}
out=${3:-runs/nano_v1}
python=${PYTHON:-.venv/bin/python}
. recipes/nano_arms.sh
unset OMP_NUM_THREADS # one training at a time, on all cores

# Those of nano_sft.toml at the time.
weights='{totalsegmentator_ref = 0.2, voxelmorph_t1 = 0.2, ms_lesion_mni = 0.3, pyradiomics_brain = 0.5, drishti = 1.5,'
weights+=' medsam2_deeplesion = 2, ph2 = 2}'

phase() { # phase ARM MODEL [SETTINGS]
  train sft "$1" "$2" "$data/train.parquet" name=nano-v1 workers=1 "data.weights=$weights" "${@:3}"
}

phase first "$v0" steps=1400 stop_after=600
phase second "$(folder first)/model" steps=260 rate=1.2e-4 vision_rate=5e-5 warmup=5 seed=1
