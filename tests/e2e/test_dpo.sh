#!/bin/bash
# rhetor-dpo: the same bits on 1, 2 and 4 ranks, in micro-batches of any size and after stops, for DPO
# and for KTO with labelled records; what a run says; --dry-run and rhetor-plan; wrong settings.
. "$(dirname "$0")/lib.sh"
export RUN=. SEED=1
tiny_data 512 --documents 300 --documents-heldout 20 --sft 100 --sft-heldout 20 \
    --compare 40 --compare-heldout 10 --ppo 10 --eval 10
must "$bin/rhetor-pretrain" "$tiny/pretrain.yaml" train.steps=10
must "$bin/rhetor-sft" "$tiny/sft.yaml" train.steps=10 save.every_epoch=false
tiny_ranked sft
settings=(run.tensorboard=false data.heldout=ranked.jsonl train.steps=6 train.batch=7 eval.every=2)

# reproduces SETTING...: on any layout
reproduces() {
    rm -rf one two four moved
    stage dpo 1 one "$@"
    stage dpo 2 two train.micro_tokens=150 run.threads=2 "$@"
    stage dpo 4 four dist.shard=optimizer train.recompute=true "$@"
    leaves=75
    for ranks in 2 1 4; do stage dpo $ranks moved run.deadline=1e-6 "$@"; done
    leaves=0
    stage dpo 2 moved "$@"
    [ "$(grep -c 'resuming at step' moved/log.txt)" = 3 ] || fail "moved did not resume three times"
    for dir in two four moved; do same_run one $dir; done
}
reproduces
for key in loss eval/loss rewards/chosen rewards/rejected rewards/margins rewards/accuracies \
    logps/chosen logps/rejected eval/rewards/accuracies eval/logps/chosen; do
    [ "$(curve one "$key" | wc -l)" -ge 3 ] || fail "metrics.jsonl has no $key"
done
curve one loss | head -n 1 | awk '{exit !(($1 - log(2)) ^ 2 < 1e-12)}' || fail "the first loss: $(curve one loss)"
curve one eval/loss | awk '{a[NR] = $1} END {exit !(a[NR] < a[1])}' || fail "nothing is learned: $(curve one eval/loss)"

# Labelled answers, and rankings of which the best are desirable.
sed -E 's/"completions":\["(([^"\\]|\\.)*)".*/"completion":"\1","label":true}/; n
    s/"completions":\["(([^"\\]|\\.)*)".*/"completion":"\1","label":false}/' ranked.jsonl >labelled.jsonl
[ "$(wc -l <labelled.jsonl)" -ge 20 ] || fail "labelled.jsonl: $(head labelled.jsonl)"
reproduces dpo.loss=kto data.train=labelled.jsonl optim.lr=1e-3 dpo.undesirable=1.5
[ "$(curve one kl | wc -l)" = 6 ] || fail "metrics.jsonl has no kl"
stage dpo 1 ranked dpo.loss=kto
for loss in ipo simpo orpo hinge; do stage dpo 1 $loss dpo.loss=$loss dpo.sft=0.1 train.steps=2; done

# The plan is what the dry run finds.
whole=(run.threads=1 train.batch=40 dist.reproducible=false)
cat >rates.json <<'END'
{"origin": "made up", "rates": [{"threads": 1, "train_gflops": 50, "micro_gbs": 10, "forward_gflops": 60,
 "update_gbs": 20, "decode_gbs": 12, "decode_gflops": 80}]}
END
must "$bin/rhetor-dpo" "$tiny/dpo.yaml" --dry-run "${settings[@]}" "${whole[@]}"
grep -q 'rank 1: ' must.out || fail "--dry-run shows no answer: $(cat must.out)"
dry=$(sed -n 's/.*weights, gradients, moments \([0-9.]*\), activations \([0-9.]*\),.*/\1 \2/p' must.out)
must "$bin/rhetor-plan" --rates rates.json --cores 1 --memory 8 "$tiny/dpo.yaml" --json "${settings[@]}" "${whole[@]}"
for key in activations weights gradients moments; do
    sed -n "s/^ *\"$key\": \([0-9][0-9.]*\).*/\1/p" must.out | head -n 1
done | tr '\n' ' ' | awk -v dry="$dry" '{
    split(dry, d, " "); a = d[2] * 1048576 / $1 - 1; s = d[1] * 1048576 / ($2 + $3 + $4) - 1
    exit !(NF == 4 && a * a < 0.05 ^ 2 && s * s < 0.05 ^ 2)}' || fail "--dry-run says $dry MiB: $(cat must.out)"

# What does not fit together is refused.
dpo=("$bin/rhetor-dpo" "$tiny/dpo.yaml" run.dir=out)
expect 78 "dpo.smoothing is 0.1: is for dpo.loss sigmoid and simpo" -- "${dpo[@]}" dpo.loss=ipo dpo.smoothing=0.1
expect 78 "dpo.loss is dp" "sigmoid, ipo, simpo, orpo, kto, hinge" -- "${dpo[@]}" dpo.loss=dp
expect 78 "dpo.beta is 0" -- "${dpo[@]}" dpo.beta=0
expect 78 "no rankings are given" -- "${dpo[@]}" data.train=
expect 65 "labelled.jsonl:1: no ranked answers" -- "${dpo[@]}" data.train=labelled.jsonl
sed 's/true/"yes"/' labelled.jsonl >yes.jsonl
expect 65 'yes.jsonl:1: "label" is neither true nor false' -- "${dpo[@]}" data.train=yes.jsonl dpo.loss=kto
must "$bin/rhetor-reward" "$tiny/reward.yaml" train.steps=1
expect 78 "is a reward model; a language model is needed here" -- "${dpo[@]}" from.model=reward
expect 78 "begun with a loss that reads other log-probabilities" -- "$bin/rhetor-dpo" "$tiny/dpo.yaml" \
    "${settings[@]}" run.dir=simpo train.steps=4 dpo.loss=sigmoid
