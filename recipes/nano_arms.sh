# What nano_ablation.sh and nano_few_labels.sh share: trainings and evaluations that go on where they were, two at a time
# with one thread each. The script that reads this has set $data, $out and $python. Each arm is a folder of $out; with
# SEED=1 it is ARM@1.

seed=${SEED:-0}
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

both() { # both JOB JOB: two functions with their arguments at once; fails when one does, and ends them when it is ended
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

train() { # train KIND ARM MODEL ROWS [SETTINGS]: from MODEL, or from the last checkpoint
  local kind=$1 arm=$2 model=$3 rows=$4 place setting more=()
  shift 4
  place=$(folder "$arm")
  if [ -d "$place/model" ]; then return; fi
  if compgen -G "$place/checkpoint-*" > /dev/null; then more=(--resume); fi
  for setting in "name=nano-$arm" "model=$model" "out=$place" "data.train=$rows" "data.val=$data/val.parquet" \
    "seed=$seed" workers=0 "$@"; do
    more+=(--set "$setting")
  done
  "$python" -m medground train "$kind" --config "recipes/nano_$kind.toml" "${more[@]}"
}

untrained() { # untrained ARM LIKE: nano with fresh weights, in the architecture of another
  local place
  place=$(folder "$1")/model
  if [ -d "$place" ]; then return; fi
  "$python" -c 'import sys; from medground.train.nano import write_untrained as w; w(*sys.argv[1:3], seed=int(sys.argv[3]))' \
    "$2" "$place.part" "$seed"
  mv "$place.part" "$place"
}

ask() { # ask ARM MODEL: its answers to the test questions with and without reasoning, and four samples of each
  local arm=$1 model=$2 place mode
  for mode in reason direct; do
    place=$(folder "$arm")/test-$mode
    if [ -e "$place/done" ]; then continue; fi
    both "half 0" "half 1"
    touch "$place/done"
  done
}

half() { # half INDEX: of what ask asks, every second picture
  "$python" -m medground eval --data "$data/test.parquet" --reasoner "$model" --mode "$mode" --samples 4 --seed "$seed" \
    --embeddings "$out/embeddings" --shard "$1/2" --out "$place"
}
