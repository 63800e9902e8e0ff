# What the scripts of nano's experiments share: trainings and evaluations that go on where they were, two at a time with
# one thread each. The script that reads this has set $data, $out and $python. Each arm is a folder of $out; with SEED=1 it
# is ARM@1. LIMIT in the environment asks so many of the test questions (all), SAMPLES draws so many further answers (4).

seed=${SEED:-0}
samples=${SAMPLES:-4}
limit=(${LIMIT:+--limit "$LIMIT"})
export OMP_NUM_THREADS=1
# Waiting threads that spin, and memory handed back after each step, cost far more than they bring (docs/log.md).
export OMP_WAIT_POLICY=passive GOMP_SPINCOUNT=0
export MALLOC_MMAP_THRESHOLD_=8589934592 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=268435456

mkdir -p "$out"
# All that is started here holds it as long as it lives: two trainings would write into the same folders.
exec 9> "$out/lock"
flock -n 9 || { echo "$out: another run is at work there; end it, or wait" >&2; exit 1; }

folder() { # folder ARM: where it lies
  if [ "$seed" = 0 ]; then echo "$out/$1"; else echo "$out/$1@$seed"; fi
}

at_once() { # at_once JOB JOB: two functions with their arguments; fails when one does, and ends them when it is ended
  local first second
  set -m # each in a process group of its own, which can be ended whole
  $1 &
  first=$!
  $2 &
  second=$!
  set +m
  trap "kill -- -$first -$second 2> /dev/null || true" EXIT
  trap 'exit 130' INT TERM
  wait "$first" && wait "$second" || { echo "$1 or $2 failed; the same command goes on" >&2; exit 1; }
  trap - EXIT INT TERM
}

train() { # train KIND ARM MODEL ROWS [SETTINGS], of recipes/nano_KIND.toml: from MODEL, or from the last checkpoint
  local kind=$1 arm=$2 model=$3 rows=$4 place setting given=() more=()
  shift 4
  place=$(folder "$arm")
  if [ -d "$place/model" ]; then return; fi
  if compgen -G "$place/checkpoint-*" > /dev/null; then more=(--resume); fi
  case $kind in
    vqa_*) given=("data.vqa=['$rows']" "data.vqa_val=['$data/val.parquet']") ;;
    *) given=("data.train=$rows" "data.val=$data/val.parquet") ;;
  esac
  for setting in "name=nano-$arm" "model=$model" "out=$place" "${given[@]}" "seed=$seed" workers=0 "$@"; do
    more+=(--set "$setting")
  done
  "$python" -m medground train "${kind##*_}" --config "recipes/nano_$kind.toml" "${more[@]}"
}

written() { # written ARM CODE LIKE [ARGUMENTS]: a model that Python makes of another, whole or not at all
  local place
  place=$(folder "$1")/model
  if [ -d "$place" ]; then return; fi
  "$python" -c "$2" "$3" "$place.part" "${@:4}"
  mv "$place.part" "$place"
}

untrained() { # untrained ARM LIKE: nano with fresh weights, in the architecture of another
  written "$1" 'import sys; from medground.train.nano import write_untrained as w; w(*sys.argv[1:3], seed=int(sys.argv[3]))' \
    "$2" "$seed"
}

ask() { # ask ARM MODEL: its answers to the test questions with and without reasoning, and samples of each
  local mode
  for mode in reason direct; do
    halves "$(folder "$1")/test-$mode" --data "$data/test.parquet" --reasoner "$2" --mode "$mode" \
      --embeddings "$out/embeddings" --max-new-tokens 128 # nano's answers take 75; fresh weights know no end
  done
}

question() { # question ARM MODEL ROWS: its answers to the visual questions in a file, and samples of each
  halves "$(folder "$1")/test" --data "$3" --reasoner "$2" --max-new-tokens 300
}

halves() { # halves FOLDER OPTIONS: medground eval into FOLDER, every second picture in a process of its own
  local place=$1 given=("${@:2}" --samples "$samples" --seed "$seed" "${limit[@]}") wanted="${LIMIT:-all} $samples"
  if [ -e "$place/done" ] && [ "$(cat "$place/done")" = "$wanted" ]; then return; fi
  at_once "half 0" "half 1"
  echo "$wanted" > "$place/done"
}

half() { # half INDEX
  "$python" -m medground eval "${given[@]}" --shard "$1/2" --out "$place"
}
