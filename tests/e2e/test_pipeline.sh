#!/bin/bash
# The recipe of all tests, from generated text to PPO: it runs, is not run twice, is made again from
# where something changed, goes on where it was stopped; and its checkpoints say what they are.
# asan: yes
. "$(dirname "$0")/lib.sh"
pipeline=$bin/rhetor-pipeline
ckpt=$bin/rhetor-ckpt

# --- all four stages
expect 0 "12 steps done, 12 of them now" -- "$pipeline" "$tiny" --run run
! sed 's/standard error//; /responses ended with the stop token/d; /carriage returns/d; /an empty answer/d' expect.out | grep -niE 'warning|error|\bnan\b|\binf\b|left out' || fail "odd output"
for stage in pretrain sft dpo reward ppo grpo; do
    [ -f "run/$stage/metrics.jsonl" ] || fail "$stage wrote no metrics"
done
[ "$(wc -l <run/ppo/metrics.jsonl)" = 2 ] || fail "PPO has not made two iterations"
[ "$(grep -o '"completions"' run/samples.jsonl | wc -l)" = 100 ] || fail "samples.jsonl"
# The checkpoints of both epochs (of 9.5 steps: some prompts are too long) and the last one, none of the
# others, were candidates; PPO starts from the picked one.
grep -o '^step [0-9]*' run/.pipeline/pick.log | tr '\n' ' ' | grep -qx 'step 10 step 19 step 20 ' || fail "$(cat run/.pipeline/pick.log)"
identical run/sft-picked "run/sft/checkpoints/step_000000$(sed -n 's/^picked: step \([0-9]*\),.*/\1/p' run/.pipeline/pick.log).h5"
expect 0 "parents     model $(grep -o '"xxh3": "[0-9a-f]*"' run/sft-picked/checkpoints/*.json | cut -d'"' -f4)" -- "$ckpt" show run/ppo
losses=$(curve run/pretrain loss)
awk 'NR == 1 { first = $1 } { last = $1 } END { exit !(first > 6 && last < first - 1) }' <<<"$losses" ||
    fail "pretraining does not learn: $losses"

# --- a dry run does a step and tells from it how long all of them take
for stage in pretrain sft dpo reward ppo grpo; do
    expect 0 "time              about " " on one rank here: a step took " -- env RUN=run "$bin/rhetor-$stage" "$tiny/$stage.yaml" run.dir=dry --dry-run
done

# --- what is done is done
before=$(cat run/*/checkpoints/*.json | cksum)
expect 0 "12 steps done, 0 of them now" "sft: done already, 20 steps" -- "$pipeline" "$tiny" --run run
expect 0 -- "$pipeline" "$tiny" --run run --status
[ "$(grep -c ' done ' expect.out)" = 12 ] || fail "--status: $(cat expect.out)"
[ "$(cat run/*/checkpoints/*.json | cksum)" = "$before" ] || fail "a step that was done was run"

# --- a copy of the folder is as done as the folder
cp -r run copy
expect 0 " done " -- "$pipeline" "$tiny" --run copy --status
! grep -q outdated expect.out || fail "a copied run folder: $(cat expect.out)"
expect 0 "steps done, 0 of them now" -- "$pipeline" "$tiny" --run copy
expect 0 "outdated" -- "$pipeline" "$tiny" --run copy --status --seed 2
rm -r copy

# --- a changed setting: that stage and what follows, and nothing else
expect 0 "12 steps done, 4 of them now" "rank: done already" "run/reward is kept as run/reward.old-1" -- \
    "$pipeline" "$tiny" --run run reward:train.steps=12
# --status tells of the run as it was started, and says how, unless it is asked for something else
expect 0 "configs/tiny in run, with reward:train.steps=12" "12/12" -- "$pipeline" "$tiny" --run run --status
[ "$(grep -c ' done ' expect.out)" = 12 ] || fail "--status: $(cat expect.out)"
expect 0 '"reward:train.steps=12"' '"seed": "1"' -- "$pipeline" "$tiny" --run run --status --json
expect 0 -- "$pipeline" "$tiny" --run run --status reward:train.steps=10
[ "$(grep -c ' done ' expect.out) $(grep -c ' outdated ' expect.out)" = "8 4" ] ||
    fail "--status with other settings: $(cat expect.out)"
expect 0 "9/12 reward: is made again" "10/12 pick: is made again" "11/12 ppo: is made again" "7/12 rank: is done" -- \
    "$pipeline" "$tiny" --run run --dry-run
# and back: everything is a function of the recipe and the seed
expect 0 "4 of them now" -- "$pipeline" "$tiny" --run run
identical run/ppo run/ppo.old-1
identical run/reward run/reward.old-1
# settings that change no result change nothing here
expect 0 "0 of them now" -- "$pipeline" "$tiny" --run run save.every=2 run.log_every=3 \
    run.tensorboard=false train.recompute=true dist.shard=optimizer

# --- stopped and going on
expect 75 "4/12 pretrain: stopped and saved; run the same command to go on" -- \
    "$pipeline" "$tiny" --run stopped --until pretrain pretrain:run.deadline=0.001
expect 0 -- "$pipeline" "$tiny" --run stopped --status
grep -qE '^pretrain +stopped +[1-9][0-9]*/40 ' expect.out || fail "--status: $(cat expect.out)"
expect 0 "pretrain: going on" "resuming at step" -- "$pipeline" "$tiny" --run stopped --until pretrain
identical run/pretrain stopped/pretrain

# asked to stop, on two ranks and in a command
"$pipeline" "$tiny" --run ranks --ranks 2 --until pretrain pretrain:train.steps=100000 >ranks.out 2>&1 &
until grep -qs '"step": 2,' ranks/pretrain/metrics.jsonl; do sleep 0.1; done
expect 0 "pretrain       running" "/100000" -- "$pipeline" "$tiny" --run ranks --status pretrain:train.steps=100000
expect 78 "ranks/.pipeline/lock: this run directory belongs to process $!" -- "$pipeline" "$tiny" --run ranks
kill -TERM $!
wait $!
[ $? = 75 ] || fail "SIGTERM on two ranks: $(cat ranks.out)"
grep -q "pretrain: stopped and saved; run the same command to go on" ranks.out || fail "$(cat ranks.out)"
mkdir -p sleepy
printf 'steps:\n  - {name: sleep, run: sleep 60}\n' >sleepy/pipeline.yaml
"$pipeline" sleepy --run sleepy-run >sleepy.out 2>&1 &
until [ -e sleepy-run/.pipeline/sleep.log ]; do sleep 0.1; done
kill -INT $!
wait $!
[ $? = 75 ] || fail "SIGINT in a command: $(cat sleepy.out)"

# --- another seed is another model
expect 0 "4 steps done, 4 of them now" -- "$pipeline" "$tiny" --run seed2 --seed 2 --until pretrain
expect 1 "data.train: " "arrays differ, by at most" -- "$ckpt" diff run/pretrain seed2/pretrain
expect 0 "configs/tiny in seed2, seed 2" -- "$pipeline" "$tiny" --run seed2 --status
[ "$(grep -c ' done ' expect.out)" = 4 ] || fail "--status of seed 2: $(cat expect.out)"

# --- recipes by their names: of an installation, and here below configs/
mkdir -p usr/bin usr/share/rhetor configs
cp -L "$pipeline" usr/bin
cp -r "$root/configs" usr/share/rhetor
cp -r "$tiny" configs/mine
for name in tiny configs/tiny; do
    expect 0 "usr/share/rhetor/configs/tiny in runs/tiny" -- usr/bin/rhetor-pipeline $name --status
done
expect 0 "configs/mine in runs/mine" -- "$pipeline" mine --status
expect 78 "nowhere: no such recipe" "the name of an installed one" -- "$pipeline" nowhere

# --- spaces and patterns in the folders' names
expect 0 "4 steps done, 4 of them now" -- "$pipeline" "$tiny" --run "a b *%s" --until pretrain pretrain:train.steps=3
[ "$(ls -d a* | wc -l) $(ls "a b *%s/pretrain/checkpoints"/*.h5 | wc -l)" = "1 1" ] || fail "a run folder with a space: $(ls -d a*)"
mkdir -p bare
printf 'steps:\n  - {name: one, run: "touch ${RUN}/x"}\n' >bare/pipeline.yaml
for how in --dry-run --until=one; do
    expect 78 'bare/pipeline.yaml:2: step one has ${RUN} outside of quotes' '"${RUN}"' -- "$pipeline" bare --run "a b" $how
done
expect 78 'outside of quotes' -- "$bin/rhetor-submit" bare --run "a b" --scheduler slurm --dry-run
[ ! -e a ] || fail "the shell divided a path"

# --- a step that fails
mkdir -p broken
cat >broken/pipeline.yaml <<'YAML'
steps:
  - name: first
    run: echo one ${SEED} >${RUN}/first
  - name: second
    run: |
      echo it breaks
      exit 65
  - name: third
    run: touch ${RUN}/third
YAML
expect 65 "it breaks" "step second (broken/pipeline.yaml:4) ended with 65" "its log: run3/.pipeline/second.log" -- \
    "$pipeline" broken --run run3
[ "$(cat run3/first)" = "one 1" ] && [ ! -e run3/third ] || fail "steps of the broken recipe"
grep -q "it breaks" run3/.pipeline/second.log || fail "second.log"
expect 0 -- "$pipeline" broken --run run3 --status
sed -i 's/exit 65/true/' broken/pipeline.yaml
expect 0 "first: done already" "3 steps done, 2 of them now" -- "$pipeline" broken --run run3
sed -i 's/one /uno /' broken/pipeline.yaml
expect 0 "3 of them now" -- "$pipeline" broken --run run3
expect 0 "2 steps done, 0 of them now" -- "$pipeline" broken --run run3 --from second
expect 0 "1 step done, 1 of them now" -- "$pipeline" broken --run run3 --only second --force

# --- recipes with mistakes
recipe() { # YAML CODE TEXT...: what the pipeline says to it
    mkdir -p wrong
    printf "$1" >wrong/pipeline.yaml
    expect "${@:2}" -- "$pipeline" wrong --run run4
}
recipe 'steps:\n  - {nam: a, run: x}\n' 78 "wrong/pipeline.yaml:2: unknown key nam of a step" "did you mean name?"
recipe 'step:\n  - {name: a, run: x}\n' 78 "wrong/pipeline.yaml:2: unknown key step" "did you mean steps?"
recipe 'steps: [a, b]\n' 78 "wrong/pipeline.yaml:1: steps is a list of words"
recipe 'steps:\n  - {name: a}\n' 78 "wrong/pipeline.yaml:2: step a has no run and no stage"
recipe 'steps:\n  - {name: a, run: x}\n  - {name: a, run: y}\n' 78 "wrong/pipeline.yaml:3: a second step a"
recipe 'steps:\n  - {name: a, stage: pretran}\n' 78 'no stage "pretran"' "did you mean pretrain?"
recipe 'steps:\n  - {name: a/b, run: x}\n' 78 "wrong/pipeline.yaml:2: the step's name"
recipe 'steps:\n  - {name: a, stage: sft}\n' 78 "wrong/sft.yaml"
unset DATA
recipe 'steps:\n  - {name: a, run: "cat ${DATA}/text"}\n' 78 'wrong/pipeline.yaml:2: step a reads files of ${DATA}, which is not set' "--data DIR"
expect 78 '${DATA}, which is not set' -- "$bin/rhetor-submit" wrong --run run4 --scheduler slurm --dry-run
expect 64 '--ranks is "0"; expected a whole number from 1 to' -- "$pipeline" "$tiny" --ranks 0
expect 64 "which recipe?" -- "$pipeline" --run run
expect 64 'no step "sfd"; did you mean sft?' -- "$pipeline" "$tiny" --run run --from sfd
expect 78 "unknown setting optim.lrr; did you mean optim.lr?" -- "$pipeline" "$tiny" --run run optim.lrr=1
expect 78 "model.layers is 0, expected an integer from 1" -- "$pipeline" "$tiny" --run run model.layers=0
expect 78 "--run DIR" -- "$pipeline" "$tiny" --run run run.dir=here

# --- the plan's memory against that of runs: tiny's is within 6 %, half of which is the program itself.
# (The time is not looked at: other tests run.)
if [ "$bin" = "$root/bin" ]; then # AddressSanitizer takes more
    OMP_NUM_THREADS=2 RUN=run "$bin/rhetor-plan" "$tiny" --check --steps 3 --threads 2 --seconds 0.2 >check.out 2>&1
    awk 'beside && NF == 7 { n++; if ($7 + 0 > 10 || $7 + 0 < -10) bad = 1 }
         /MiB, plan/ { beside = 1 }
         END { exit n != 6 || bad }' check.out || fail "--check: $(tail -n 8 check.out)"
fi

# --- checkpoints for people
last=run/ppo/checkpoints/step_00000002.h5
expect 0 "stage       ppo, step 2" "2 layers, width 64, 4 heads, vocabulary 512, context 64" "136960" \
    "parents     model " "kl_beta" "critic/params: 30 with 137025 numbers" "ema: 28 with 136960 numbers" -- \
    "$ckpt" show run/ppo
expect 0 "params/wte.weight f32 [512, 64]" "seed: 1" -- "$ckpt" show "$last" --arrays --config
expect 0 "step_00000001.h5: good" "step_00000002.h5: good" -- "$ckpt" verify run/ppo
[ "$(wc -l <expect.out)" = 2 ] || fail "verify: $(cat expect.out)"
cp -r run/ppo damaged
size=$(stat -c %s damaged/checkpoints/step_00000002.h5)
printf '\x5a' | dd of=damaged/checkpoints/step_00000002.h5 bs=1 seek=$((size / 2)) conv=notrunc 2>/dev/null
expect 65 "ok   damaged/checkpoints/step_00000001.h5" "BAD  damaged/checkpoints/step_00000002.h5" -- \
    "$ckpt" verify damaged
truncate -s $((size / 2)) damaged/checkpoints/step_00000002.h5
expect 65 "truncated" -- "$ckpt" verify damaged/checkpoints/step_00000002.h5
expect 65 "holds no checkpoint" -- "$ckpt" verify run/data
expect 1 "only in B" "params/wte.weight" -- "$ckpt" diff run/sft run/reward
expect 64 "no array is in nothing" -- "$ckpt" diff run/ppo run/ppo --only nothing
expect 64 "expected A B, got 1 argument" -- "$ckpt" diff run/ppo

# --- the front
expect 0 "pipeline" "all stages of a recipe" -- "$bin/rhetor" --help
expect 0 "stage       ppo, step 2" -- "$bin/rhetor" ckpt show run/ppo
expect 64 'no command "pipline"; did you mean pipeline?' -- "$bin/rhetor" pipline
