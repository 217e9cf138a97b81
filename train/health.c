/* health.c: see health.h. */
#include "train/health.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/hash.h"
#include "train/run_impl.h"

static uint64_t hash_array(const CkptArray *a) {
    size_t bytes = h5_type_size(a->type);
    for (int d = 0; d < a->ndim; d++) bytes *= (size_t)a->shape[d];
    return hash_bytes(a->data, bytes);
}

static uint64_t hash_counters(const RunPriv *p) {
    uint64_t h = 0;
    for (int i = 0; i < p->ncounter; i++)
        h = hash_combine(h, hash_bytes(p->counter[i].i ? (const void *)p->counter[i].i
                                                       : (const void *)p->counter[i].f,
                                       8));
    return h;
}

/* One a copied array, and one for the counters; the parts of sharded arrays count as equal. */
static uint64_t *hash_all(const RunPriv *p, uint64_t *all) {
    uint64_t *hash = xcalloc((size_t)p->narray + 1, sizeof *hash);
#pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < p->narray; i++)
        if (p->array[i].end == 0) hash[i] = hash_array(&p->array[i]);
    hash[p->narray] = hash_counters(p);
    *all = hash_bytes(hash, ((size_t)p->narray + 1) * sizeof *hash);
    return hash;
}

/* The value that most ranks hold (of equally many the lowest rank's), and the first that holds
 * another; false when all are equal. */
static bool find_odd(const uint64_t *hash, int n, int i, int size, int *good, int *odd) {
    int most = 0;
    for (int r = 0; r < size; r++) {
        int same = 0;
        for (int q = 0; q < size; q++) same += hash[q * n + i] == hash[r * n + i];
        if (same > most) most = same, *good = r;
    }
    for (*odd = 0; *odd < size; ++*odd)
        if (hash[*odd * n + i] != hash[*good * n + i]) return true;
    return false;
}

/* Who differs in what: all ranks' hashes side by side. */
static int name_the_odd(Run *run, const uint64_t *mine) {
    const RunPriv *p = run->priv;
    const int size = comm_size(run->comm), n = p->narray + 1;
    char *hashes, *hosts, host[64] = "";
    AUTOFREE size_t *offsets = xmalloc((size_t)(size + 1) * sizeof *offsets);
    gethostname(host, sizeof host - 1);
    comm_allgather_bytes(run->comm, mine, (size_t)n * sizeof *mine, &hashes, offsets);
    comm_allgather_bytes(run->comm, host, sizeof host, &hosts, offsets);
    int good = 0, odd = 0, first = -1, tensors = 0;
    for (int i = 0, g, o; i < n; i++) {
        if (!find_odd((const uint64_t *)(void *)hashes, n, i, size, &g, &o)) continue;
        tensors++;
        if (first < 0) first = i, good = g, odd = o;
    }
    int rc = error_set(
        ERR_INTERNAL,
        "step %" PRId64 ": the ranks have diverged: %s of rank %d (%s) differs from that of "
        "rank %d (%s), %d tensor%s differ; memory or processor of one of these machines fails: see "
        "dmesg there; not saved, the last checkpoint (step %" PRId64 ") is good",
        run->step, first >= 0 && first < p->narray ? p->array[first].name : "a counter", odd,
        hosts + (size_t)odd * sizeof host, good, hosts + (size_t)good * sizeof host, tensors,
        TEXT_S(tensors), p->saved_step);
    free(hashes);
    free(hosts);
    return rc;
}

int health_compare(Run *run) {
    if (comm_size(run->comm) == 1) return 0;
    uint64_t all;
    uint64_t *hash = hash_all(run->priv, &all);
    int rc = comm_equal_u64(run->comm, all) ? 0 : name_the_odd(run, hash);
    free(hash);
    return rc;
}

StepHealth health_step(Comm *c, double step_s, double exchange_s) {
    const int size = comm_size(c);
    const double mine[2] = {step_s - exchange_s, exchange_s};
    char *bytes;
    AUTOFREE size_t *offsets = xmalloc((size_t)(size + 1) * sizeof *offsets);
    comm_allgather_bytes(c, mine, sizeof mine, &bytes, offsets);
    const double *all = (const double *)(void *)bytes;
    StepHealth h = {0};
    for (int r = 0; r < size; r++) {
        const double busy = all[2 * r], waited = all[2 * r + 1];
        h.exchange_s += waited / size;
        if (waited > h.exchange_max_s) h.exchange_max_s = waited;
        if (busy > all[2 * h.slowest]) h.slowest = r;
    }
    h.wait_share = step_s > 0 ? h.exchange_s / step_s : 0;
    free(bytes);
    return h;
}
