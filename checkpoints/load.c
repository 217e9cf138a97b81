/* load.c: a state back into the memory of all ranks. What each rank holds for itself it reads for
 * itself. Of an array that all hold, each rank reads and unpacks a share, and they exchange them:
 * the file system sees each byte about once, whatever the number of ranks. */
#include "checkpoints/checkpoint.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>

enum { ROUND_BYTES = 16 << 20, SMALL_BYTES = 1 << 20 };

/* Elements [at, at+n) of an array that all hold. A rank that cannot read still takes part. */
static int read_round(Ckpt *k, const CkptArray *a, int64_t at, int64_t n, Comm *c) {
    const size_t each = h5_type_size(a->type);
    const bool small = (size_t)n * each <= SMALL_BYTES;
    char *to = (char *)a->data + (size_t)at * each;
    int64_t begin, end;
    comm_share(n, comm_rank(c), comm_size(c), &begin, &end);
    if (small) {
        begin = 0;
        end = comm_rank(c) == 0 ? n : 0;
    }
    int rc = ckpt_read_part(k, a->name, a->type, a->ndim, a->shape, at + begin, at + end,
                            to + (size_t)begin * each);
    if (small)
        comm_bcast(c, to, (size_t)n * each, 0);
    else if (comm_size(c) > 1) {
        char *all;
        size_t *offsets = xcalloc((size_t)comm_size(c) + 1, sizeof *offsets);
        comm_allgather_bytes(c, to + (size_t)begin * each, (size_t)(end - begin) * each, &all,
                             offsets);
        memcpy(to, all, (size_t)n * each);
        free(all);
        free(offsets);
    }
    return rc;
}

int ckpt_load(Ckpt *k, const CkptArray *v, int n, Comm *c) {
    int rc = 0;
    for (int i = 0; i < n; i++) {
        const CkptArray *a = &v[i];
        int64_t total = 1;
        for (int d = 0; d < a->ndim; d++) total *= a->shape[d];
        if (a->end > 0) {
            if (rc >= 0)
                rc = ckpt_read_part(k, a->name, a->type, a->ndim, a->shape, a->begin, a->end,
                                    a->data);
            continue;
        }
        const int64_t round = ROUND_BYTES / (int64_t)h5_type_size(a->type);
        for (int64_t at = 0; at < total; at += round) {
            int read = read_round(k, a, at, total - at < round ? total - at : round, c);
            if (rc >= 0) rc = read;
        }
    }
    return comm_agree(c, rc);
}
