#!/bin/sh
# Visual questions of the open build: some 14,700 questions of four types, with answers, regions and thinking.
#
#   recipes/open_vqa.sh BUILD [OUT]
#
# BUILD  what recipes/open_umrg.sh made (its describe/ is read, and the pictures that it names)
# OUT    gets {train,val,test}.parquet, statistics.json and README.md (the card); BUILD/vqa without it
#
# A minute or two on one core. The same build gives the same bytes; a run that was killed is run again.
set -eu

build=${1:?give the folder of the build}
out=${2:-$build/vqa}
python=${PYTHON:-python}

"$python" -m medground data vqa "$build" --out "$out" --seed 0
cat "$out/README.md"
