/* evaluate.c: held-out losses. See evaluate.h. */
#include "train/evaluate.h"

#include <math.h>
#include <stdlib.h>

#include "base/error.h"
#include "core/batch.h"
#include "core/tape.h"
#include "dist/watchdog.h"

/* Each window's or record's sums by themselves, added up by all ranks in the same order, so that
 * the mean does not depend on who did which. */
typedef struct Sums {
    int64_t n, next; /* items; the next one that will be known */
    double *nll;     /* [n], and the tokens [n] behind; 0 where another rank does it */
    Arena arena;
    Tape *tape;
    Batch pack;
    real *logp;
    int64_t *at; /* positions that have a weight */
    int64_t cap;
} Sums;

/* Adds the packed sequences' negative log-probabilities and empties the pack. */
static void flush(Sums *s, Gpt *gpt) {
    if (s->pack.n == 0) return;
    watchdog_beat();
    Batch b = s->pack;
    if (b.n > s->cap) {
        s->cap = b.n;
        s->logp = xrealloc(s->logp, (size_t)b.n * sizeof *s->logp);
        s->at = xrealloc(s->at, (size_t)b.n * sizeof *s->at);
    }
    GptRows rows = {0, s->at};
    for (int64_t i = 0; i < b.n; i++)
        if (b.weight[i] != 0) s->at[rows.m++] = i;
    gpt_score(gpt, s->tape, &b, &rows, 1.0, s->logp, NULL);
    for (int64_t q = 0, j = 0; q < b.nseq; q++, s->next++)
        for (; j < rows.m && s->at[j] < b.start[q + 1]; j++) {
            s->nll[s->next] -= (double)b.weight[s->at[j]] * (double)s->logp[j];
            s->nll[s->n + s->next] += (double)b.weight[s->at[j]];
        }
    batch_clear(&s->pack);
}

/* first: of this rank's items, which are given in order. */
static void sums_open(Sums *s, int64_t n, int64_t first) {
    *s = (Sums){.n = n, .next = first};
    s->nll = xcalloc(2 * (size_t)n + 1, sizeof *s->nll);
    watchdog_enter(PHASE_EVAL);
    s->tape = tape_open(&s->arena, false);
}

static void sums_close(Sums *s, Comm *comm, EvalLoss *out) {
    double nll = 0, tokens = 0;
    if (comm) comm_sum_f64(comm, s->nll, 2 * s->n);
    for (int64_t i = 0; i < s->n; i++) {
        nll += s->nll[i];
        tokens += s->nll[s->n + i];
    }
    *out = (EvalLoss){.nll = nll / tokens, .tokens = (int64_t)tokens};
    free(s->nll);
    tape_close(&s->tape);
    arena_free(&s->arena);
    batch_free(&s->pack);
    free(s->logp);
    free(s->at);
}

/* Documents laid end to end: a corpus, or in memory (corpus NULL). */
typedef struct Documents {
    Corpus *corpus;
    const int32_t *ids;
    const int64_t *start; /* [n+1] */
    int64_t n;
} Documents;

/* The windows of all documents, side by side: their first tokens and numbers of inputs. */
typedef struct Windows {
    int64_t n, cap, *at, *len;
} Windows;

static int list_windows(Windows *w, const Documents *d, int64_t T) {
    for (int64_t i = 0; i < d->n; i++) {
        int64_t begin, end;
        if (d->corpus)
            TRY(corpus_document(d->corpus, i, &begin, &end));
        else
            begin = d->start[i], end = d->start[i + 1];
        for (int64_t at = begin; at + 1 < end; at += T) {
            if (w->n == w->cap) {
                w->cap = 2 * w->cap + 64;
                w->at = xrealloc(w->at, (size_t)w->cap * sizeof *w->at);
                w->len = xrealloc(w->len, (size_t)w->cap * sizeof *w->len);
            }
            w->at[w->n] = at;
            w->len[w->n++] = end - at - 1 < T ? end - at - 1 : T;
        }
    }
    return w->n > 0 ? 0 : error_set(ERR_DATA, "no document has two tokens to predict one from");
}

/* Windows begin..end-1 of s->n that are taken from all. */
static int window_sums(Sums *s, Gpt *gpt, const Documents *d, const Windows *w, int64_t begin,
                       int64_t end, int64_t micro_tokens) {
    int32_t *buffer = xmalloc((size_t)(gpt->cfg.context + 1) * sizeof *buffer);
    int rc = 0;
    for (int64_t i = begin; i < end && rc == 0; i++) {
        const int64_t k = i * w->n / s->n;
        if (d->corpus) rc = corpus_read(d->corpus, w->at[k], w->len[k] + 1, buffer);
        if (rc < 0) break;
        if (s->pack.n + w->len[k] > micro_tokens) flush(s, gpt);
        batch_add_window(&s->pack, d->corpus ? buffer : d->ids + w->at[k], w->len[k], 1.0f, 0);
    }
    flush(s, gpt);
    free(buffer);
    return rc;
}

static int evaluate(Gpt *gpt, const Documents *d, int64_t windows, int64_t micro_tokens, Comm *comm,
                    EvalLoss *out) {
    Windows w = {0};
    Sums s;
    int rc = list_windows(&w, d, gpt->cfg.context);
    const int64_t n = windows > 0 && windows < w.n ? windows : w.n;
    int64_t begin = 0, end = n;
    if (comm) comm_share(n, comm_rank(comm), comm_size(comm), &begin, &end);
    sums_open(&s, n, begin);
    if (rc == 0) rc = window_sums(&s, gpt, d, &w, begin, end, micro_tokens);
    free(w.at);
    free(w.len);
    if (comm) rc = comm_agree(comm, rc);
    sums_close(&s, comm, out);
    return rc;
}

static double bits_per_byte(double nll, int64_t tokens, int64_t bytes) {
    return bytes > 0 ? nll / M_LN2 * (double)tokens / (double)bytes : 0;
}

int evaluate_corpus(Gpt *gpt, Corpus *c, int64_t windows, int64_t micro_tokens, Comm *comm,
                    EvalLoss *out) {
    const Documents d = {.corpus = c, .n = corpus_documents(c)};
    int rc = evaluate(gpt, &d, windows, micro_tokens, comm, out);
    out->bits_per_byte = bits_per_byte(out->nll, corpus_tokens(c), corpus_bytes(c));
    return rc;
}

int evaluate_documents(Gpt *gpt, const int32_t *ids, const int64_t *start, int64_t n, int64_t bytes,
                       int64_t windows, int64_t micro_tokens, EvalLoss *out) {
    const Documents d = {.ids = ids, .start = start, .n = n};
    int rc = evaluate(gpt, &d, windows, micro_tokens, NULL, out);
    out->bits_per_byte = bits_per_byte(out->nll, start[n], bytes);
    return rc;
}

int evaluate_demos(Gpt *gpt, const Dataset *d, int64_t records, int64_t micro_tokens, Comm *comm,
                   EvalLoss *out) {
    const int64_t n = records > 0 && records < d->n ? records : d->n;
    int64_t begin, end;
    comm_share(n, comm_rank(comm), comm_size(comm), &begin, &end);
    Sums s;
    sums_open(&s, n, begin);
    for (int64_t i = begin; i < end; i++) {
        const Sequence *q = &d->seq[d->first[i]];
        if (s.pack.n + q->n > micro_tokens) flush(&s, gpt);
        batch_add(&s.pack, q->tokens, q->n, q->learn, 1.0f, 0);
    }
    flush(&s, gpt);
    sums_close(&s, comm, out);
    return 0;
}
