#!/bin/bash
# Nodes with slow links on one machine: N network namespaces on a bridge, each with a host name of its
# own and a link of RATE, in which mpirun starts RANKS ranks each. As root, with ip and tc.
#   tests/net/run.sh NODES RANKS RATE COMMAND...     tests/net/run.sh 2 4 100mbit bin/rhetor-bench comm
#   CUT="AFTER [FOR]"                                takes the last node's link away after so many seconds
set -eu
nodes=$1 ranks=$2 rate=$3
shift 3
tag=rh$$
folder=$(mktemp -d)
bridge=$tag.b
clean() {
    for i in $(seq "$nodes"); do ip netns del "$tag.$i" 2>/dev/null || true; done
    ip link del "$bridge" 2>/dev/null || true
    rm -rf "$folder"
}
trap clean EXIT
subnet=10.$((100 + $$ % 100)).$(($$ / 100 % 250))
ip link add "$bridge" type bridge
ip addr add "$subnet.254/24" dev "$bridge"
ip link set "$bridge" up
hosts=
for i in $(seq "$nodes"); do
    ip netns add "$tag.$i"
    ip link add "$tag.o$i" type veth peer name eth0 netns "$tag.$i"
    ip link set "$tag.o$i" master "$bridge" up
    ip -n "$tag.$i" addr add "$subnet.$i/24" dev eth0
    ip -n "$tag.$i" link set eth0 up
    ip -n "$tag.$i" link set lo up
    if [ "$rate" != unlimited ]; then # what leaves the node, and what comes to it
        tc -n "$tag.$i" qdisc add dev eth0 root tbf rate "$rate" burst 256kb latency 20ms
        tc qdisc add dev "$tag.o$i" root tbf rate "$rate" burst 256kb latency 20ms
    fi
    hosts=${hosts:+$hosts,}$subnet.$i:$ranks
done
cat >"$folder/agent" <<END
#!/bin/bash
host=\$1; shift
exec ip netns exec "$tag.\${host##*.}" unshare --uts bash -c "hostname node\${host##*.}; \$*"
END
chmod +x "$folder/agent"
if [ -n "${CUT:-}" ]; then
    read -r after for_ <<<"$CUT"
    (
        sleep "$after"
        ip link set "$tag.o$nodes" down
        [ -z "$for_" ] || { sleep "$for_" && ip link set "$tag.o$nodes" up; }
    ) &
fi
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1
rc=0
mpirun --host "$hosts" --oversubscribe --bind-to none --mca plm_rsh_agent "$folder/agent" \
    --mca oob_tcp_if_include "$subnet.0/24" --mca btl_tcp_if_include "$subnet.0/24" --mca btl self,vader,tcp \
    --mca pml ob1 --mca mpi_yield_when_idle 1 -x OMP_NUM_THREADS ${MPIRUN:-} "$@" || rc=$?
exit "$rc"
