#!/bin/bash
# Wrong input to the stages: each is one line with the place and the remedy, and the right exit
# status. (Settings and files of rhetor-data: test_config_errors.sh.)
. "$(dirname "$0")/lib.sh"

must "$bin/rhetor-pipeline" "$tiny" --run run
export RUN=run
pretrain=("$bin/rhetor-pretrain" "$tiny/pretrain.yaml" run.dir=out)
sft=("$bin/rhetor-sft" "$tiny/sft.yaml" run.dir=out)
reward=("$bin/rhetor-reward" "$tiny/reward.yaml" run.dir=out)
ppo=("$bin/rhetor-ppo" "$tiny/ppo.yaml" run.dir=out)

# --- what is no text
expect 65 "train.h5: is an HDF5 file (a corpus or a checkpoint), expected text or JSON lines" -- \
    "${sft[@]}" data.train=run/train.h5

# --- settings
expect 78 "command line: unknown setting train.stps; did you mean train.steps?" -- "${sft[@]}" train.stps=3
expect 78 "command line: optim.lr is 11, expected a number from 0 to 10" -- "${reward[@]}" optim.lr=11
expect 78 "ppo.max_response is 64: leaves no room for a prompt in the context of 64" -- "${ppo[@]}" ppo.max_response=64
expect 78 "ppo.minibatches is 65" "64 episodes" -- "${ppo[@]}" ppo.minibatches=65
expect 78 "ppo.kl_horizon is 12: a batch of 64 may lower beta by 107 %; expected more than a fifth of ppo.batch" -- \
    "${ppo[@]}" ppo.kl=adaptive ppo.kl_horizon=12
expect 78 "from.model is not set" -- "${sft[@]}" from.model=
expect 78 "data.mix_ratio is 0.1: pretraining text is to be mixed in, but data.mix names no corpus" -- \
    "${sft[@]}" data.mix=

# --- files that are missing
RHETOR_KERNEL=best expect 64 "RHETOR_KERNEL is best; this processor can do plain" -- "${sft[@]}"
expect 74 "nowhere.jsonl" "No such file" -- "${sft[@]}" data.train=nowhere.jsonl
expect 74 "nowhere.h5" "No such file" -- "${pretrain[@]}" data.train=nowhere.h5
expect 74 "from.model: nowhere: no such file or directory; expected a run directory or a checkpoint" -- \
    "${sft[@]}" from.model=nowhere
expect 65 "from.model: run/data: holds no checkpoint" -- "${sft[@]}" from.model=run/data
expect 65 "from.model: run/data/sft.jsonl: is not a checkpoint" -- "${sft[@]}" from.model=run/data/sft.jsonl

# --- records
line() { # FILE N TEXT: the file with its N-th line replaced, as broken.jsonl
    awk -v n="$2" -v text="$3" '{ print NR == n ? text : $0 }' "$1" >broken.jsonl
}
line run/data/sft.jsonl 3 '{"prompt": "Who?", "completion": "Ben."'
expect 65 "broken.jsonl:3:39: incomplete JSON" -- "${sft[@]}" data.train=broken.jsonl
line run/data/sft.jsonl 5 '{"prompt": "Who?", "reply": "Ben."}'
expect 65 "broken.jsonl:5: " '"completion"' -- "${sft[@]}" data.train=broken.jsonl
line run/data/sft.jsonl 7 "$(printf '{"prompt": "Who\xff?", "completion": "Ben."}')"
expect 65 "broken.jsonl:7" "UTF-8" -- "${sft[@]}" data.train=broken.jsonl
expect 0 "broken.jsonl:7" "1 bad" "done: out" -- "${sft[@]}" data.train=broken.jsonl data.on_bad=skip train.steps=1
rm -r out
line run/ranked.jsonl 2 '{"prompt": "Who?", "completions": ["Ben.", "Ana."], "ranks": [1]}'
expect 65 "broken.jsonl:2: " '"ranks"' -- "${reward[@]}" data.train=broken.jsonl
line run/data/ppo_prompts.jsonl 4 '["Who?"]'
expect 65 "broken.jsonl:4: " -- "${ppo[@]}" data.train=broken.jsonl
: >empty.jsonl
echo "Some text." >book.txt
sed 's/"ranks":[^]]*]/"ranks":[1,1,1,1]/' run/ranked.jsonl >ties.jsonl
expect 65 "ties.jsonl: no two answers of any of its" "rankings differ in rank" -- "${reward[@]}" data.train=ties.jsonl
expect 65 "ties.jsonl: no two answers" -- "${reward[@]}" data.heldout=ties.jsonl
expect 65 "ties.jsonl: no two answers" -- "$bin/rhetor-eval" rank --model run/reward ties.jsonl
expect 65 "book.txt is no corpus; if it is text, make one of it: rhetor-data encode" -- \
    "${pretrain[@]}" data.train=book.txt
expect 65 "empty.jsonl: holds no record; expected JSON lines" -- "${sft[@]}" data.train=empty.jsonl
expect 65 "data/ppo_prompts.jsonl: no usable record among" "too long: 1 tokens fit before the response" -- \
    "${ppo[@]}" ppo.max_response=63
expect 65 "sft.jsonl:" "tokens, 64 fit; shorten the record or set data.on_long" -- "${sft[@]}" data.on_long=stop

# --- checkpoints of another kind, another model, another run
expect 78 "from.model: run/reward/checkpoints/step_00000010.h5 is a reward model; a language model is needed here" -- \
    "${ppo[@]}" from.model=run/reward
expect 78 "from.reward: run/sft/checkpoints/step_00000020.h5 is a language model of stage sft; a reward model is needed here" -- \
    "${ppo[@]}" from.reward=run/sft
cp -r run/sft other
expect 78 "other/checkpoints/step_00000020.h5 is a checkpoint of stage sft, this is pretrain; choose another run.dir" -- \
    "$bin/rhetor-pretrain" "$tiny/pretrain.yaml" run.dir=other
rm -r other
cp -r run/pretrain other
expect 65 "other/checkpoints/step_00000040.h5: " "has the shape [" "64], expected [" "checkpoint of another model?" -- \
    "$bin/rhetor-pretrain" "$tiny/pretrain.yaml" run.dir=other model.width=32
expect 78 "other/checkpoints/step_00000040.h5 was made with other data" "choose another run.dir" -- \
    "$bin/rhetor-pretrain" "$tiny/pretrain.yaml" run.dir=other data.train=run/heldout.h5

# --- a start that is refused leaves the folder as it was
state() { cat "$1/status.json" "$1/config.yaml"; }
before=$(state other)
printf 'host: %s\njob: none\npid: %s\nstarted: %s\n' "$(hostname)" $$ "$(awk '{ print $22 }' /proc/$$/stat)" >other/lock
expect 78 "other/lock: this run directory belongs to process $$" "choose another run.dir" -- \
    "$bin/rhetor-pretrain" "$tiny/pretrain.yaml" run.dir=other optim.lr=0.5
rm other/lock
expect 78 "other/checkpoints/step_00000040.h5 is a checkpoint of stage pretrain, this is ppo" -- "${ppo[@]}" run.dir=other
expect 78 "was made with other data" -- \
    "$bin/rhetor-pretrain" "$tiny/pretrain.yaml" run.dir=other data.train=run/heldout.h5 optim.lr=0.5
expect 74 "nowhere.h5" -- "$bin/rhetor-pretrain" "$tiny/pretrain.yaml" run.dir=other data.train=nowhere.h5
[ "$(state other)" = "$before" ] || fail "a refused start changed the folder: $(state other)"
rm -rf out # where there is no other run, the failure is said
expect 74 "nowhere.h5" -- "${pretrain[@]}" data.train=nowhere.h5
expect 0 '"state": "failed"' '"code": 74' "nowhere.h5" -- cat out/status.json
rm -r out

# --- a parent whose run has not ended
expect 75 "saved at step 1 of 10" -- "${reward[@]}" run.dir=half run.deadline=1e-6
expect 78 "from.reward: half/checkpoints/step_00000001.h5 is step 1 of 10 of a run that has not ended" \
    "normalised" "finish it: rhetor-reward " "half/config.yaml" -- "${ppo[@]}" from.reward=half
must "$bin/rhetor-reward" half/config.yaml run.deadline=0
must "${ppo[@]}" from.reward=half ppo.episodes=64 ppo.max_response=2
rm -r out half
expect 75 "saved at step 1 of 20" -- "${sft[@]}" run.dir=half run.deadline=1e-6
expect 0 "warning: from.model: half/checkpoints/step_00000001.h5 is step 1 of 20" -- "${reward[@]}" from.model=half train.steps=1
rm -r out half

# --- all warm-up; nothing to learn from
expect 0 "optim.warmup is 3 of 3 steps" -- "${sft[@]}" train.steps=3
rm -r out
expect 0 "none of the 64 responses ended with the stop token" "ppo.no_stop_score (-1)" -- \
    "${ppo[@]}" ppo.episodes=64 ppo.max_response=2 ppo.stop='!'
rm -r out

# --- the moving average switched on in the middle
must "${ppo[@]}" ppo.episodes=64 ppo.max_response=2 ppo.ema=0
expect 78 "out/checkpoints/step_00000001.h5 has no ema/" "made without ema (ppo.ema: 0?)" -- "${ppo[@]}" ppo.max_response=2
rm -r out

# --- damaged checkpoints
newest=other/checkpoints/step_00000040.h5
truncate -s -100 $newest
expect 0 "$newest: has " "truncated or replaced" "trying the next older one" "resuming at step 35" -- \
    "$bin/rhetor-pretrain" "$tiny/pretrain.yaml" run.dir=other
identical run/pretrain other
cp $newest cut.h5
expect 65 "from.model: cut.h5: has no manifest cut.json" -- "${sft[@]}" from.model=cut.h5
for f in other/checkpoints/*.h5; do truncate -s -1 "$f"; done
expect 65 "from.model: other/checkpoints: none of its 2 checkpoints is good" "truncated" -- "${sft[@]}" from.model=other
expect 65 "$newest: has " "use another checkpoint" -- "${sft[@]}" from.model=$newest

# --- another tokenizer
must "$bin/rhetor-data" tokenizer --vocab 300 --out small.json run/data/documents_heldout.jsonl
must "$bin/rhetor-data" encode --tokenizer small.json --out small.h5 run/data/documents_heldout.jsonl
expect 78 "small.json is not the tokenizer that run/train.h5 was encoded with" "rhetor-data encode --tokenizer small.json" -- \
    "${pretrain[@]}" from.tokenizer=small.json
expect 78 "small.h5" "tokenizer" -- "${pretrain[@]}" data.heldout=small.h5
expect 78 "small.h5" "tokenizer" -- "${sft[@]}" data.mix=small.h5
expect 78 "small.h5" "tokenizer" -- "$bin/rhetor-eval" loss -m run/sft small.h5
must "$bin/rhetor-pretrain" "$tiny/pretrain.yaml" run.dir=small from.tokenizer=small.json data.train=small.h5 \
    data.heldout= train.steps=1
must "$bin/rhetor-reward" "$tiny/reward.yaml" run.dir=small-reward from.model=small train.steps=1
expect 78 "run/sft-picked/checkpoints/step_00000020.h5 and small-reward/checkpoints/step_00000001.h5 have different tokenizers (512 tokens" -- \
    "${ppo[@]}" from.reward=small-reward

# --- all threads on one core
if [ "$(env -u OMP_NUM_THREADS nproc)" -ge 2 ]; then # which takes that for the number of cores
    expect 0 "rank 0 has 2 threads but is bound to 1 of " "--bind-to none" -- \
        mpirun -n 2 --oversubscribe --bind-to hwthread "${pretrain[@]}" run.threads=2 train.steps=1
    rm -r out
    expect 0 -- mpirun -n 1 --bind-to none "${pretrain[@]}" run.threads=2 train.steps=1
    ! grep -q "bound" expect.out || fail "a warning without reason: $(cat expect.out)"
fi

# --- a failure on two ranks is said once
rm -rf out
line run/ranked.jsonl 2 '{}'
expect 65 "broken.jsonl:2: " -- mpirun -n 2 --oversubscribe --bind-to none "${reward[@]}" data.train=broken.jsonl

# --- what comes before the ranks have met is said by one, and without MPI
two=(mpirun -n 2 --oversubscribe --bind-to none "${pretrain[@]}")
once() { # CODE TEXT OPTION...: exactly one line with TEXT
    expect "$1" -- "${two[@]}" "${@:3}"
    [ "$(grep -cF -- "$2" expect.out)" = 1 ] || fail "${*:3} on two ranks: expected \"$2\" once: $(cat expect.out)"
}
once 0 "Usage: rhetor-pretrain" --help
once 0 "every_seconds: " --print-config
once 0 "parameters        136960" --dry-run
once 78 "unknown setting model.depth" model.depth=3
once 64 "rhetor-pretrain: two config files" other.yaml
no_mpi=(env OMPI_COMM_WORLD_SIZE=1 OMPI_MCA_pml=none)
! "${no_mpi[@]}" "${pretrain[@]}" train.steps=1 >mpi.out 2>&1 || fail "OMPI_MCA_pml=none does not stop MPI_Init"
rm -rf out
for option in --help --usage --version --print-config --dry-run; do
    must "${no_mpi[@]}" "${pretrain[@]}" $option
done
[ ! -e out ] || fail "one of these wrote a run folder"

for program in "$bin"/rhetor*; do expect 0 "$(basename "$program") 0." -- "$program" --version; done

# --- --overfit: the same batch every time, so its loss only falls
must "${pretrain[@]}" --overfit 1 train.steps=8 optim.schedule=constant optim.warmup=0
losses=$(curve out loss)
awk 'NR > 1 && $1 >= last { exit 1 } { last = $1 } END { exit NR != 8 }' <<<"$losses" ||
    fail "--overfit 1: expected eight falling losses: $losses"
rm -r out
