# cluster.sh: a Slurm of two nodes, n1 and n2, on this machine. Sourced by run.sh.
#   cluster_start DIR   all its state below DIR, ports of its own; leaves with 1 and says why not
#   cluster_stop        ends it, whatever became of it
# Needs root (slurmd starts jobs as their users), no systemd and no cgroups. Partition low is for
# the jobs, high preempts them, test of both kinds: with a grace time (first SIGUSR1, the job may
# leave by itself) and without (SIGTERM, and SIGKILL after KillWait).

# Three neighbouring ports on which nobody listens.
free_ports() {
    local try port
    for try in $(seq 50); do
        port=$((20000 + (RANDOM * 32768 + RANDOM) % 10000))
        local taken=0 p
        for p in 0 1 2; do
            grep -qiE "^ *[0-9]+: [0-9A-F]+:$(printf %04X $((port + p))) " /proc/net/tcp /proc/net/tcp6 2>/dev/null && taken=1
        done
        [ $taken = 1 ] || { echo $port && return; }
    done
    return 1
}

# until_true SECONDS COMMAND...: polls; 1 when it has not succeeded by then
until_true() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.1
    done
}

cluster_conf() { # DIR PORT
    cat <<EOF
ClusterName=rhetor
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$1/munge.sock
CredType=cred/munge
SlurmctldPort=$2
StateSaveLocation=$1/state
SlurmdSpoolDir=$1/spool-%n
TmpFS=$1/tmp-%n
SlurmctldPidFile=$1/slurmctld.pid
SlurmdPidFile=$1/slurmd-%n.pid
SlurmctldLogFile=$1/log/slurmctld.log
SlurmdLogFile=$1/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=pmix
ReturnToService=2
KillWait=10
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
SlurmdParameters=config_overrides
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=1,requeue_delay=1
NodeName=n1 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=$(($2 + 1)) CPUs=1 RealMemory=1000 State=UNKNOWN
NodeName=n2 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=$(($2 + 2)) CPUs=1 RealMemory=1000 State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 GraceTime=60 MaxTime=INFINITE State=UP
PartitionName=high Nodes=ALL PriorityTier=10 MaxTime=INFINITE State=UP
EOF
}

nodes_are_idle() { [ "$(sinfo -h -N -p low -o %T | grep -c idle)" = 2 ]; }

# The daemons become background processes of their own; their pid files are for cluster_stop.
cluster_try() { # DIR
    local dir=$1 port
    port=$(free_ports) || return 1
    rm -rf "$dir/state" "$dir"/spool-n? "$dir/log"
    mkdir -p "$dir/state" "$dir"/spool-n{1,2} "$dir"/tmp-n{1,2} "$dir/log"
    cluster_conf "$dir" "$port" >"$dir/slurm.conf"
    slurmctld -c -f "$dir/slurm.conf" || return 1
    until_true 60 scontrol ping || return 1
    slurmd -N n1 -f "$dir/slurm.conf" && slurmd -N n2 -f "$dir/slurm.conf" || return 1
    until_true 60 nodes_are_idle
}

cluster_start() { # DIR
    cluster=$1
    mkdir -p "$cluster"
    export SLURM_CONF=$cluster/slurm.conf
    (umask 077 && head -c 1024 /dev/urandom >"$cluster/munge.key")
    munged --force --key-file="$cluster/munge.key" --socket="$cluster/munge.sock" \
        --pid-file="$cluster/munged.pid" --log-file="$cluster/munged.log" \
        --seed-file="$cluster/munge.seed" || return 1
    # another test may have taken the ports in between
    local try
    for try in 1 2 3; do
        cluster_try "$cluster" && return
        cluster_stop_slurm
    done
    tail -n 5 "$cluster"/log/*.log
    return 1
}

stop_by() { # PIDFILE...
    local file pid pids=
    for file; do
        pid=$(cat "$file" 2>/dev/null) && [ -n "$pid" ] || continue
        kill "$pid" 2>/dev/null && pids="$pids $pid"
    done
    for pid in $pids; do
        until_true 10 eval "! kill -0 $pid" || kill -KILL "$pid" 2>/dev/null
    done
    rm -f "$@"
}

# What runs under the nodes, by its parents: slurmstepd and its children.
cluster_stop_slurm() {
    [ -e "$cluster/slurmctld.pid" ] && timeout 10 scancel --user=root --full --signal=KILL 2>/dev/null
    [ -e "$cluster/slurmctld.pid" ] && timeout 10 scancel --user=root 2>/dev/null
    [ -e "$cluster/slurmctld.pid" ] && until_true 15 eval '[ -z "$(timeout 5 squeue -h)" ]'
    stop_by "$cluster/slurmd-n1.pid" "$cluster/slurmd-n2.pid" "$cluster/slurmctld.pid"
}

cluster_stop() {
    [ -n "${cluster:-}" ] || return 0
    cluster_stop_slurm
    stop_by "$cluster/munged.pid"
}
