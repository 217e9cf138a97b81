#!/bin/bash
# rhetor-bench: what it counts, on the demo's sizes; the turns that tests/peers/ takes with it.
. "$RHETOR_ROOT/tests/e2e/lib.sh"

# value CASE KEY: of the case or part of that name in bench.json, which has a key a line, indented
value() {
    awk -v name="\"$1\"" -v key="\"$2\":" '
        { match($0, /^ */); depth = RLENGTH; sub(/,$/, "") }
        $1 == "}" { if (named[depth + 2] == name) print found[depth + 2] }
        $1 == "\"name\":" { named[depth] = $2 }
        $1 == key { found[depth] = $2 }' bench.json
}
# about A B: equal to 1e-6
about() { awk -v a="$1" -v b="$2" 'BEGIN {exit !(a > 0 && (a / b - 1) ^ 2 < 1e-12)}'; }

must "$bin/rhetor-bench" --seconds 0 --json bench.json step-demo ppo-demo
[ "$(value step-demo rounds)" = 3 ] || fail "rounds: $(cat bench.json)"

# 4 layers, d 96, V 512, 32 sequences of 128: n (6 (12 L d^2 + V d) + 6 L d T)
about "$(value step-demo flops)" $((4096 * (6 * (12 * 4 * 96 * 96 + 512 * 96) + 6 * 4 * 96 * 128))) ||
    fail "step-demo counts $(value step-demo flops)"

# Ragged responses: 64 lengths as ppo.c says, to 64 tokens at most; prompts of 32.
lengths=$(awk 'BEGIN {for (i = 0; i < 64; i++) {n = 1 + int(log(1 - (i * 37 % 64 + .5) / 64) / log(1 - .0385)); print n < 64 ? n : 64}}')
made=$(awk '{s += $1} END {print s}' <<<"$lengths")
about "$(value rollout tokens)" "$made" || fail "the rollout made $(value rollout tokens) tokens, expected $made"
about "$(value update tokens)" $((made + 64 * 32)) || fail "the update saw $(value update tokens) tokens"
# Both models forward and backward: three layers, and the keys and values of the last, over all tokens;
# the rest of the last, and the head, over the responses. Scoring: forward, four models; the reward
# model's last layer and head see one token.
blocks='{d = 96; n = 32 + $1; row = 20 * d * d + 2 * d * (n + 1)
    all += 3 * (24 * d * d * n + 2 * d * n * (n + 1)) + 4 * d * d * n
    some += row * $1; one += row; head += 2 * 512 * d * $1}'
flops=$(awk "$blocks"' END {printf "%.0f", 3 * (2 * (all + some) + head)}' <<<"$lengths")
about "$(value update flops)" "$flops" || fail "the update counts $(value update flops), expected $flops"
flops=$(awk "$blocks"' END {printf "%.0f", 4 * all + 3 * some + one + 2 * head}' <<<"$lengths")
about "$(value scoring flops)" "$flops" || fail "scoring counts $(value scoring flops), expected $flops"
sum=$(awk -v a="$(value rollout flops)" -v b="$(value scoring flops)" -v c="$(value update flops)" 'BEGIN {print a + b + c}')
about "$(value ppo-demo flops)" "$sum" || fail "the parts do not add up to ppo-demo"

# A round for every line, and nothing after the last.
[ "$(printf '\n\n' | "$bin/rhetor-bench" --turns decode-demo | grep -c '"seconds":')" = 2 ] || fail "turns"
[ "$("$bin/rhetor-bench" --turns decode-demo </dev/null)" = '{"ready":"decode-demo"}' ] || fail "no turn"
expect 64 'no case "stop"' -- "$bin/rhetor-bench" stop
expect 64 'no case "step"' -- "$bin/rhetor-bench" --turns step
exit 0
