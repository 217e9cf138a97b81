/* virtual.h: virtual ranks, so that a run is the same experiment on any layout, bit by bit.
 *
 * The global batch is shared among a fixed number of virtual ranks. Each real rank stands for one
 * or more that follow each other, and does their work one after another. What is summed over the
 * batch, gradients and losses, is a chain inside each virtual rank and a balanced binary tree over
 * them (comm_sum_f32 adds in the same tree over the real ranks), so the sum's bits depend on the
 * number of virtual ranks alone. */
#ifndef DIST_VIRTUAL_H
#define DIST_VIRTUAL_H

#include "dist/comm.h"

typedef struct VirtualRanks {
    int n;          /* of them; 1, 2, 4, ... unless each rank is one */
    int begin, end; /* this rank's: 1, 2, 4, ... */
    int most;       /* of the rank that has most */
    double *part;   /* owned; see virtual_parts */
    int64_t nparts;
} VirtualRanks;

/* `want` virtual ranks, a power of two. Fewer than there are ranks (0, say): each rank is one.
 * Where the number of ranks is not a power of two some stand for more than others: those that are
 * right in the tree. Not collective. */
void virtual_open(VirtualRanks *v, int want, const Comm *c);
void virtual_close(VirtualRanks *v);
/* Those of the rank that has most. */
int virtual_most(int want, int64_t ranks);

/* comm_share for virtual rank k. */
void virtual_share(const VirtualRanks *v, int64_t n, int k, int64_t *begin, int64_t *end);
/* The share of all of this rank's. */
void virtual_share_all(const VirtualRanks *v, int64_t n, int64_t *begin, int64_t *end);

/* Cleared numbers [n][count], which this rank fills for its own virtual ranks; owned by v, until
 * the next call. virtual_sum then adds those of all virtual ranks in their order into out[count].
 * The former is not collective. */
double *virtual_parts(VirtualRanks *v, int64_t count);
void virtual_sum(VirtualRanks *v, Comm *c, double *out);

#endif
