#!/usr/bin/env bash
# Measure a model on the open build and write the report beside it: docs/report is made by
#
#   recipes/nano_report.sh nano build/open_umrg runs/report docs/report
#
# MODEL  nano, or a model's folder
# DATA   folder with train.parquet, val.parquet and test.parquet (recipes/open_umrg.sh)
# RUNS   where the answers are kept; killed, the same command goes on there
# OUT    gets report.html and report.md
#
# About forty minutes on two cores; with LIMIT=700 in the environment, on so many of the rows, a third of it. Each picture
# is encoded for the segmenter once (4 MB each in RUNS/embeddings). Only pictures that may be handed on by anyone (CC0) are
# shown.
set -euo pipefail
cd "$(dirname "$0")/.."
model=$1
data=$2
runs=$3
out=$4
python=${PYTHON:-.venv/bin/python}
limit=(${LIMIT:+--limit "$LIMIT"})
export OMP_WAIT_POLICY=passive

ask() { # ask NAME [OPTIONS]
  local name=$1
  shift
  "$python" -m medground eval --data "$data/test.parquet" --embeddings "$runs/embeddings" --out "$runs/$name" \
    "${limit[@]}" "$@"
}

ask reason --reasoner "$model" --samples 4 --oracle
ask direct --reasoner "$model" --mode direct
for baseline in whole-image centre category-prior random; do
  ask "$baseline" --reasoner "baseline:$baseline"
done
# Thresholds of confidence are chosen on validation rows; how much a change of picture or words costs is told by the
# boxes of some rows.
"$python" -m medground eval --data "$data/val.parquet" --split val --reasoner "$model" --samples 4 --segmenter none \
  --out "$runs/val" "${limit[@]}"
variants=(rotate_5 rotate_15 crop_80 contrast_50 jpeg_20 noise_10 paraphrase)
for variant in "${variants[@]}"; do
  "$python" -m medground eval --data "$data/test.parquet" --reasoner "$model" --variant "$variant" --segmenter none \
    --limit 200 --out "$runs/$variant"
done

"$python" -m medground report "$runs/reason" "$runs/direct" "$runs/whole-image" "$runs/centre" "$runs/category-prior" \
  "$runs/random" "$runs/val" "${variants[@]/#/$runs/}" --data "$data/test.parquet" \
  --source sunnybrook --source dsb2018 --source isic2017 --out "$out"
