/* virtual.c: which virtual ranks a rank stands for. See virtual.h. */
#include "dist/virtual.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"

/* Down the tree of comm_sum_f32, whose halves have half of the n virtual ranks each. */
static void range(int n, int rank, int ranks, int *begin, int *end) {
    *begin = 0;
    *end = n;
    while (ranks > 1) {
        int left = 1, middle = (*begin + *end) / 2;
        while (2 * left < ranks) left *= 2;
        if (rank < left) {
            *end = middle;
            ranks = left;
        } else {
            *begin = middle;
            rank -= left;
            ranks -= left;
        }
    }
}

void virtual_open(VirtualRanks *v, int want, const Comm *c) {
    int rank = comm_rank(c), ranks = comm_size(c);
    *v = (VirtualRanks){.n = ranks, .begin = rank, .end = rank + 1, .most = 1};
    if (want < ranks) return;
    CHECK((want & (want - 1)) == 0, "%d virtual ranks, expected a power of two", want);
    v->n = want;
    range(want, rank, ranks, &v->begin, &v->end);
    v->most = virtual_most(want, ranks);
}

int virtual_most(int want, int64_t ranks) {
    int most = 1;
    for (int r = 0; r < ranks && ranks <= want; r++) {
        int begin, end;
        range(want, r, (int)ranks, &begin, &end);
        if (end - begin > most) most = end - begin;
    }
    return most;
}

void virtual_close(VirtualRanks *v) {
    free(v->part);
    *v = (VirtualRanks){0};
}

void virtual_share(const VirtualRanks *v, int64_t n, int k, int64_t *begin, int64_t *end) {
    comm_share(n, k, v->n, begin, end);
}

void virtual_share_all(const VirtualRanks *v, int64_t n, int64_t *begin, int64_t *end) {
    int64_t unused;
    comm_share(n, v->begin, v->n, begin, &unused);
    comm_share(n, v->end - 1, v->n, &unused, end);
}

double *virtual_parts(VirtualRanks *v, int64_t count) {
    const size_t bytes = (size_t)(v->n * count) * sizeof *v->part;
    if (count != v->nparts) v->part = xrealloc(v->part, bytes);
    v->nparts = count;
    return memset(v->part, 0, bytes);
}

void virtual_sum(VirtualRanks *v, Comm *c, double *out) {
    comm_sum_f64(c, v->part, v->n * v->nparts); /* the others have 0 */
    for (int64_t i = 0; i < v->nparts; i++) {
        out[i] = v->part[i];
        for (int k = 1; k < v->n; k++) out[i] += v->part[k * v->nparts + i];
    }
}
