#!/usr/bin/env bash
# The same training as umrg_7b_fsdp2.sh, spread by DeepSpeed's ZeRO-3 (accelerate_zero3.yaml): needs deepspeed too.
#
#   recipes/umrg_7b_zero3.sh server
#   recipes/umrg_7b_zero3.sh train RANK [OPTIONS]
#
# What was run: nothing, for want of GPUs; its lines are parsed by accelerate and DeepSpeed (tests/test_recipes.py).
set -euo pipefail
ENGINE=zero3 exec "$(dirname "$0")/umrg_7b_fsdp2.sh" "$@"
