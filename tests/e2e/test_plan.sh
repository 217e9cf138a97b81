#!/bin/bash
# rhetor-plan: recipes before and after their data exist, its figures, layouts, errors; all rates
# but one case's come from a file. docs/SCALING.md is what the tool prints.
. "$RHETOR_ROOT/tests/e2e/lib.sh"
unset RUN DATA
plan=$bin/rhetor-plan
cat >rates.json <<'END'
{"origin": "made up", "rates": [
 {"threads": 1, "train_gflops": 50, "micro_gbs": 10, "forward_gflops": 60, "update_gbs": 20, "decode_gbs": 12, "decode_gflops": 80},
 {"threads": 2, "train_gflops": 90, "micro_gbs": 15, "forward_gflops": 110, "update_gbs": 25, "decode_gbs": 20, "decode_gflops": 150}]}
END
machine="--rates rates.json --cores 4 --memory 8"

# value KEY: all values of a key in plan.json, in the order of the file, one a line
value() { sed -n "s/^ *\"$1\": \"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}\$/\1/p" plan.json; }
plan_json() { must "$plan" "$@" --json && mv must.out plan.json; }

# Before anything exists: the vocabulary comes from the recipe, what else is not known is said.
plan_json $machine "$tiny"
[ "$(value name | tr '\n' ' ')" = "pretrain sft dpo reward ppo grpo " ] || fail "stages: $(value name)"
[ "$(value parameters | tr '\n' ' ')" = "136960 136960 136960 137025 273985 136960 " ] || fail "parameters: $(value parameters)"
[ "$(value steps | tr '\n' ' ')" = "40 20 10 10 2 2 " ] || fail "steps: $(value steps)"
must "$plan" $machine "$tiny"
grep -q "assumed .*answers a prompt" must.out || fail "does not say what it assumes: $(cat must.out)"
plan_json $machine "$root/configs/demo"
[ "$(value steps | tr '\n' ' ')" = "500 4500 0 0 24 24 " ] || fail "steps of demo: $(value steps)"
expect 0 "steps             not known" -- "$plan" $machine "$root/configs/demo"
plan_json $machine --records 9600 "$root/configs/demo"
[ "$(value steps | tr '\n' ' ')" = "500 4500 3000 600 24 24 " ] || fail "with --records: $(value steps)"

# 16 windows of 64 tokens, 2 layers, d 64, V 512: n (6 (12 L d^2 + V d) + 6 L d T)
plan_json $machine "$tiny/pretrain.yaml" --threads 1 dist.reproducible=false
flops=$((1024 * (6 * (12 * 2 * 64 * 64 + 512 * 64) + 6 * 2 * 64 * 64)))
awk -v a="$(value flops)" -v b=$flops 'BEGIN {exit !((a / b - 1) ^ 2 < 1e-12)}' || fail "flops $(value flops), expected $flops"
# and its step: FLOPs at 50 GFLOP/s, 4 bytes a parameter at 10 GB/s, nine times at 20 GB/s
step=$(awk -v f=$flops 'BEGIN {printf "%.12g", f / 50e9 + 4 * 136960 / 10e9 + 36 * 136960 / 20e9}')
awk -v a="$(value step)" -v b="$step" 'BEGIN {exit !((a / b - 1) ^ 2 < 1e-12)}' || fail "step $(value step), expected $step"

# A stage's file, an override, more nodes: steps get shorter, the sharded memory smaller.
plan_json $machine "$tiny/ppo.yaml" ppo.batch=256 --nodes 1,2,4,8 --ranks-per-node 2 --shard gradients
[ "$(value ranks | tr '\n' ' ')" = "2 4 8 16 " ] || fail "ranks: $(value ranks)"
value step | sort -c -g -r || fail "steps do not get shorter: $(value step)"
value moments | awk 'NR % 3 == 0' | sort -c -g -r || fail "moments: $(value moments)"
[ "$(value moments | awk 'NR % 3 == 2' | sort -u | wc -l)" = 1 ] || fail "unsharded moments: $(value moments)"

# A setting beside a stage's file is that stage's alone, here the demonstrations.
for i in $(seq 30); do echo '{"prompt": "one two three", "completion": "four"}'; done >own.jsonl
plan_json $machine "$tiny/sft.yaml" data.train=own.jsonl train.batch=10 train.steps=0 --records 30
[ "$(value name) $(value steps)" = "sft 3" ] || fail "sft alone: $(cat plan.json)"
plan_json $machine "$tiny/sft.yaml" model.width=128 # what it does not know is its parent's
[ "$(value parameters)" = 470528 ] || fail "sft of a wider model: $(value parameters)"
expect 78 "no step of" -- "$plan" $machine "$root/configs/tiny/pipeline.yaml"
mkdir tiny # a folder that is no recipe
expect 0 "layout for" -- "$plan" $machine tiny

# Measured by a stage that is alone: a reward model's trunk with the head of a language model.
expect 0 "measured here with the model of stage reward" -- "$plan" "$tiny/reward.yaml" --records 30

# dist.shard of the settings is what the times are for, unless --shard says otherwise.
plan_json $machine --ranks 2 "$tiny" sft:dist.shard=optimizer ppo:dist.reproducible=false ppo:dist.shard=gradients
shards() { sed -n '/"layouts"/,/"name"/s/^ *"shard": "\(.*\)",*$/\1/p' plan.json | tr '\n' ' '; }
[ "$(shards)" = "none optimizer none none gradients none " ] || fail "shards: $(shards)"
plan_json $machine --ranks 2 --shard none "$tiny" sft:dist.shard=optimizer
[ "$(shards)" = "none none none none none none " ] || fail "shards with --shard none: $(shards)"

# What layout: all cores are used; a node too small is said.
plan_json $machine "$tiny/pretrain.yaml" train.batch=64
[ "$(value ranks_per_node | tail -n 1)" = 1 ] || [ "$(value threads | tail -n 1)" -le 4 ] || fail "$(cat plan.json)"
# and what is recommended is not refused: sharded gradients take dist.reproducible=false
wide="$tiny/pretrain.yaml model.width=1024 model.layers=4 --cores 4 --nodes 2 --rates rates.json"
chosen() { must "$plan" $wide "$@" && sed -n 's/^ *pretrain  .*dist.shard \([a-z]*\),.*/\1/p' must.out; }
[ "$(chosen --memory 64)" = optimizer ] || fail "reproducible: $(cat must.out)"
[ "$(chosen --memory 64 dist.reproducible=false)" = gradients ] || fail "not reproducible: $(cat must.out)"
expect 0 "none: stage pretrain does not fit" -- "$plan" --rates rates.json --cores 2 --memory 0.01 "$tiny/pretrain.yaml"

# What was run: lengths and numbers are the data's, and agree with --dry-run.
RUN=run must "$bin/rhetor-pipeline" "$tiny" --run run --until corpus
RUN=run must "$bin/rhetor-pretrain" "$tiny/pretrain.yaml" --dry-run && mv must.out dry.out
plan_json $machine --run run "$tiny/pretrain.yaml" --threads 1
said=$(awk '/memory a rank/ {print $4}' dry.out)
awk -v a="$said" -v b="$(value activations | head -n 1)" 'BEGIN {exit !(a * 1048576 > b)}' || fail "memory"
for part in "parameters $(value parameters)" "steps $(value steps)"; do
    tr -s ' ' <dry.out | grep -q "^ $part\$" || fail "--dry-run does not say \"$part\": $(cat dry.out)"
done
dry=$(sed -n 's/.*activations \([0-9.]*\),.*/\1/p' dry.out)
awk -v a="$dry" -v b="$(value activations | head -n 1)" 'BEGIN {exit !((a * 1048576 / b - 1) ^ 2 < 0.05 ^ 2)}' ||
    fail "activations: --dry-run says $dry MiB, the plan $(value activations | head -n 1) bytes"

# A stage alone has the parent that is there; in the whole recipe it has what the recipe will make.
RUN=run must "$bin/rhetor-pretrain" "$tiny/pretrain.yaml" model.width=32 train.steps=1
plan_json $machine --run run "$tiny/sft.yaml" --threads 1
small=$(value parameters)
plan_json $machine --run run "$tiny" --threads 1
[ "$small" = $(((512 + 64) * 32 + 2 * (12 * 32 * 32 + 13 * 32) + 2 * 32)) ] && [ "$(value parameters | sed -n 2p)" = 136960 ] ||
    fail "parameters of SFT: $small alone, $(value parameters | tr '\n' ' ') in the recipe"

# A model whose weights are read in no time
sed 's/"decode_gbs": 12/"decode_gbs": 1e6/' rates.json >fast.json
expect 0 "and its weights in no measurable time" -- "$plan" --rates fast.json --cores 1 "$tiny/pretrain.yaml"

# Errors
expect 64 "which recipe or config?" -- "$plan"
expect 64 "expected a whole number" -- "$plan" "$tiny" --nodes 1,x
expect 64 "expected none, optimizer or gradients" -- "$plan" "$tiny" --shard all
expect 64 "8 ranks of 2 threads on a node of 4 cores" -- "$plan" $machine "$tiny" --ranks-per-node 8 --threads 2
expect 78 "nowhere: no such file or folder" -- "$plan" $machine nowhere
cp "$tiny/pretrain.yaml" other.yaml
expect 64 "the settings of which stage?" -- "$plan" $machine other.yaml
expect 78 "give its size, --vocab N" -- "$plan" $machine other.yaml --stage pretrain
expect 0 "vocabulary 1000" -- "$plan" $machine other.yaml --stage pretrain --vocab 1000
cp "$tiny/sft.yaml" sft.yaml
expect 78 "plan the whole recipe" -- "$plan" $machine sft.yaml --run none
expect 78 "model.widht" "did you mean model.width?" -- "$plan" $machine "$tiny" model.widht=3
echo '{"rates": [{"threads": 1, "train_gflops": 0}]}' >bad.json
expect 65 'bad.json: "train_gflops" is 0' -- "$plan" --rates bad.json "$tiny"
echo '{}' >bad.json
expect 65 'bad.json: has neither "rates"' -- "$plan" --rates bad.json "$tiny"

# rhetor-bench's files
cat >bench.json <<'END'
{"kernel": "OpenBLAS, OpenMP, 2 threads; core", "cases": [
 {"name": "adamw-small", "flops": 0, "bytes": 1e9, "seconds": 0.05}, {"name": "step-small", "flops": 1e11, "bytes": 0, "seconds": 1},
 {"name": "ppo-demo", "flops": 1e9, "bytes": 0, "seconds": 1, "parts": [{"name": "scoring", "flops": 1e9, "bytes": 0, "seconds": 1}]},
 {"name": "ppo-small", "flops": 1e12, "bytes": 0, "seconds": 9, "parts": [{"name": "rollout", "flops": 1e9, "bytes": 0, "seconds": 1}, {"name": "scoring", "flops": 3e11, "bytes": 0, "seconds": 2}]},
 {"name": "decode-124m-b1", "flops": 1e9, "bytes": 3e10, "seconds": 1.01}, {"name": "decode-124m-b32", "flops": 3.2e10, "bytes": 3e10, "seconds": 1.32}]}
END
echo '{"comm": {"ranks": 2, "nodes": 1, "latency_us": 3, "bandwidth_gbs": 7}}' >comm.json
plan_json --rates bench.json --rates comm.json "$tiny" --cores 2
for want in "train_gflops 100" "forward_gflops 150" "micro_gbs 20" "update_gbs 20" "decode_gflops 100" "decode_gbs 30" "node_latency_us 3" "node_bandwidth_gbs 7"; do
    awk -v a="$(value "${want% *}")" -v b="${want#* }" 'BEGIN {exit !((a / b - 1) ^ 2 < 1e-12)}' || fail "$want: $(value "${want% *}")"
done
# With 124m in a large and a small batch, what a micro-batch costs: 124439808 weights at 2 GB/s.
sed -i 's/{"name": "step-small"[^}]*}/{"name": "step-124m", "flops": 3e12, "bytes": 0, "seconds": 30.4728712704}, {"name": "step-124m-t64", "flops": 2e11, "bytes": 0, "seconds": 2.4728712704}/' bench.json
plan_json --rates bench.json "$tiny" --cores 2
for want in "train_gflops 100" "micro_gbs 2"; do
    awk -v a="$(value "${want% *}")" -v b="${want#* }" 'BEGIN {exit !((a / b - 1) ^ 2 < 1e-12)}' || fail "$want: $(value "${want% *}")"
done

# The exchange between two ranks, fitted.
export OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
must mpirun -n 2 --bind-to none --oversubscribe --mca mpi_yield_when_idle 1 "$bin/rhetor-bench" comm --quick --seconds 0 --json measured.json
# (The fit of times taken beside other work may be nonsense, which is then said.)
expect "$(grep -q '_gbs": -' measured.json && echo 65 || echo 0)" '' -- "$plan" --rates rates.json --rates measured.json "$tiny"
expect 64 "one rank has nobody to exchange with" -- "$bin/rhetor-bench" comm

# docs/SCALING.md is what the tool prints.
"$root/tools/scaling.sh" "$bin" >scaling.md
cmp -s scaling.md "$root/docs/SCALING.md" || fail "docs/SCALING.md is not what rhetor-plan prints: make docs"
exit 0
