/* comm_binding.c: do the ranks have the cores that their threads need? mpirun binds each rank of a small
 * job to one core by default, and a run is then slower by the number of threads without
 * any other sign. Every rank's CPU set is compared with its threads, and the union of the sets of
 * one node with the threads of its ranks. */
#include "base/text.h"
#include "dist/comm.h"

#include "base/error.h"
#include "base/log.h"

#include <omp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MASK_CPUS = 8192, MASK_BYTES = MASK_CPUS / 8 };

typedef union CpuMask {
    cpu_set_t set;
    unsigned char bytes[MASK_BYTES];
} CpuMask;

/* With OMP_PROC_BIND the OpenMP runtime has already pinned this thread to one place: then the union
 * of the places is what the process may use. */
static void my_cpus(CpuMask *m) {
    memset(m, 0, sizeof *m);
    int places = omp_get_num_places();
    for (int p = 0; p < places; p++) {
        int n = omp_get_place_num_procs(p);
        AUTOFREE int *id = xmalloc((size_t)n * sizeof *id);
        omp_get_place_proc_ids(p, id);
        for (int i = 0; i < n; i++)
            if (id[i] < MASK_CPUS) CPU_SET_S(id[i], MASK_BYTES, &m->set);
    }
    if (CPU_COUNT_S(MASK_BYTES, &m->set) == 0) sched_getaffinity(0, MASK_BYTES, &m->set);
}

int comm_cores(void) {
    CpuMask m;
    my_cpus(&m);
    int n = CPU_COUNT_S(MASK_BYTES, &m.set);
    return n > 0 ? n : 1;
}

typedef struct RankPlace {
    char host[64];
    int threads;
    int free_cores; /* of the node, for this job */
    CpuMask mask;
} RankPlace;

static int free_cores(const CpuMask *mine) {
    CpuMask all;
    memset(&all, 0, sizeof all);
    sched_getaffinity(getppid(), MASK_BYTES, &all.set);
    CPU_OR_S(MASK_BYTES, &all.set, &all.set, &mine->set);
    return CPU_COUNT_S(MASK_BYTES, &all.set);
}

/* srun started us directly (mpirun inside a job sets OMPI_COMMAND). */
static bool under_srun(void) { return getenv("SLURM_STEP_NUM_TASKS") && !getenv("OMPI_COMMAND"); }

static void warn_rank(const RankPlace *p, int rank, int cores) {
    if (cores >= p->free_cores)
        log_warn("rank %d has %d threads on the %d core%s of %s: threads will take turns; use "
                 "run.threads=%d",
                 rank, p->threads, cores, TEXT_S(cores), p->host, cores);
    else if (under_srun())
        log_warn("rank %d has %d threads but is bound to %d of %d cores of %s; use srun "
                 "--cpus-per-task=%d, or run.threads=%d",
                 rank, p->threads, cores, p->free_cores, p->host, p->threads, cores);
    else if (getenv("OMPI_COMMAND"))
        log_warn("rank %d has %d threads but is bound to %d of %d cores of %s; use mpirun --map-by "
                 "slot:PE=%d (or --bind-to none), or run.threads=%d",
                 rank, p->threads, cores, p->free_cores, p->host, p->threads, cores);
    else
        log_warn("%d threads, but this process is bound to %d of %d cores of %s; start it without "
                 "taskset, or use run.threads=%d",
                 p->threads, cores, p->free_cores, p->host, cores);
}

/* All ranks of one node: their threads and the cores that they may use together. */
typedef struct HostNode {
    const char *host;
    int ranks, threads, cores, free_cores;
} HostNode;

static HostNode node_of(const RankPlace *place, int size, const RankPlace *p) {
    HostNode n = {.host = p->host, .free_cores = p->free_cores};
    CpuMask all;
    memset(&all, 0, sizeof all);
    for (int q = 0; q < size; q++) {
        if (strcmp(place[q].host, p->host) != 0) continue;
        CPU_OR_S(MASK_BYTES, &all.set, &all.set, &place[q].mask.set);
        n.ranks++;
        n.threads += place[q].threads;
    }
    n.cores = CPU_COUNT_S(MASK_BYTES, &all.set);
    return n;
}

/* True if it had something to say. */
static bool warn_node(const HostNode *n) {
    int share = n->free_cores / n->ranks > 0 ? n->free_cores / n->ranks : 1;
    if (n->threads > n->cores && n->cores >= n->free_cores && n->threads == n->ranks)
        log_warn(
            "%d ranks share the %d cores of %s and will take turns; use at most %d ranks a node",
            n->ranks, n->cores, n->host, n->cores);
    else if (n->threads > n->cores && n->cores >= n->free_cores)
        log_warn("the %d ranks on %s run %d threads on %d cores and will take turns; use fewer "
                 "ranks a node, or run.threads=%d",
                 n->ranks, n->host, n->threads, n->cores, share);
    else if (n->threads > n->cores && under_srun())
        log_warn("the %d ranks on %s run %d threads but are bound to the same %d of %d cores; use "
                 "srun --cpus-per-task=%d",
                 n->ranks, n->host, n->threads, n->cores, n->free_cores, share);
    else if (n->threads > n->cores)
        log_warn("the %d ranks on %s run %d threads but are bound to the same %d of %d cores; use "
                 "mpirun --map-by slot:PE=%d (or --bind-to none)",
                 n->ranks, n->host, n->threads, n->cores, n->free_cores, share);
    else if (n->cores * 2 <= n->free_cores && getenv("OMPI_COMMAND"))
        log_warn("mpirun bound the %d rank%s on %s to %d of %d cores, the others are idle; use "
                 "mpirun --map-by slot:PE=%d (or --bind-to none) with run.threads=%d",
                 n->ranks, TEXT_S(n->ranks), n->host, n->cores, n->free_cores, share, share);
    else
        return false;
    return true;
}

bool comm_check_binding(Comm *c, int threads) {
    int size = comm_size(c);
    RankPlace me = {.threads = threads};
    gethostname(me.host, sizeof me.host - 1);
    my_cpus(&me.mask);
    me.free_cores = free_cores(&me.mask);
    AUTOFREE char *bytes = NULL;
    AUTOFREE size_t *offsets = xmalloc((size_t)(size + 1) * sizeof *offsets);
    comm_allgather_bytes(c, &me, sizeof me, &bytes, offsets);
    const RankPlace *place = (const RankPlace *)bytes;

    /* One warning, for the first rank or node that is wrong; rank 0 speaks. */
    bool said = comm_rank(c) != 0;
    for (int r = 0; !said && r < size; r++) {
        int cores = CPU_COUNT_S(MASK_BYTES, &place[r].mask.set);
        if ((said = cores < place[r].threads)) warn_rank(&place[r], r, cores);
    }
    for (int r = 0; !said && r < size; r++) {
        if (r > 0 && strcmp(place[r].host, place[r - 1].host) == 0) continue;
        HostNode n = node_of(place, size, &place[r]);
        said = warn_node(&n);
    }
    return said && comm_rank(c) == 0;
}
