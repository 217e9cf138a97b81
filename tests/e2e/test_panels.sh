#!/bin/bash
# The labs of configs/lab that are not in the small tier, on a miniature of the demo: each is made to its end,
# every measure has its records, and every criterion finds what it asks for. The large tier is planned and
# submitted dry.
# timeout: 900
. "$RHETOR_ROOT/tests/e2e/lib.sh"
here=$PWD
cp -r "$root/configs/demo" demo
sed -i -E 's/--primer 8000 --documents 48000 --sft 24000 --compare 7000 --eval 1200/--primer 100 --documents 800 --documents-heldout 40 --sft 160 --sft-heldout 40 --compare 100 --compare-heldout 60 --ppo 200 --eval 40/
    s/-n 6/-n 3/; s/ --expect 0.90//' demo/pipeline.yaml
grep -q -- '--documents 800' demo/pipeline.yaml || fail "the demo's world is made otherwise: $(head demo/pipeline.yaml)"
labs=() names=(sizes raters honesty harmless details halves ensemble rounds)
for name in "${names[@]}"; do
    sed -e "s#recipe: configs/demo#recipe: $here/demo#" -e 's/seed: \[1, 2, 3\]/seed: [1]/' -e 's/{N: 1000}/{N: 30}/' \
        -e 's/max_records: 350/max_records: 40/' "$root/configs/lab/$name.yaml" >"$name.yaml"
    labs+=("$name.yaml")
done
small=(prime:train.steps=3 pretrain:train.steps=20 sft:train.epochs=2 ppo.episodes=96 ppo.batch=32 ppo.minibatches=2 ppo.max_response=20)
must "$bin/rhetor-lab" "${labs[@]}" "${small[@]}" --jobs 2 --out out
cp must.out said
for name in "${names[@]}"; do
    for measure in $(sed -nE '/^measure:/,/^panels:/s/^  - (\{)?name: ([a-z]+).*/\2/p' "$name.yaml"); do
        grep -q "\"measure\":\"$measure\"" "out/$name/results.jsonl" || fail "$name has no records of $measure"
    done
    for panel in $(sed -nE '/^panels:/,$s/^  - name: (.*)/\1/p' "$name.yaml"); do
        grep -qE "(holds|fails|undecided) +$panel:" said || fail "no verdict on $panel of $name: $(cat said)"
    done
done
# each criterion has a number for the seed, but those of rank correlations: so small a model never refuses
grep -oE '<code>[^<]*</code></td><td>.*' out/report.html | grep -v 'one unit has no spread' >problems
! grep -v '^<code>spearman(groups.family' problems || fail "criteria without a number"
results=out/raters/results.jsonl
grep -q '"measure":"agreement".*"share":0\.' $results || fail "$(grep agreement $results)"
# five raters, each left out of what is trained on
[ "$(grep -c '"measure":"unseen"' $results)" = 5 ] || fail "$(grep unseen $results)"
ranked=$(ls out/raters/cells/*/ranked.jsonl)
for file in $ranked; do
    rater=$(sed -E 's/.*RATER=([a-z]+).*/\1/' <<<"$file")
    ! grep -q "\"rater\":\"$rater\"" "$file" || fail "$file has rankings of $rater"
    [ "$(grep -o '"rater":"[a-z]*"' "$file" | sort -u | wc -l)" = 4 ] || fail "$file: $(grep -o '"rater":"[a-z]*"' "$file" | sort | uniq -c)"
done
# the shares of refusals are those asked for, where there are enough
[ "$(grep -c '"act":"refuse"' out/harmless/cells/*SHARE=0/ranked.jsonl)" = 0 ] && [ "$(wc -l <out/harmless/cells/seed=1,SHARE=0/ranked.jsonl)" = 30 ] ||
    fail "no refusals: $(wc -l out/harmless/cells/*/ranked.jsonl)"
[ "$(grep -c '"act":"refuse"' out/harmless/cells/seed=1,SHARE=10/ranked.jsonl)" = 3 ] || fail "a tenth of refusals"
# the two halves are whole
[ "$(sort out/halves/cells/seed=1/half.jsonl out/halves/cells/seed=1/other.jsonl | cmp - <(sort out/rounds/cells/seed=1/ranked.jsonl); echo $?)" = 0 ] ||
    fail "the halves are not the whole"

# --- a step before another: it must be there, and only labs have such steps
wrong() {
    sed -e "$1" halves.yaml >wrong.yaml
    expect 78 "wrong.yaml" "$2" -- "$bin/rhetor-lab" wrong.yaml --out none
}
wrong 's/before: reward/before: rewerd/' "is to come before rewerd"
sed -i 's/  - name: rank/  - name: rank\n    before: sample/' demo/pipeline.yaml
expect 78 "step rank has a before" -- "$bin/rhetor-pipeline" demo --run none

# --- the large tier
ln -s "$root/configs" configs # which these labs name
expect 0 "32 cells: seed 1,2,3,4,5,6,7,8 x size m04,m5,m10,m29" "96 cells" -- "$bin/rhetor-lab" configs/lab/large/*.yaml --dry-run --out "$here/big"
expect 0 "#SBATCH --signal=B:USR1@240" "rhetor-lab --worker --out $here/big" "large-overopt.yaml" "large-sizes.yaml" -- \
    "$bin/rhetor-lab" configs/lab/large/*.yaml --submit --jobs 3 --dry-run --out "$here/big" cluster.scheduler=slurm cluster.time=600
expect 0 "9 layers, 8 heads, width 512" -- "$bin/rhetor-plan" configs/demo model.layers=9 model.heads=8 model.width=512 pretrain:train.steps=20000 \
    --rates configs/scaling/rates.json --records 24000 --nodes 1,2 --cores 32 --run "$here/big"
[ ! -e "$here/big" ] || fail "something was written"
exit 0
