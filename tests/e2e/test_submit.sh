#!/bin/bash
# rhetor-submit without a cluster: the job scripts against golden ones (tests/golden/jobs) and the
# documented syntax; the calls of sbatch, qsub and bsub against programs that record them; the lives
# of a job. tests/slurm/run.sh does it on a real Slurm.
# Golden scripts are rewritten by GOLDEN=write make test T=submit; read the diff.
. "$(dirname "$0")/lib.sh"
submit=$bin/rhetor-submit
pipeline=$bin/rhetor-pipeline
golden=$root/tests/golden/jobs
calls=$PWD/calls
unset SLURM_JOB_ID PBS_JOBID LSB_JOBID

# --- programs that record their calls: fake SET NAME BODY
fake() {
    mkdir -p "fakes/$1"
    printf '#!/bin/bash\necho "%s $*" >>%q\n%s\n' "$2" "$calls" "$3" >"fakes/$1/$2"
    chmod +x "fakes/$1/$2"
}
here=$(printf %q "$PWD")
next="read -r n <$here/last; n=\$((n + 1)); echo \$n >$here/last"
refuse="[ ! -e $here/refuse ] || [ \$n != 103 ] || { echo 'error: Batch job submission failed:' >&2; echo 'no such partition' >&2; exit 1; }"
fake slurm sbatch "$next; $refuse; echo \$n"
fake slurm squeue "[ ! -s $here/queue ] || { read -r s <$here/queue; echo \$s; exit; }; echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"
fake slurm scontrol "[ \$1 != show ] || { read -r s <$here/queue; echo \"JobId=7 JobState=\$s Reason=None\"; }"
fake pbs qsub "$next; $refuse; echo \$n.server"
fake pbs qstat "[ ! -s $here/queue ] || { read -r s <$here/queue; echo 'Job id Name User Time Use S Queue'; echo '-- -- -- -- - -'; echo \"\$1 pretrain me 00:00:10 \$s workq\"; exit; }; echo \"qstat: Unknown Job Id \$1\" >&2; exit 153"
fake pbs qrerun "[ ! -e $here/refuse ] || { echo 'qrerun: Unauthorized Request' >&2; exit 159; }"
fake pbs qalter ""
fake lsf bsub "$next; $refuse; read -r line; echo \"bsub read \$line\" >>$here/calls; echo \"Job <\$n> is submitted to default queue <normal>.\""
fake lsf bjobs "[ ! -s $here/queue ] || { read -r s <$here/queue; echo \$s; exit; }; echo \"Job <\$4> is not found\" >&2; exit 255"
mkdir -p fakes/none fakes/both
cp fakes/slurm/* fakes/pbs/* fakes/both/
# in/SET/rhetor-submit: with only these programs in PATH. in/job-SET/rhetor-pipeline: as a job there.
for set in none slurm pbs lsf both; do
    mkdir -p in/$set
    printf '#!/bin/bash\nPATH=%q exec %q "$@"\n' "$PWD/fakes/$set" "$submit" >in/$set/rhetor-submit
    chmod +x in/$set/rhetor-submit
done
for job in slurm:SLURM_JOB_ID=7 pbs:PBS_JOBID=118.server lsf:LSB_JOBID=8; do
    set=${job%%:*}
    mkdir -p in/job-$set
    printf '#!/bin/bash\nPATH=%q:$PATH %s exec %q %q --job pretrain --only pretrain "$@"\n' "$PWD/fakes/$set" "${job#*:}" "$pipeline" "$tiny" >in/job-$set/rhetor-pipeline
    chmod +x in/job-$set/rhetor-pipeline
done
fresh() { rm -rf runs queue refuse && : >calls && echo 100 >last; }
same_calls() { # TEXT: what was called since fresh
    [ "$(cat calls)" = "$1" ] || fail "calls: $(diff <(echo "$1") calls)"
}

# --- scripts: golden, bash -n, the documented syntax
cat >cluster.yaml <<'YAML'
cluster:
  nodes: 4
  ranks_per_node: 2
  threads: 8
  time: "1-02:30:00"
  partition: long
  account: team7
  prologue: |
    module purge
    module load openmpi/4.1 # $${HOME} stays the shell's
  steps: ["pretrain:time=48:00:00", "ppo:nodes=2", "ppo:threads=16"]
YAML
syntax() { # FILE: every directive is one that the queue documents, and stands before all commands
    case $1 in
    *slurm*) pattern='^#SBATCH --(job-name=[A-Za-z0-9._-]+|nodes=[0-9]+|ntasks-per-node=[0-9]+|cpus-per-task=[0-9]+|time=[0-9]+:[0-9]{2}:[0-9]{2}|partition=[a-z]+|account=[a-z0-9]+|signal=(B:)?USR1@[0-9]+|requeue|open-mode=append|kill-on-invalid-dep=yes|output=[A-Za-z0-9_./-]+|constraint=[a-z0-9]+)$' ;;
    *pbs*) pattern='^#PBS -(N [A-Za-z][A-Za-z0-9._-]{0,14}|l select=[0-9]+:ncpus=[0-9]+:mpiprocs=[0-9]+:ompthreads=[0-9]+|l place=scatter|l walltime=[0-9]+:[0-9]{2}:[0-9]{2}|q [a-z]+|A [a-z0-9]+|r y|V|j oe|o [A-Za-z0-9_./-]+)$' ;;
    *lsf*) pattern='^#BSUB -(J [A-Za-z0-9._-]+|n [0-9]+|R "span\[ptile=[0-9]+\]"|R "affinity\[core\([0-9]+\)\]"|W [0-9]+|wt [0-9]+|wa USR1|q [a-z]+|P [a-z0-9]+|Q 75|r|ti|o [A-Za-z0-9_./-]+)$' ;;
    esac
    bash -n "$1" || fail "$1 is no bash"
    grep -E '^#(SBATCH|PBS|BSUB)' "$1" >directives
    [ "$(wc -l <directives)" -ge 8 ] || fail "$1 has no directives"
    ! grep -vE "$pattern" directives || fail "$1: not as documented (above)"
    sed '1,/^[^#]/d' "$1" | grep -qE '^#(SBATCH|PBS|BSUB)' && fail "$1: a directive after the first command"
    return 0
}
compare() { # NAME QUEUE OPTION...
    local name=$1 queue=$2
    fresh
    must "in/$queue/rhetor-submit" "$tiny" --cluster cluster.yaml "${@:3}"
    for script in world pretrain sample ppo; do
        syntax_name=$queue-$script.sh
        # a path with a space is quoted
        sed "s,$PWD,/WORK,g; s,$bin,/BIN,g; s,$root,/ROOT,g; s,'\\(/[A-Z]*[a-z/-]*\\)',\\1,g" "runs/tiny/jobs/$script.sh" >"$syntax_name"
        syntax "$syntax_name"
        [ "${GOLDEN:-}" != write ] || { mkdir -p "$golden/$name" && cp "$syntax_name" "$golden/$name/$script.sh"; }
        diff -u "$golden/$name/$script.sh" "$syntax_name" || fail "$name/$script.sh is not the golden one (above)"
    done
    for script in runs/tiny/jobs/*.sh; do bash -n "$script" || fail "$script is no bash"; done
}
compare slurm slurm "cluster.options=[--constraint=avx512]"
compare slurm-mpirun slurm --launcher mpirun
compare pbs pbs
compare lsf lsf pretrain:optim.lr=2e-3 'pretrain:data.train=a b.h5'

# --- who waits for whom
fresh
expect 0 "101        world, tokenizer, corpus" "102        pretrain, 1 node x 2 ranks x 1 thread, after 101" \
    "to cancel: scancel 101 102 103 104 105 106 107 108 109" -- in/slurm/rhetor-submit "$tiny" --ranks-per-node 2
same_calls "sbatch --parsable runs/tiny/jobs/world.sh
sbatch --parsable --dependency=afterok:101 runs/tiny/jobs/pretrain.sh
sbatch --parsable --dependency=afterok:102 runs/tiny/jobs/sft.sh
sbatch --parsable --dependency=afterok:103 runs/tiny/jobs/sample.sh
sbatch --parsable --dependency=afterok:104 runs/tiny/jobs/dpo.sh
sbatch --parsable --dependency=afterok:105 runs/tiny/jobs/reward.sh
sbatch --parsable --dependency=afterok:106 runs/tiny/jobs/pick.sh
sbatch --parsable --dependency=afterok:107 runs/tiny/jobs/ppo.sh
sbatch --parsable --dependency=afterok:108 runs/tiny/jobs/grpo.sh"
fresh
must in/pbs/rhetor-submit "$tiny"
grep -qx "qsub -W depend=afterok:101.server runs/tiny/jobs/pretrain.sh" calls || fail "$(cat calls)"
fresh
must in/lsf/rhetor-submit "$tiny"
grep -qx "bsub -w done(101)" calls && grep -qx "bsub read #!/bin/bash" calls || fail "$(cat calls)"

# --- seeds
fresh
expect 0 "runs/tiny, by slurm" "runs/tiny-seed2, by slurm" "runs/tiny-seed5, by slurm" "119        world" -- \
    in/slurm/rhetor-submit "$tiny" --array 1-2,5
grep -q -- "--run runs/tiny-seed5 --seed 5 " runs/tiny-seed5/jobs/ppo.sh || fail "$(cat runs/tiny-seed5/jobs/ppo.sh)"
[ "$(grep -c afterok calls)" = 24 ] || fail "$(cat calls)"

# --- submitted already; refused half way; cancelled
fresh
touch refuse
expect 78 "runs/tiny: job sft was not submitted" "scancel 101 102 cancels them" "no such partition" -- \
    in/slurm/rhetor-submit "$tiny"
grep -q '"id": "102"' runs/tiny/jobs/jobs.json || fail "$(cat runs/tiny/jobs/jobs.json)"
rm refuse
echo PENDING >queue
expect 78 "runs/tiny is submitted already: job 101 (world) is PENDING" "scancel 101 102 cancels it" -- \
    in/slurm/rhetor-submit "$tiny"
echo CANCELLED >queue
expect 0 "104        world" -- in/slurm/rhetor-submit "$tiny"
rm queue # long over: not known any more
expect 0 "113        world" -- in/slurm/rhetor-submit "$tiny"
for case in "pbs R qdel" "lsf PEND bkill"; do
    read -r queue state cancel <<<"$case"
    fresh
    touch refuse
    expect 78 "$cancel 101" -- "in/$queue/rhetor-submit" "$tiny"
    rm refuse
    echo "$state" >queue
    expect 78 "submitted already" "is $state" -- "in/$queue/rhetor-submit" "$tiny"
    rm queue
    expect 0 -- "in/$queue/rhetor-submit" "$tiny"
done

# --- dry: nothing is written, no queue is asked
fresh
expect 0 "== runs/tiny/jobs/ppo.sh, after pick" "#PBS -l select=1" -- in/none/rhetor-submit "$tiny" --scheduler pbs --dry-run
[ ! -e runs ] || fail "--dry-run wrote into runs/"
same_calls ""

# --- mistakes
expect 78 "nowhere: no such recipe" -- in/slurm/rhetor-submit nowhere
expect 64 "no queue here: none of sbatch (Slurm), qsub (PBS), bsub (LSF)" "rhetor-pipeline $tiny" -- in/none/rhetor-submit "$tiny"
expect 64 "sbatch is not in PATH" -- in/pbs/rhetor-submit "$tiny" --scheduler slurm
expect 64 "both sbatch and qsub are in PATH: --scheduler slurm or pbs" -- in/both/rhetor-submit "$tiny"
expect 64 "--array makes a run folder a seed" -- in/slurm/rhetor-submit "$tiny" --array 1-3 --run x
expect 64 "expected seeds such as 1-3" -- in/slurm/rhetor-submit "$tiny" --array 3-1
expect 64 "1-3,2: seed 2 is there twice" -- in/slurm/rhetor-submit "$tiny" --array 1-3,2
expect 64 "--seed or --array, not both" -- in/slurm/rhetor-submit "$tiny" --array 1-3 --seed 1
expect 64 '--seed is "1-3"; expected a whole number from 0 to' -- in/slurm/rhetor-submit "$tiny" --seed 1-3
expect 78 "slorm" "did you mean slurm?" -- in/slurm/rhetor-submit "$tiny" --scheduler slorm
expect 78 "cluster.nodes is 0, expected an integer from 1" -- in/slurm/rhetor-submit "$tiny" --nodes 0
expect 78 'cluster.time is "1:30": expected minutes, H:MM:SS or D-H:MM:SS' -- in/slurm/rhetor-submit "$tiny" --time 1:30
for time in 0 -5 5- 1-2 1--2:00:00 1:00:00x 10d 4:00:0:0; do
    expect 78 "cluster.time" "expected minutes, H:MM:SS or D-H:MM:SS" -- in/slurm/rhetor-submit "$tiny" --time="$time"
done
expect 78 "cluster.lead is 240 (default)" "asked to stop before it began" -- in/slurm/rhetor-submit "$tiny" --time 4
expect 78 "srun is Slurm's; expected mpirun with pbs" -- in/pbs/rhetor-submit "$tiny" --launcher srun
expect 78 "pretrain: 8 nodes x 4 ranks are more than train.batch gives work to (16)" -- \
    in/slurm/rhetor-submit "$tiny" --nodes 8 --ranks-per-node 4
expect 78 'no step "pretran"; did you mean pretrain?' -- in/slurm/rhetor-submit "$tiny" pretran:cluster.nodes=2
expect 78 "unknown setting optim.lrr; did you mean optim.lr?" -- in/slurm/rhetor-submit "$tiny" optim.lrr=1
printf 'cluster:\n  nodez: 2\n' >wrong.yaml
expect 78 "wrong.yaml:2:10: unknown setting cluster.nodez; did you mean cluster.nodes?" -- \
    in/slurm/rhetor-submit "$tiny" --cluster wrong.yaml
printf 'cluster: {steps: ["pretrain:nodse=2"]}\n' >wrong.yaml
expect 78 "unknown setting cluster.nodse; did you mean cluster.nodes?" -- in/slurm/rhetor-submit "$tiny" --cluster wrong.yaml
expect 78 'cluster.scheduler is "slorm"' "expected auto, slurm, pbs or lsf" -- in/slurm/rhetor-submit "$tiny" --scheduler slorm

# --- what could become shell, or mean something to the queue
evil=$'a\ntouch hacked'
dry=(in/none/rhetor-submit "$tiny" --dry-run --scheduler)
# the launcher's options of other MPIs
expect 0 "srun --mpi=pmix " -- "${dry[@]}" slurm
expect 0 "srun --mpi=pmi2 " -- "${dry[@]}" slurm cluster.mpi=intel
expect 0 "srun --mpi=cray_shasta " -- "${dry[@]}" slurm cluster.mpi=cray
expect 0 'launch="mpirun -n 2 --map-by ppr:2:node:PE=3 ' -- "${dry[@]}" pbs --ranks-per-node 2 --threads 3
expect 0 'launch="mpiexec -n 2 -ppn 2 -bind-to core:3 -genvlist ' -- "${dry[@]}" pbs --ranks-per-node 2 --threads 3 cluster.mpi=mpich
expect 0 'launch="mpirun -n 2 -ppn 2 -genv I_MPI_PIN_DOMAIN 3 ' -- "${dry[@]}" lsf --ranks-per-node 2 --threads 3 cluster.mpi=intel
for queue in slurm pbs lsf; do
    for option in --partition --account; do
        expect 78 "cluster.${option#--} is" "a control character, such as a line break" -- "${dry[@]}" $queue $option "$evil"
        expect 78 "cluster.${option#--} is" 'one of " \ $ `' -- "${dry[@]}" $queue $option 'a$(touch hacked)'
    done
    expect 78 "a control character" "choose another with --run" -- "${dry[@]}" $queue --run "$evil"
    printf 'cluster: {options: ["--x\\ntouch hacked"]}\n' >evil.yaml
    expect 78 "cluster.options" "a control character" -- "${dry[@]}" $queue --cluster evil.yaml
    # settings may hold what they like: a line break stays within its word
    expect 0 "\$'sft:data.roles.user=a\\012touch hacked'" -- "${dry[@]}" $queue "sft:data.roles.user=$evil"
done
mkdir -p "$evil"
cp "$tiny"/*.yaml "$evil"
expect 78 "the recipe's folder has a control character" -- in/none/rhetor-submit "$evil" --dry-run --scheduler slurm --run run
fresh
expect 0 '#SBATCH --output="runs/a b %%j/jobs/ppo.out"' "--run 'runs/a b %j'" -- "${dry[@]}" slurm --run "runs/a b %j"
expect 0 '#PBS -o "runs/a b %j/jobs/ppo.out"' -- "${dry[@]}" pbs --run "runs/a b %j"
expect 78 "a %, which is a pattern there" -- "${dry[@]}" lsf --run "runs/a%J"
[ ! -e hacked ] || fail "a path became shell"

fake slurm sinfo "echo '2 64'; echo '1 128+'"
expect 78 "pretrain asks for 2 nodes of 100 cores, but sinfo shows 1 of that size" -- \
    in/slurm/rhetor-submit "$tiny" --nodes 2 --threads 100
rm fakes/slurm/sinfo
expect 64 "--job: no job of Slurm, PBS or LSF" -- "$pipeline" "$tiny" --run nojob --job world --until world

# --- the lives of a job: it runs out of time, is stopped, makes no progress
fresh
export OMP_NUM_THREADS=1
must in/slurm/rhetor-submit "$tiny"
must "$pipeline" "$tiny" --until corpus
echo RUNNING >queue
life=(--launch "mpirun -n 2 --bind-to none" pretrain:run.deadline=0.001)
for n in 1 2; do
    : >calls
    expect 75 "pretrain: job 7 of slurm, start $n" "goes back into the queue at step $n ($n. time)" -- \
        in/job-slurm/rhetor-pipeline "${life[@]}"
    same_calls "scontrol show job 7
scontrol requeue 7"
done
expect 0 -- "$pipeline" "$tiny" --status
grep -qE '^pretrain +stopped +2/40 .* 102 +1$' expect.out || fail "--status: $(cat expect.out)"
expect 0 '"job": "102"' '"restarts": 1' '"steps": 40' '"state": "stopped"' -- "$pipeline" "$tiny" --status --json
for state in CANCELLED PREEMPTED; do # Slurm decides
    : >calls
    echo $state >queue
    expect 75 "job 7" -- in/job-slurm/rhetor-pipeline "${life[@]}"
    same_calls "scontrol show job 7"
done
# a launcher that fails where it has worked is tried again, but its stage's own failure is the end
echo RUNNING >queue
expect 75 "goes back into the queue" -- in/job-slurm/rhetor-pipeline --launch false
printf '#!/bin/sh\nexit 70\n' >exit70 && chmod +x exit70
expect 70 "ended with 70" -- in/job-slurm/rhetor-pipeline --launch ./exit70
sed -i 's/"stalled": [0-9]*/"stalled": 2/; s/"step": [0-9]*/"step": 5/' runs/tiny/jobs/pretrain.lives.json
expect 70 "in 4 lives it has not passed step 5; give it more time" -- in/job-slurm/rhetor-pipeline "${life[@]}"
# a new submission is patient again, and begins with what is left to do
rm queue
expect 0 "from where it stopped" "110        pretrain" -- in/slurm/rhetor-submit "$tiny"
grep -q '"stalled": 0' runs/tiny/jobs/pretrain.lives.json || fail "$(cat runs/tiny/jobs/pretrain.lives.json)"
# stopped by a person
touch runs/tiny/pretrain/STOP
echo RUNNING >queue
: >calls
expect 75 "job 7 does not put itself back: it was stopped by file STOP" -- \
    in/job-slurm/rhetor-pipeline
same_calls "scontrol show job 7"

# LSF puts a 75 back, PBS has qrerun, or where that is forbidden a successor for whom the next waits
expect 75 "goes back into the queue at step 7" -- in/job-lsf/rhetor-pipeline "${life[@]}"
rm -f queue
must in/both/rhetor-submit "$tiny" --scheduler pbs
: >calls
expect 75 "goes back into the queue at step 8" -- in/job-pbs/rhetor-pipeline "${life[@]}"
same_calls "qrerun 118.server"
touch refuse
: >calls
expect 75 "job 118.server goes on as 126.server" -- in/job-pbs/rhetor-pipeline "${life[@]}"
same_calls "qrerun 118.server
qsub runs/tiny/jobs/pretrain.sh
qalter -W depend=afterok:126.server 119.server"
grep -q '"id": "126.server"' runs/tiny/jobs/jobs.json || fail "$(cat runs/tiny/jobs/jobs.json)"

# all done: nothing to submit
mkdir -p small
printf 'steps:\n  - {name: only, run: "true"}\n' >small/pipeline.yaml
must "$pipeline" small
expect 0 "runs/small: all steps are done" -- in/slurm/rhetor-submit small
exit 0
