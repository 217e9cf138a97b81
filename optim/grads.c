/* grads.c: gradients from the backward pass to the update, and who updates what (Rajbhandari et al.
 * 2020, ZeRO: stage 1 is SHARD_OPTIMIZER, stage 2 SHARD_GRADIENTS). See optim.h.
 *
 * The unit is a part of the parameters: embeddings, a layer, the head. When the backward pass has
 * done a part its gradient is handed to the exchange (dist/exchange.h), which moves on between the
 * ops that follow. A rank's shard is its share of every part, not a slice of the whole buffer:
 * every rank then has its share of the adding at any moment, and of a tensor it has one piece.
 *
 * Memory of SHARD_GRADIENTS. Two buffers serve the layers in turn: one is being written to while
 * the other is summed and added to the shard's sums. A part that is written to throughout (a tied
 * embedding: by the loss first, by the embedding at last), and the last part, which the loss writes
 * to before the backward pass begins, have their own. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/config.h" /* SHARD_* */
#include "base/error.h"
#include "optim/grad_impl.h"

/* --- memory of SHARD_GRADIENTS ---------------------------------------------------------------- */

enum { FIRST, LAST, EVEN, ODD, BUFFERS };

/* The buffer that part k is written to. */
static int buffer_of(const ParamSet *ps, int k) {
    if (ps->part[k].throughout) return FIRST;
    return k == ps->nparts - 1 ? LAST : k % 2 ? ODD : EVEN;
}

static void buffer_sizes(const ParamSet *ps, int64_t size[BUFFERS]) {
    memset(size, 0, BUFFERS * sizeof *size);
    for (int k = 0; k < ps->nparts; k++) {
        CHECK(!ps->part[k].throughout || k == 0, "part %d is written to throughout", k);
        const int64_t n = paramset_part_end(ps, k) - ps->part[k].offset;
        if (n > size[buffer_of(ps, k)]) size[buffer_of(ps, k)] = n;
    }
}

/* Elements of the sums: those of the shard that are not summed in place. */
static int64_t sums_size(const ParamSet *ps, const Shard *s) {
    int64_t n = 0;
    for (int k = 0; k < s->n; k++)
        if (!ps->part[k].throughout) n += s->v[k].end - s->v[k].begin;
    return n;
}

OptimBytes optim_bytes(const ParamSet *ps, int shard, int ranks, bool muon) {
    if (ranks == 1) shard = SHARD_NONE;
    const int owners = shard == SHARD_NONE ? 1 : ranks;
    Shard s = {0};
    for (int place = 0; place < owners; place++) { /* the largest: blocks at an end are shorter */
        Shard other;
        shard_open(&other, ps, place, owners);
        const Shard smaller = other.size > s.size ? s : other;
        if (other.size > s.size) s = other;
        shard_close(&(Shard){.v = smaller.v});
    }
    int64_t gradients = ps->size, size[BUFFERS];
    if (shard == SHARD_GRADIENTS) {
        buffer_sizes(ps, size);
        gradients = sums_size(ps, &s);
        for (int b = 0; b < BUFFERS; b++) gradients += size[b];
    }
    const OptimBytes b = {.weights = (size_t)ps->size * sizeof(real),
                          .gradients = (size_t)gradients * sizeof(real),
                          .moments = (size_t)(s.size + shard_second_moments(&s, ps, muon, NULL)) *
                                     sizeof(real),
                          .exchange = exchange_bytes(ranks)};
    shard_close(&s);
    return b;
}

typedef struct LentBuffer {
    real *p;
    int64_t ticket; /* of the exchange that reads it */
} LentBuffer;

struct Grads {
    ParamSet *ps;
    Comm *c;
    int kind;
    Exchange *x;
    Shard shard;
    bool last_pass;
    int next;       /* part whose turn is next in the backward pass; -1: the exchange has all */
    int64_t passes; /* SHARD_GRADIENTS: of this step */
    LentBuffer buffer[BUFFERS];
    real *sums; /* [nsums] */
    int64_t nsums;
    bool over; /* grads_finish */
    double waited;
    double *square; /* [nsquare] a block each */
    int64_t nsquare;
};

static real *flat(int64_t n) {
    return memset(xaligned(64, (size_t)n * sizeof(real)), 0, (size_t)n * sizeof(real));
}

static int64_t part_size(const Grads *g, int k) {
    return paramset_part_end(g->ps, k) - g->ps->part[k].offset;
}

/* The memory that part k is written to next, as soon as the exchange has done with it. */
static void lend(Grads *g, int k) {
    LentBuffer *b = &g->buffer[buffer_of(g->ps, k)];
    exchange_wait(g->x, b->ticket);
    paramset_lend_grad(g->ps, k, b->p);
}

static void open_buffers(Grads *g) {
    int64_t size[BUFFERS];
    buffer_sizes(g->ps, size);
    paramset_drop_grad(g->ps);
    for (int b = 0; b < BUFFERS; b++)
        g->buffer[b] = (LentBuffer){size[b] ? flat(size[b]) : NULL, -1};
    g->nsums = sums_size(g->ps, &g->shard);
    g->sums = flat(g->nsums);
    real *sum = g->sums;
    for (int k = 0; k < g->ps->nparts; k++) {
        Share *s = &g->shard.v[k];
        const bool in_place = g->ps->part[k].throughout;
        s->grad = in_place ? g->buffer[FIRST].p + (s->begin - g->ps->part[k].offset) : sum;
        if (!in_place) sum += s->end - s->begin;
        if (in_place) lend(g, k);
    }
}

void grads_open(Grads **out, ParamSet *ps, Comm *c, int shard) {
    Grads *g = xcalloc(1, sizeof *g);
    const int ranks = comm_size(c);
    *g = (Grads){.ps = ps, .c = c, .kind = ranks == 1 ? SHARD_NONE : shard};
    exchange_open(&g->x, c, sizeof(real));
    const bool all = g->kind == SHARD_NONE;
    shard_open(&g->shard, ps, all ? 0 : exchange_place(c), all ? 1 : ranks);
    for (int k = 0; k < ps->nparts; k++)
        g->nsquare += (part_size(g, k) + EXCHANGE_BLOCK - 1) / EXCHANGE_BLOCK;
    g->square = xmalloc((size_t)g->nsquare * sizeof *g->square);
    g->next = ps->nparts - 1;
    if (g->kind == SHARD_GRADIENTS) {
        open_buffers(g);
        if (!ps->part[g->next].throughout) lend(g, g->next);
    }
    *out = g;
}

void grads_close(Grads **grads) {
    Grads *g = *grads;
    if (!g) return;
    if (g->kind == SHARD_GRADIENTS)
        for (int k = 0; k < g->ps->nparts; k++) paramset_lend_grad(g->ps, k, NULL);
    for (int b = 0; b < BUFFERS; b++) free(g->buffer[b].p);
    exchange_close(&g->x);
    shard_close(&g->shard);
    free(g->sums);
    free(g->square);
    free(g);
    *grads = NULL;
}

const Shard *grads_shard(const Grads *g) { return &g->shard; }

double grads_waited(const Grads *g) { return g->waited + exchange_waited(g->x); }

/* --- sums over the ranks ---------------------------------------------------------------------- */

static void sum_flat(Grads *g, int k) {
    exchange_sum(g->x, g->ps->grad + g->ps->part[k].offset, part_size(g, k), g->shard.v[k].first,
                 g->kind == SHARD_NONE ? EXCHANGE_ALL : EXCHANGE_OWN, NULL);
}

/* Of a part in a lent buffer; then the next part's turn has come. */
static void sum_lent(Grads *g, int k) {
    ParamSet *ps = g->ps;
    if (k == ps->nparts - 1) g->passes++;
    paramset_complete_grad(ps, k);
    if (!ps->part[k].throughout) {
        LentBuffer *b = &g->buffer[buffer_of(ps, k)];
        b->ticket = exchange_sum(g->x, b->p, part_size(g, k), g->shard.v[k].first, EXCHANGE_ADD,
                                 (real *)(uintptr_t)g->shard.v[k].grad);
    }
    g->next = k > 0 ? k - 1 : ps->nparts - 1;
    if (!ps->part[g->next].throughout) lend(g, g->next);
}

void grads_last_pass(Grads *g) { g->last_pass = true; }

void grads_part_done(Grads *g, int k) {
    if (g->kind == SHARD_GRADIENTS) {
        CHECK(k == g->next, "part %d is done, %d was expected", k, g->next);
        if (k == g->ps->nparts - 1) exchange_announce(g->x);
        sum_lent(g, k);
    } else if (g->last_pass && k == g->next) {
        sum_flat(g, k);
        g->next--;
    }
}

/* A pass of other ranks: ours are zeros. */
static void sum_zeros(Grads *g) {
    for (int k = g->ps->nparts - 1; k >= 0; k--)
        if (!g->ps->part[k].throughout)
            exchange_sum(g->x, NULL, part_size(g, k), g->shard.v[k].first, EXCHANGE_ADD,
                         (real *)(uintptr_t)g->shard.v[k].grad);
    g->passes++;
}

/* Everybody has made its last pass? Else takes part in one that has been announced. */
static bool all_over(Grads *g) {
    if (g->over || g->kind != SHARD_GRADIENTS) return true;
    const int more = exchange_others(g->x, g->passes);
    if (more == 1) sum_zeros(g);
    if (more != 0) return false;
    g->over = true;
    if (g->ps->part[0].throughout) {
        paramset_complete_grad(g->ps, 0);
        exchange_sum(g->x, g->buffer[FIRST].p, part_size(g, 0), g->shard.v[0].first, EXCHANGE_OWN,
                     NULL);
    }
    return true;
}

void grads_finish(Grads *g) {
    const double began = clock_seconds(), waited = exchange_waited(g->x);
    CHECK(g->kind != SHARD_GRADIENTS || g->next == g->ps->nparts - 1,
          "a backward pass has ended before part %d", g->next);
    for (; g->kind != SHARD_GRADIENTS && g->next >= 0; g->next--) sum_flat(g, g->next);
    while (!all_over(g)) exchange_idle(g->c);
    exchange_finish(g->x);
    g->waited += clock_seconds() - began - (exchange_waited(g->x) - waited);
}

double grads_norm(Grads *g) {
    int64_t n = 0;
    for (int k = 0; k < g->ps->nparts; k++) {
        const Share *s = &g->shard.v[k];
        const int64_t before = (s->begin - g->ps->part[k].offset) / EXCHANGE_BLOCK;
        const int64_t blocks = (part_size(g, k) + EXCHANGE_BLOCK - 1) / EXCHANGE_BLOCK;
        memset(g->square + n, 0, (size_t)blocks * sizeof *g->square);
        grad_squares(s->grad, s->end - s->begin, g->square + n + before);
        n += blocks;
    }
    /* each block's number was made on one rank, the others have 0 */
    if (g->kind != SHARD_NONE) comm_sum_f64(g->c, g->square, n);
    double sum = 0;
    for (int64_t b = 0; b < n; b++) sum += g->square[b];
    return sqrt(sum);
}

void grads_updated(Grads *g, int k) {
    if (g->kind != SHARD_NONE)
        exchange_gather(g->x, g->ps->data + g->ps->part[k].offset, part_size(g, k),
                        g->shard.v[k].first);
}

void grads_gather(Grads *g, int k, real *buf) {
    if (g->kind != SHARD_NONE)
        exchange_wait(g->x, exchange_gather(g->x, buf, part_size(g, k), g->shard.v[k].first));
}

void grads_end(Grads *g) {
    exchange_finish(g->x);
    if (g->kind == SHARD_GRADIENTS) {
        memset(g->sums, 0, (size_t)g->nsums * sizeof *g->sums);
        if (g->ps->part[0].throughout) paramset_lend_grad(g->ps, 0, g->buffer[FIRST].p);
    } else {
        paramset_zero_grad(g->ps);
    }
    g->last_pass = g->over = false;
    g->passes = 0;
    g->next = g->ps->nparts - 1;
}
