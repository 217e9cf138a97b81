#!/bin/bash
# The demo's step `base`: a model that cannot read is trained again from other first weights, four
# times at most; one that can is taken as it is.
. "$RHETOR_ROOT/tests/e2e/lib.sh"

cp -r "$root/configs/demo" demo
sed -i 's/steps: [0-9]*/steps: 2/' demo/prime.yaml demo/pretrain.yaml
sed -i 's/--primer 8000 --documents 48000 --sft 24000 --compare 7000 --eval 1200/--primer 60 --documents 200 --sft 1 --compare 1 --eval 1/' \
    demo/pipeline.yaml
status=0
"$bin/rhetor-pipeline" demo --run run --seed 3 --until base >out 2>&1 || status=$?
[ $status = 70 ] || fail "left with $status: $(cat out)"
[ "$(grep -c "does not hold" out)" = 4 ] || fail "expected four probes: $(cat out)"
[ "$(ls run/tries | tr '\n' ' ')" = "pretrain-2 pretrain-3 pretrain-4 prime-2 prime-3 prime-4 " ] || fail "tries: $(ls run/tries)"
grep -q "seed: 1003" run/tries/pretrain-2/config.yaml || fail "seed of the second try: $(cat run/tries/pretrain-2/config.yaml)"
cmp -s run/base/checkpoints/step_00000002.h5 run/tries/pretrain-4/checkpoints/step_00000002.h5 || fail "base is not the last try"
cmp -s run/pretrain/checkpoints/step_00000002.h5 run/tries/pretrain-2/checkpoints/step_00000002.h5 && fail "the same first weights again"

sed -i 's/--expect 0.90/--expect 0/' demo/pipeline.yaml
rm -r run/tries
must "$bin/rhetor-pipeline" demo --run run --seed 3 --until base
[ ! -e run/tries ] || fail "a model that reads was trained again"
cmp run/base/checkpoints/step_00000002.h5 run/pretrain/checkpoints/step_00000002.h5 || fail "base is not the pretrained model"
exit 0
