/* evaluate.c: held-out losses. See evaluate.h. */
#include "train/evaluate.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/log.h"
#include "core/batch.h"
#include "core/tape.h"
#include "dist/watchdog.h"

/* The losses of items begin .. end-1, one sequence each: nll[i] = -sum weight log p, weight[i] the
 * sum of the weights. Each by itself, so that a mean does not depend on who did which. */
static int losses(Gpt *gpt, const BatchItems *items, int64_t begin, int64_t end, double temperature,
                  int64_t micro_tokens, double *nll, double *weight) {
    Arena arena = {0};
    Tape *tape = tape_open(&arena, false);
    Batch b = {0};
    int rc = 0;
    for (int64_t i = begin, first = begin; i < end; first = i) {
        batch_clear(&b);
        rc = batch_fill(&b, items, &i, end, micro_tokens);
        if (rc < 0) break;
        watchdog_beat();
        const GptRows rows = gpt_weighted_rows(tape, &b);
        real *logp = tape_alloc(tape, (size_t)rows.m * sizeof *logp);
        gpt_token_loss(gpt, tape, &b, &rows, temperature, NULL, NULL, logp, NULL);
        for (int64_t q = 0, j = 0; q < b.nseq; q++)
            for (; j < rows.m && rows.at[j] < b.start[q + 1]; j++) {
                nll[first + q] -= (double)b.weight[rows.at[j]] * (double)logp[j];
                weight[first + q] += (double)b.weight[rows.at[j]];
            }
        tape_reset(tape);
    }
    tape_close(&tape);
    arena_free(&arena);
    batch_free(&b);
    return rc;
}

/* The mean of n items' losses, shared among the ranks (comm NULL: all are this one's). */
static int mean_loss(Gpt *gpt, const BatchItems *items, int64_t n, int64_t micro_tokens, Comm *comm,
                     EvalLoss *out) {
    double *sum = xcalloc(2 * (size_t)n + 1, sizeof *sum), nll = 0, tokens = 0;
    int64_t begin = 0, end = n;
    watchdog_enter(PHASE_EVAL);
    if (comm) comm_share(n, comm_rank(comm), comm_size(comm), &begin, &end);
    int rc = losses(gpt, items, begin, end, 1, micro_tokens, sum, sum + n);
    if (comm) rc = comm_agree(comm, rc);
    if (comm && rc == 0) comm_sum_f64(comm, sum, 2 * n); /* the others have 0 */
    for (int64_t i = 0; i < n; i++) {
        nll += sum[i];
        tokens += sum[n + i];
    }
    *out = (EvalLoss){.nll = nll / tokens, .tokens = (int64_t)tokens};
    free(sum);
    return rc;
}

/* Documents laid end to end: a corpus, or in memory (corpus NULL). */
typedef struct Documents {
    Corpus *corpus;
    const int32_t *ids;
    const int64_t *start; /* [n+1] */
    int64_t n;
} Documents;

/* The windows of all documents, side by side: their first tokens and numbers of inputs. */
typedef struct Grid {
    const Documents *d;
    int64_t n, cap, *at, *len;
    int64_t taken;   /* windows of these, spread evenly */
    int32_t *buffer; /* [T + 1] */
} Grid;

static int list_windows(Grid *w, const Documents *d, int64_t T) {
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

static int64_t window_tokens(void *grid, int64_t i) {
    const Grid *w = grid;
    return w->len[i * w->n / w->taken];
}

static int add_window(void *grid, int64_t i, Batch *b) {
    const Grid *w = grid;
    const int64_t k = i * w->n / w->taken;
    const int32_t *ids = w->d->corpus ? w->buffer : w->d->ids + w->at[k];
    if (w->d->corpus) TRY(corpus_read(w->d->corpus, w->at[k], w->len[k] + 1, w->buffer));
    batch_add_window(b, ids, w->len[k], 1.0f, 0);
    return 0;
}

static int evaluate(Gpt *gpt, const Documents *d, int64_t windows, int64_t micro_tokens, Comm *comm,
                    EvalLoss *out) {
    const int64_t T = gpt->cfg.context;
    Grid w = {.d = d, .buffer = xmalloc((size_t)(T + 1) * sizeof *w.buffer)};
    *out = (EvalLoss){0};
    int rc = list_windows(&w, d, T);
    w.taken = windows > 0 && windows < w.n ? windows : w.n;
    if (comm) rc = comm_agree(comm, rc);
    if (rc == 0)
        rc = mean_loss(gpt, &(BatchItems){&w, window_tokens, add_window}, w.taken, micro_tokens,
                       comm, out);
    free(w.at);
    free(w.len);
    free(w.buffer);
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

static int64_t sequence_tokens(void *sequences, int64_t i) {
    return ((const Sequence *)sequences)[i].n;
}

static int add_sequence(void *sequences, int64_t i, Batch *b) {
    const Sequence *q = (const Sequence *)sequences + i;
    if (q->learn)
        batch_add(b, q->tokens, q->n, q->learn, 1.0f, 0);
    else
        batch_add_response(b, q->tokens, q->n, q->prompt, 1.0f, 0);
    return 0;
}

BatchItems evaluate_items(const Sequence *q) {
    return (BatchItems){(void *)(uintptr_t)q, sequence_tokens, add_sequence};
}

int evaluate_demos(Gpt *gpt, const Dataset *d, int64_t records, int64_t micro_tokens, Comm *comm,
                   EvalLoss *out) {
    const BatchItems items = evaluate_items(d->seq);
    return mean_loss(gpt, &items, records > 0 && records < d->n ? records : d->n, micro_tokens,
                     comm, out);
}

void evaluate_logp(Gpt *gpt, const Sequence *q, int64_t n, double temperature, int64_t micro_tokens,
                   double *logp) {
    const BatchItems items = evaluate_items(q);
    AUTOFREE double *nll = xcalloc(2 * (size_t)n + 1, sizeof *nll);
    losses(gpt, &items, 0, n, temperature, micro_tokens, nll, nll + n);
    for (int64_t i = 0; i < n; i++) logp[i] = -nll[i];
}

void evaluate_report(Run *run, const EvalLoss *e) {
    char bits[64] = "";
    run_metric(run, "eval/loss", e->nll);
    if (e->bits_per_byte > 0) {
        run_metric(run, "eval/bits_per_byte", e->bits_per_byte);
        snprintf(bits, sizeof bits, ", %.4f bits a byte", e->bits_per_byte);
    }
    run_eval_result(run, e->nll);
    if (run->main_rank)
        log_info("step %" PRId64 ": held-out loss %.4f nats a token%s", run->step + 1, e->nll,
                 bits);
}
