/* evaluate.c: held-out losses. See evaluate.h. */
#include "train/evaluate.h"

#include <math.h>
#include <stdlib.h>

#include "base/error.h"
#include "core/tape.h"
#include "data/pack.h"

typedef struct Sums {
    double nll, tokens;
    Arena arena;
    Tape *tape;
    Pack pack;
    real *logp;
    int64_t cap;
} Sums;

/* Adds the packed sequences' negative log-probabilities and empties the pack. */
static void flush(Sums *s, Gpt *gpt) {
    if (s->pack.n == 0) return;
    Batch b = pack_batch(&s->pack);
    if (b.n > s->cap) {
        s->cap = b.n;
        s->logp = xrealloc(s->logp, (size_t)b.n * sizeof *s->logp);
    }
    gpt_score(gpt, s->tape, &b, NULL, 1.0, s->logp, NULL);
    for (int64_t i = 0; i < b.n; i++) {
        s->nll -= (double)b.weight[i] * (double)s->logp[i];
        s->tokens += (double)b.weight[i];
    }
    pack_clear(&s->pack);
}

static void sums_open(Sums *s) {
    *s = (Sums){0};
    s->tape = tape_open(&s->arena, false);
}

static void sums_close(Sums *s, Comm *comm, EvalLoss *out) {
    double sum[2] = {s->nll, s->tokens};
    if (comm) comm_sum_f64(comm, sum, 2);
    *out = (EvalLoss){.nll = sum[0] / sum[1], .tokens = (int64_t)sum[1]};
    tape_close(&s->tape);
    arena_free(&s->arena);
    pack_free(&s->pack);
    free(s->logp);
}

int evaluate_corpus(Gpt *gpt, Corpus *c, int64_t windows, int64_t micro_tokens, Comm *comm,
                    EvalLoss *out) {
    const int64_t T = gpt->cfg.context, tokens = corpus_tokens(c), all = (tokens - 1 + T - 1) / T;
    const int64_t n = windows > 0 && windows < all ? windows : all;
    int64_t begin, end;
    comm_share(n, comm_rank(comm), comm_size(comm), &begin, &end);
    int32_t *window = xmalloc((size_t)(T + 1) * sizeof *window);
    Sums s;
    sums_open(&s);
    int rc = 0;
    for (int64_t i = begin; i < end && rc == 0; i++) {
        int64_t at = i * all / n * T, len = tokens - at < T + 1 ? tokens - at : T + 1;
        rc = corpus_read(c, at, len, window);
        if (rc < 0) break;
        if (s.pack.n + len > micro_tokens) flush(&s, gpt);
        pack_add_window(&s.pack, window, len - 1, 1.0f, 0);
    }
    flush(&s, gpt);
    free(window);
    rc = comm_agree(comm, rc);
    sums_close(&s, comm, out);
    if (corpus_bytes(c) > 0)
        out->bits_per_byte = out->nll / M_LN2 * (double)tokens / (double)corpus_bytes(c);
    return rc;
}

void evaluate_tokens(Gpt *gpt, const int32_t *ids, int64_t n, int64_t micro_tokens, EvalLoss *out) {
    const int64_t T = gpt->cfg.context;
    Sums s;
    sums_open(&s);
    for (int64_t at = 0; at + 1 < n; at += T) {
        const int64_t len = n - at - 1 < T ? n - at - 1 : T;
        if (s.pack.n + len > micro_tokens) flush(&s, gpt);
        pack_add_window(&s.pack, ids + at, len, 1.0f, 0);
    }
    flush(&s, gpt);
    sums_close(&s, NULL, out);
}

int evaluate_demos(Gpt *gpt, const Dataset *d, int64_t records, int64_t micro_tokens, Comm *comm,
                   EvalLoss *out) {
    const int64_t n = records > 0 && records < d->n ? records : d->n;
    int64_t begin, end;
    comm_share(n, comm_rank(comm), comm_size(comm), &begin, &end);
    Sums s;
    sums_open(&s);
    for (int64_t i = begin; i < end; i++) {
        const Sequence *q = &d->seq[d->first[i]];
        if (s.pack.n + q->n > micro_tokens) flush(&s, gpt);
        pack_add(&s.pack, q->tokens, q->n, q->learn, 1.0f, 0);
    }
    flush(&s, gpt);
    sums_close(&s, comm, out);
    return 0;
}
