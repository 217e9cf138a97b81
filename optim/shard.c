/* shard.c: what a rank updates. See optim.h; grads.c says why it is a share of every part. */
#include <stdlib.h>

#include "base/error.h"
#include "optim/grad_impl.h"

void shard_open(Shard *s, const ParamSet *ps, int place, int ranks) {
    int64_t blocks = 0;
    *s = (Shard){
        .v = xcalloc((size_t)ps->nparts, sizeof *s->v), .n = ps->nparts, .whole = ranks == 1};
    for (int k = 0; k < ps->nparts; k++) {
        const int64_t begin = ps->part[k].offset;
        Share *a = &s->v[k];
        const int64_t n = paramset_part_end(ps, k) - begin;
        a->first = blocks % ranks;
        blocks += (n + EXCHANGE_BLOCK - 1) / EXCHANGE_BLOCK;
        exchange_share(n, a->first, place, ranks, &a->begin, &a->end);
        a->begin += begin;
        a->end += begin;
        a->at = s->size;
        a->grad = ps->grad ? ps->grad + a->begin : NULL;
        s->size += a->end - a->begin;
    }
}

void shard_close(Shard *s) {
    free(s->v);
    *s = (Shard){0};
}

static int part_of_param(const ParamSet *ps, int p) {
    int k = ps->nparts - 1;
    while (ps->part[k].first > p) k--;
    return k;
}

int64_t shard_of_param(const Shard *s, const ParamSet *ps, int p, int64_t *begin, int64_t *end) {
    const Share *a = &s->v[part_of_param(ps, p)];
    const int64_t offset = ps->v[p].offset, n = tensor_size(&ps->v[p].tensor);
    *begin = a->begin > offset ? a->begin - offset : 0;
    *end = a->end - offset < n ? a->end - offset : n;
    if (*end <= *begin) *begin = *end = 0;
    return *end > *begin ? a->at + offset + *begin - a->begin : 0;
}

int64_t shard_second_moments(const Shard *s, const ParamSet *ps, bool muon, int64_t *at) {
    int64_t without = 0;
    for (int p = 0; p < ps->n; p++) {
        const Share *a = &s->v[part_of_param(ps, p)];
        if (at) at[p] = a->at - a->begin - without;
        if (!muon || !ps->v[p].matrices) continue;
        int64_t begin, end;
        shard_of_param(s, ps, p, &begin, &end);
        without += end - begin;
    }
    return s->size - without;
}
