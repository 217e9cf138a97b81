/* binding.c: do the ranks have the cores that their threads need? mpirun binds each rank of a small
 * job to one core unless told otherwise, and a run is then slower by the number of threads without
 * any other sign. Every rank's CPU set is compared with its threads, and the union of the sets of
 * one node with the threads of its ranks. */
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
        int *id = xmalloc((size_t)n * sizeof *id);
        omp_get_place_proc_ids(p, id);
        for (int i = 0; i < n; i++)
            if (id[i] < MASK_CPUS) CPU_SET_S(id[i], MASK_BYTES, &m->set);
        free(id);
    }
    if (CPU_COUNT_S(MASK_BYTES, &m->set) == 0) sched_getaffinity(0, MASK_BYTES, &m->set);
}

int comm_cores(void) {
    CpuMask m;
    my_cpus(&m);
    int n = CPU_COUNT_S(MASK_BYTES, &m.set);
    return n > 0 ? n : 1;
}

typedef struct Place {
    char host[64];
    int threads, cpus_of_node;
    CpuMask mask;
} Place;

static const char *launcher(void) {
    return getenv("OMPI_COMM_WORLD_SIZE") && !getenv("SLURM_STEP_NUM_TASKS") ? "mpirun"
           : getenv("PMIX_RANK") && getenv("SLURM_STEP_NUM_TASKS")           ? "srun"
                                                                             : "mpirun";
}

static void warn_few_cores(const Place *p, int rank, int size, int cores) {
    if (cores >= p->cpus_of_node)
        log_warn("%d threads on %d cores (rank %d on %s): threads will take turns; use "
                 "run.threads=%d",
                 p->threads, cores, rank, p->host, cores);
    else if (size == 1)
        log_warn("%d threads, but this process may use only %d of the %d cores of %s; start it "
                 "without taskset, with mpirun --bind-to none, or use run.threads=%d",
                 p->threads, cores, p->cpus_of_node, p->host, cores);
    else if (strcmp(launcher(), "srun") == 0)
        log_warn("rank %d has %d threads but is bound to %d core%s of %s; use srun "
                 "--cpus-per-task=%d, or run.threads=%d",
                 rank, p->threads, cores, cores == 1 ? "" : "s", p->host, p->threads, cores);
    else
        log_warn("rank %d has %d threads but is bound to %d core%s of %s; use mpirun --map-by "
                 "slot:PE=%d (or --bind-to none), or run.threads=%d",
                 rank, p->threads, cores, cores == 1 ? "" : "s", p->host, p->threads, cores);
}

void comm_check_binding(Comm *c, int threads) {
    int size = comm_size(c);
    Place me = {.threads = threads, .cpus_of_node = (int)sysconf(_SC_NPROCESSORS_ONLN)};
    gethostname(me.host, sizeof me.host - 1);
    my_cpus(&me.mask);
    char *bytes;
    size_t *offsets = xmalloc((size_t)(size + 1) * sizeof *offsets);
    comm_allgather_bytes(c, &me, sizeof me, &bytes, offsets);
    const Place *place = (const Place *)bytes;

    /* One warning, for the first rank or node that is wrong; rank 0 speaks. */
    for (int r = 0; comm_rank(c) == 0 && r < size; r++) {
        const Place *p = place + r;
        int cores = CPU_COUNT_S(MASK_BYTES, &p->mask.set);
        if (cores < p->threads) {
            warn_few_cores(p, r, size, cores);
            break;
        }
        CpuMask all;
        memset(&all, 0, sizeof all);
        int ranks = 0, wanted = 0;
        for (int q = 0; q < size; q++) {
            if (strcmp(place[q].host, p->host) != 0) continue;
            CPU_OR_S(MASK_BYTES, &all.set, &all.set, &place[q].mask.set);
            ranks++;
            wanted += place[q].threads;
        }
        int have = CPU_COUNT_S(MASK_BYTES, &all.set);
        if (wanted <= have) continue;
        if (have < p->cpus_of_node)
            log_warn("the %d ranks on %s run %d threads but are bound to the same %d of its %d "
                     "cores; use %s",
                     ranks, p->host, wanted, have, p->cpus_of_node,
                     strcmp(launcher(), "srun") == 0 ? "srun --cpus-per-task"
                                                     : "mpirun --map-by slot:PE=<threads> (or "
                                                       "--bind-to none)");
        else
            log_warn("the %d ranks on %s run %d threads on %d cores and will take turns; use fewer "
                     "ranks a node or run.threads=%d",
                     ranks, p->host, wanted, have, have / ranks > 0 ? have / ranks : 1);
        break;
    }
    free(bytes);
    free(offsets);
}
