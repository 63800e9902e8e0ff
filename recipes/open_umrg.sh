#!/bin/sh
# The open build of U-MRG: some 14,400 questions over 10 modalities and 106 categories, from a folder of open masks.
#
#   recipes/open_umrg.sh MASKS OUT [WORKERS]
#
# MASKS  a folder with manifest.jsonl, images/ and masks/ (the layout of medground.data.open_masks)
# OUT    gets clean/, describe/, ask/, {train,val,test}.parquet, README.md (card and statistics), sheet.png
#
# Some minutes on two cores. It can be killed at any moment and run again: it goes on where it was, and the bytes are
# those of a run that nothing disturbed. Another seed or size needs another OUT.
set -eu

masks=${1:?give the folder of open masks}
out=${2:?give the folder to build in}
workers=${3:-0}
python=${PYTHON:-python}

"$python" -m medground data clean "$masks" --out "$out" --seed 0 --workers "$workers"
"$python" -m medground data describe "$out" --seed 0 --workers "$workers"
"$python" -m medground data ask "$out" --seed 0 --workers "$workers"
"$python" -m medground data assemble "$out" --title "Open U-MRG"
cat "$out/README.md"
