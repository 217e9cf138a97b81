#!/bin/bash
# rhetor-lab: a small lab from end to end; equal steps are made once; killed at ten moments it ends
# with the same results; failures, wrong labs and reports of single runs.
# timeout: 900
. "$RHETOR_ROOT/tests/e2e/lib.sh"
ln -s "$RHETOR_ROOT/configs" configs # the lab names its recipe from here
here=$PWD
lab=("$bin/rhetor-lab" --jobs 2)
count() { ls -d "$here/$1/steps/$2-"* | wc -l; }

cat >"$here/mini.yaml" <<'YAML'
about: two seeds, with and without a KL penalty
recipe: configs/tiny
set: {pretrain:train.steps: 12, sft:train.steps: 6, reward:train.steps: 4}
matrix:
  seed: [1, 2]
  penalty: {none: {ppo.beta: 0}, some: {}}
steps:
  - {name: word, run: 'echo "{\"seed\": ${SEED}, \"list\": [{\"x\": 1, \"y\": {\"z\": ${SEED}}}, {\"x\": 2, \"y\": {\"z\": 7}}]}" >"${RUN}/word.json"'}
measure:
  - name: table
    run: >
      rhetor-eval compare --model sft="${RUN}/sft-picked" --model ppo="${RUN}/ppo" --base sft --reward "${RUN}/reward"
      --prompts "${RUN}/data/eval_prompts.jsonl" --max-records 8 --max-new 8 --seed ${SEED} --json "${RUN}/table.json"
    read: table.json
    rows: rows
  - {name: ppo, read: ppo/metrics.jsonl, take: {step: step, kl: objective/kl}}
  - {name: word, read: word.json, rows: list}
panels:
  - name: sure
    claim: the second seed is larger
    holds: ["every word.y.z[x=2, penalty=none] > 6", "word.y.z[x=1, penalty=none] = 1.5 +- 20"]
    plot: {of: ppo, x: step, y: [kl, kl / 2], lines: penalty}
  - name: false
    claim: seven is less than six
    holds: every word.y.z[x=2, penalty=none] < 6
    plot: {of: table, x: model, y: gold, lines: penalty, kind: bars}
  - name: open
    claim: two seeds do not say which is larger
    holds: ["word.y.z[x=1, penalty=none] > 1.4"]
YAML

# --- uninterrupted
expect 0 "4 cells: seed 1,2 x penalty none,some" "ppo                     4        4" "pretrain                4        2" -- "${lab[@]}" "$here/mini.yaml" --out "$here/whole" --dry-run
[ ! -e "$here/whole" ] || fail "--dry-run has written something"
expect 0 "holds      sure" "fails      false" "undecided  open" -- "${lab[@]}" "$here/mini.yaml" --out "$here/whole"
[ "$(count whole pretrain) $(count whole reward) $(count whole ppo) $(count whole table)" = "2 2 4 4" ] || fail "steps: $(ls "$here/whole/steps")"
results=$here/whole/mini/results.jsonl
[ "$(grep -c '"measure":"table"' "$results") $(grep -c '"measure":"ppo"' "$results") $(grep -c '"measure":"word"' "$results")" = "8 8 8" ] ||
    fail "$(cat "$results")"
grep -q '"measure":"word","penalty":"none","seed":2.0,"x":1,"y.z":2}' "$results" || fail "$(grep word "$results")"
[ -f "$here/whole/mini/cells/seed=2,penalty=none/ppo/metrics.jsonl" ] || fail "no links of the cell"
# a cell's weights are those of rhetor-pipeline
must "$bin/rhetor-pipeline" configs/tiny --run "$here/alone" --seed 2 --until ppo pretrain:train.steps=12 sft:train.steps=6 \
    reward:train.steps=4 ppo.beta=0
identical "$here/alone/ppo" "$here/whole/mini/cells/seed=2,penalty=none/ppo"
# the page has what it must, and nothing from elsewhere
page=$here/whole/mini/report.html
for text in '<svg' 'every word.y.z[x=2, penalty=none] &gt; 6' '✓ holds' '✗ fails' '? undecided' 'seven is less than six'; do
    grep -qF -- "$text" "$page" || fail "the report has no $text"
done
! grep -qE 'https?://|<script|src=' "$page" || fail "the report asks for something: $(grep -oE '.{40}(https?://|<script|src=).{40}' "$page")"
cp "$page" "$here/page"
expect 0 "28 steps for 4 cells, 28 done; 0 s of work left" -- "${lab[@]}" "$here/mini.yaml" --out "$here/whole" --dry-run

# --- killed at ten moments, some of them so that nobody can save
for k in 1 2 3 4 5 6 7 8 9 10; do
    "$bin/rhetor-lab" "$here/mini.yaml" --out "$here/killed" --jobs 2 >"$here/killed.out" 2>&1 &
    pid=$!
    sleep "$((RANDOM % 3)).$((RANDOM % 10))"
    case $((k % 3)) in
    0) kill -TERM $pid 2>/dev/null ;;
    1) kill -KILL $pid 2>/dev/null ;;
    2) kill -KILL $(pgrep -P $pid) $pid 2>/dev/null ;; # the workers, too
    esac
    wait $pid 2>/dev/null
done
must "${lab[@]}" "$here/mini.yaml" --out "$here/killed"
cmp "$results" "$here/killed/mini/results.jsonl" || fail "killed, it has other results"
[ "$(count killed pretrain) $(count killed ppo)" = "2 4" ] || fail "killed: $(ls "$here/killed/steps")"
for step in "$here"/whole/steps/ppo-*; do identical "$step/ppo" "$here/killed/steps/$(basename "$step")/ppo"; done

# --- another level shares what it can; the results and the report of what is there
sed -e 's/some: {}/some: {}, more: {ppo.beta: 0.5}/' "$here/mini.yaml" >"$here/wide.yaml"
expect 0 "32 steps for 6 cells, 28 done" -- "${lab[@]}" "$here/wide.yaml" --out "$here/whole" --dry-run
expect 0 "undecided  open" -- "${lab[@]}" "$here/wide.yaml" --out "$here/whole" --report
[ "$(wc -l <"$here/whole/wide/results.jsonl")" = 28 ] || fail "a partial report: $(wc -l "$here/whole/wide/results.jsonl")"
grep -q "Not everything is measured yet" "$here/whole/wide/report.html" || fail "the partial report does not say so"

# --- steps of the same names say what others may take
sed -e 's/seed: \[1, 2\]/seed: [3]/' "$here/mini.yaml" >"$here/third.yaml"
expect 0 "14 steps for 2 cells, 0 done; " "s of work left" -- "${lab[@]}" "$here/third.yaml" --out "$here/whole" --dry-run
! grep -q "none like them" expect.out || fail "$(cat expect.out)"
expect 0 "0 done; what the others take is told once one of their name is done" -- "${lab[@]}" "$here/third.yaml" --out "$here/nowhere" --dry-run

# --- a step that fails: the others are made, it is named, and tried again
sed -e 's/echo .*word.json"/if [ ${SEED} = 2 ] \&\& [ ! -e "${FLAG}" ]; then exit 9; fi; &/' -e "s#^set: {#set: {FLAG: $here/flag, #" \
    "$here/mini.yaml" >"$here/bad.yaml"
status=0
"${lab[@]}" "$here/bad.yaml" --out "$here/whole" >"$here/bad.out" 2>&1 || status=$?
[ $status = 70 ] && grep -q "failed: word, its log: .*/.lab/log.txt" "$here/bad.out" || fail "left with $status: $(cat "$here/bad.out")"
[ "$(grep -c '"measure":"word"' "$here/whole/bad/results.jsonl")" = 4 ] || fail "the other cells: $(cat "$here/whole/bad/results.jsonl")"
touch "$here/flag"
expect 0 "holds      sure" -- "${lab[@]}" "$here/bad.yaml" --out "$here/whole"

# --- a single run
expect 0 "the report: $here/alone/report.html" -- "$bin/rhetor-lab" --report "$here/alone"
for text in '<h2>pretrain</h2>' '<h2>ppo</h2>' 'objective/kl' '<svg'; do
    grep -qF -- "$text" "$here/alone/report.html" || fail "the run's report has no $text"
done
expect 65 "expected the folder of a run" -- "$bin/rhetor-lab" --report "$here/alone/data"

# --- as jobs of a queue: programs in Slurm's place run the scripts; a worker is warned of its end
mkdir "$here/queue"
cat >"$here/queue/sbatch" <<SH
#!/bin/bash
echo \$((\$(cat "$here/queue/last" 2>/dev/null || echo 0) + 1)) >"$here/queue/last"
id=\$(cat "$here/queue/last")
cp "\${@: -1}" "$here/queue/\$id.sh"
SLURM_JOB_ID=\$id setsid bash "$here/queue/\$id.sh" >>"$here/queue/\$id.out" 2>&1 &
echo \$! >"$here/queue/\$id.pid"
echo \$id
SH
cat >"$here/queue/scontrol" <<SH
#!/bin/bash
if [ "\$1" = requeue ]; then
    echo "requeue \$2" >>"$here/queue/calls"
    SLURM_JOB_ID=\$2 setsid bash -c 'sleep 1; exec bash "$here/queue/\$SLURM_JOB_ID.sh"' >>"$here/queue/\$2.out" 2>&1 &
    echo \$! >"$here/queue/\$2.pid"
else
    echo "JobState=RUNNING"
fi
SH
printf '#!/bin/sh\nexit 1\n' >"$here/queue/squeue"
chmod +x "$here"/queue/s*
submit() { PATH=$here/queue:$PATH "${lab[@]}" "$here/mini.yaml" --out "$here/jobs" --submit cluster.scheduler=slurm cluster.time=60 "$@"; }
submit --dry-run >"$here/dry.out" || fail "--submit --dry-run"
grep -q "^#SBATCH --signal=B:USR1@240" "$here/dry.out" && grep -q "^exec .*rhetor-lab --worker .*mini.yaml --job mini-1" "$here/dry.out" ||
    fail "$(cat "$here/dry.out")"
[ ! -e "$here/jobs/jobs" ] || fail "--dry-run has written something"
submit >"$here/submit.out" || fail "$(cat "$here/submit.out")"
[ "$(cat "$here/queue/last")" = 2 ] || fail "two workers: $(cat "$here/submit.out")"
for k in $(seq 100); do # once it pretrains
    ls "$here"/jobs/steps/pretrain-*/pretrain/log.txt >/dev/null 2>&1 && break
    sleep 0.1
done
kill -USR1 "$(cat "$here/queue/1.pid")" || fail "no first worker: $(cat "$here/queue/1.out")"
for k in $(seq 1200); do
    [ -f "$here/jobs/mini/report.html" ] && ! kill -0 "$(cat "$here/queue/1.pid")" 2>/dev/null && ! kill -0 "$(cat "$here/queue/2.pid")" 2>/dev/null && break
    sleep 0.1
done
cmp "$results" "$here/jobs/mini/results.jsonl" || fail "as jobs it has other results: $(tail "$here"/queue/*.out)"
grep -q "^requeue 1$" "$here/queue/calls" || fail "the warned worker was not put back: $(cat "$here/queue/1.out")"

# --- wrong labs: nothing runs
wrong() { # wrong SED TEXT...: the lab, changed, is refused with these texts
    sed -e "$1" "$here/mini.yaml" >"$here/wrong.yaml"
    expect 78 "wrong.yaml" "${@:2}" -- "${lab[@]}" "$here/wrong.yaml" --out "$here/none"
}
wrong 's/recipe: .*/recipe: configs\/nothing/' "no such recipe"
wrong 's/^panels:/panel:/' "unknown key panel of a lab; did you mean panels?"
wrong 's/ppo.beta: 0}/ppo.betta: 0}/' "unknown setting ppo.betta"
wrong 's/seed: \[1, 2\]/seed: [1, 1]/' "level 1 is there twice"
wrong 's/seed: \[1, 2\]/seed: [one]/' "seed one, expected a whole number"
wrong 's/read: word.json/read: words.json/' "which no step makes"
wrong 's/every word.y.z.x=2, penalty=none. < 6/every word.y.z[x=2, penalty=none] 6/' "expected >, < or = VALUE"
wrong 's/every word.y.z.x=2, penalty=none. < 6/sloppe(word.x, word.x) > 6/' "no function sloppe; did you mean slope?"
wrong 's/of: table/of: tabel/' "which is no measure"
wrong 's/"${RUN}\/word.json"/"${RUN}"/' "names \${RUN} itself"
[ ! -e "$here/none/steps" ] || fail "a wrong lab has run"
expect 64 -- "${lab[@]}" "$here/mini.yaml" --out "$here/a b"
expect 64 "both called mini" -- "${lab[@]}" "$here/mini.yaml" "$here/mini.yaml"
exit 0
