#!/bin/bash
# A conversation with a model whose template is of the user's own words: the template goes with the
# checkpoint from SFT to the reward model and to rhetor-generate; in a pseudo-terminal prompts,
# commands, Ctrl-C and Ctrl-D.
. "$(dirname "$0")/lib.sh"

tiny_data 300 --documents 200 --documents-heldout 10 --sft 100 --sft-heldout 10 \
    --compare 20 --compare-heldout 10 --ppo 10 --eval 10
export RUN=.
must "$bin/rhetor-pretrain" "$tiny/pretrain.yaml" train.steps=5 data.heldout= model.context=256
expect 78 "data.template is roles" "data.roles.user" -- "$bin/rhetor-sft" "$tiny/sft.yaml" data.template=roles
sft() { "$bin/rhetor-sft" "$tiny/sft.yaml" train.steps=5 data.mix_ratio=0 data.mix= "$@"; }
must sft data.template=roles 'data.roles.user="\nQ: "' 'data.roles.assistant="\nA: "'
must sft data.template=hh run.dir=hh
expect 0 'template    {"assistant":"' '\nQ: ' -- "$bin/rhetor-ckpt" show sft

printf 'Hi\n/save talk.jsonl\n' | "$bin/rhetor-generate" -m sft --chat --max-new 8 >piped 2>said ||
    fail "--chat: $(cat said)"
grep -q '^[^>]' piped || fail "no answer: $(cat piped)"
grep -q '2 messages added to talk.jsonl' said || fail "not saved: $(cat said)"
expect 0 "template roles" "Q: Hi" "A:" -- "$bin/rhetor-data" inspect -t tokenizer.json \
    --template '{"user": "\nQ: ", "assistant": "\nA: "}' talk.jsonl
"$bin/rhetor-generate" -m sft --max-new 40 "Hi" | iconv -f utf-8 -t utf-8 >/dev/null || fail "no UTF-8"

tiny_ranked sft
must "$bin/rhetor-reward" "$tiny/reward.yaml" train.steps=2
ppo=(ppo.episodes=16 ppo.batch=16 ppo.max_response=4 data.mix= ptx.coef=0 from.model=sft)
must "$bin/rhetor-ppo" "$tiny/ppo.yaml" "${ppo[@]}"
expect 78 "chat templates" -- "$bin/rhetor-ppo" "$tiny/ppo.yaml" "${ppo[@]}" run.dir=other from.model=hh

command -v script >/dev/null || {
    echo "script (bsdutils) is not installed: the terminal was not tested"
    exit 0
}
# A dialogue: the next thing is typed when the terminal shows that the last one was answered, since
# Ctrl-C throws away what waits in the terminal. The keyboard stays open until the shell behind it
# has said that it left.
mkfifo keys
export bin # a path with spaces stays one word
script -qefc "stty -echo; \"\$bin/rhetor-generate\" -m sft --chat --max-new 8; echo left with \$?" terminal <keys >/dev/null &
exec 3>keys
# shows N REGEX: waits until N lines of the terminal have it
shows() {
    for _ in $(seq 600); do
        [ "$(grep -ac -- "$2" terminal 2>/dev/null)" -ge "$1" ] && return
        sleep 0.1
    done
    fail "the terminal does not show $1 lines with \"$2\": $(cat -v terminal)"
}
shows 1 "^> "
printf 'Hi\n' >&3
shows 2 "^> "
printf '/help\n' >&3
shows 3 "^> "
printf 'forget this' >&3
printf '\003' >&3
shows 4 "^> "
printf '/reset\n' >&3
shows 1 "a new conversation"
shows 5 "^> "
printf '\004' >&3
shows 1 "left with 0"
exec 3>&-
wait
for text in "template roles" "/system"; do shows 1 "$text"; done
