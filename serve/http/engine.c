/* engine.c: see engine.h. */
#include "serve/http/engine.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "core/gemm.h"
#include "rlhf/score.h"

enum { SCORE_TOKENS = 2048, LOGIT_ROWS = 64 };

typedef struct TaskQueue {
    EngineTask *first, **last;
} TaskQueue;

struct Engine {
    char *name;
    Loaded m;
    EngineOptions o;
    EngineCounts counts;
    pthread_mutex_t lock;
    pthread_cond_t decode_more, score_more, idle;
    TaskQueue decode, score;
    pthread_t decoder, scorer;
    bool closing, ended;
    atomic_bool cut; /* the patience is over: what is active ends */
    Arena arena;     /* of the scorer's tape */
    Tape *tape;
};

static void put_task(TaskQueue *q, EngineTask *t) {
    t->next = NULL;
    *q->last = t;
    q->last = &t->next;
}

static EngineTask *take_task(TaskQueue *q) {
    EngineTask *t = q->first;
    q->first = t->next;
    if (!q->first) q->last = &q->first;
    return t;
}

/* --- log-probabilities and alternatives ---------------------------------------------------------- */

/* Of the tokens with these logits the `top` most likely ones, and the token's own at temperature 1. */
static void note(const EngineTask *t, int64_t at, const real *x, int64_t V, int32_t token) {
    double max = -HUGE_VAL, sum = 0;
    int32_t *id = t->top_id + at * t->top;
    float *logp = t->top_logp + at * t->top;
    int n = 0;
    for (int64_t i = 0; i < V; i++) max = (double)x[i] > max ? (double)x[i] : max;
    for (int64_t i = 0; i < V; i++) sum += exp((double)x[i] - max);
    const double total = max + log(sum);
    for (int64_t i = 0; i < V; i++) {
        if (n == t->top && (n == 0 || x[i] <= x[id[n - 1]])) continue;
        int j = n < t->top ? n++ : n - 1;
        for (; j > 0 && x[id[j - 1]] < x[i]; j--) id[j] = id[j - 1];
        id[j] = (int32_t)i;
    }
    for (int j = 0; j < n; j++) logp[j] = (float)((double)x[id[j]] - total);
    if (isnan(t->logp[at])) t->logp[at] = (float)((double)x[token] - total);
    for (int j = 0; j < n; j++) /* the same token, the same number */
        if (id[j] == token) logp[j] = t->logp[at];
}

static void see_logits(void *ctx, int64_t index, const real *logits) {
    const EngineTask *t = ctx;
    memcpy(t->logits, logits, (size_t)t->e->m.gpt->cfg.vocab * sizeof *logits);
}

static int decoded_token(void *ctx, int64_t index, int32_t token) {
    EngineTask *t = ctx;
    const int64_t at = t->nids + t->seq.n - 1;
    const double now = clock_seconds();
    if (t->seq.n == 1)
        atomic_fetch_add(&t->e->counts.first_token_us, (long long)(1e6 * (now - t->began)));
    atomic_fetch_add(&t->e->counts.tokens, 1);
    if (t->top >= 0) {
        const bool own = t->o.temperature == 0 || t->o.temperature == 1;
        t->logp[at] = own ? t->seq.logp[t->seq.n - 1] : NAN;
        note(t, at, t->logits, t->e->m.gpt->cfg.vocab, token);
    }
    t->late = now > t->deadline;
    return t->token(t, token) || t->late || atomic_load(&t->cancelled) || atomic_load(&t->e->cut);
}

static void finish(Engine *e, EngineTask *t) {
    t->done(t); /* t may be gone */
    pthread_mutex_lock(&e->lock);
    atomic_fetch_add(&e->counts.done, 1);
    if (atomic_fetch_sub(&e->counts.active, 1) == 1) pthread_cond_broadcast(&e->idle);
    pthread_mutex_unlock(&e->lock);
}

/* --- the decoder's thread ------------------------------------------------------------------------ */

/* With `idle` waits for a task; NULL then ends the decoder. */
static DecodeSequence *next_sequence(void *ctx, int64_t rows, bool idle) {
    Engine *e = ctx;
    EngineTask *t = NULL;
    pthread_mutex_lock(&e->lock);
    while (idle && !e->decode.first && !e->ended) pthread_cond_wait(&e->decode_more, &e->lock);
    if (e->decode.first && e->decode.first->nids <= rows) {
        t = take_task(&e->decode);
        atomic_fetch_sub(&e->counts.waiting, 1);
    }
    pthread_mutex_unlock(&e->lock);
    return t ? &t->seq : NULL;
}

static void sequence_done(void *ctx, DecodeSequence *s) {
    EngineTask *t = s->o->ctx;
    finish(t->e, t);
}

static void *decoder(void *ctx) {
    Engine *e = ctx;
    decode_serve(e->m.gpt, &(DecodeSource){next_sequence, sequence_done, e}, e->o.slots);
    return NULL;
}

/* --- the scorer's thread -------------------------------------------------------------------------- */

/* Log-probabilities of the prompt's tokens, as rhetor-eval logprobs has them, and alternatives. */
static void score_prompt(Engine *e, EngineTask *t) {
    const Gpt *g = e->m.gpt;
    const int64_t V = g->cfg.vocab, C = g->cfg.width, n = t->nids - 1;
    Batch pack = {0};
    t->logp[0] = NAN;
    if (n < 1) return;
    batch_add(&pack, t->ids, t->nids, NULL, 1.0f, 0);
    Batch b = pack;
    AUTOFREE real *logp = xmalloc((size_t)b.n * sizeof *logp); /* the last one's is of no use */
    gpt_score(e->m.gpt, e->tape, &b, NULL, 1.0, logp, NULL);
    for (int64_t i = 0; i < n; i++) t->logp[i + 1] = (float)logp[i];
    if (t->top > 0) {
        AUTOFREE real *x = xmalloc((size_t)(LOGIT_ROWS * V) * sizeof *x);
        const Tensor *h = gpt_forward(e->m.gpt, e->tape, &b, NULL, NULL);
        for (int64_t i = 0; i < n; i += LOGIT_ROWS) {
            const int64_t m = n - i < LOGIT_ROWS ? n - i : LOGIT_ROWS;
            gemm(tape_arena(e->tape), &(Gemm){.M = m,
                                              .N = V,
                                              .K = C,
                                              .a = h->data + i * C,
                                              .lda = C,
                                              .b = g->out_w->data,
                                              .b_half = g->out_w->half,
                                              .ldb = C,
                                              .trans_b = true,
                                              .c = x,
                                              .ldc = V});
            for (int64_t j = 0; j < m; j++) note(t, i + j + 1, x + j * V, V, t->ids[i + j + 1]);
        }
        tape_reset(e->tape);
    }
    batch_free(&pack);
}

static void *scorer(void *ctx) {
    Engine *e = ctx;
    for (;;) {
        pthread_mutex_lock(&e->lock);
        while (!e->score.first && !e->ended) pthread_cond_wait(&e->score_more, &e->lock);
        EngineTask *t = e->score.first ? take_task(&e->score) : NULL;
        if (t) atomic_fetch_sub(&e->counts.waiting, 1);
        pthread_mutex_unlock(&e->lock);
        if (!t) return NULL;
        if (e->m.cfg.scalar_head) {
            const Sequence q = {.tokens = t->ids, .n = t->nids, .prompt = t->nids};
            score_sequences(e->m.gpt, &q, 1, SCORE_TOKENS, &t->reward);
        } else if (t->echo)
            score_prompt(e, t);
        if (e->m.cfg.scalar_head || t->o.max_new == 0 || atomic_load(&t->cancelled) ||
            atomic_load(&e->cut)) {
            finish(e, t);
            continue;
        }
        pthread_mutex_lock(&e->lock);
        put_task(&e->decode, t);
        atomic_fetch_add(&e->counts.waiting, 1);
        pthread_cond_broadcast(&e->decode_more);
        pthread_mutex_unlock(&e->lock);
    }
}

/* --- an engine ------------------------------------------------------------------------------------ */

int engine_open(Engine **out, const char *name, const char *path, const EngineOptions *o) {
    Engine *e = xcalloc(1, sizeof *e);
    *out = NULL;
    int rc = load_model_half(&e->m, path, "--model", LOAD_EITHER, o->half);
    if (rc >= 0 && !e->m.tokenizer) {
        rc = error_set(ERR_CONFIG, "--model: %s has no tokenizer, clients could only send ids",
                       path);
        load_free(&e->m);
    }
    if (rc < 0) {
        free(e);
        return rc;
    }
    e->name = xstrdup(name);
    e->o = *o;
    e->decode.last = &e->decode.first;
    e->score.last = &e->score.first;
    e->tape = tape_open(&e->arena, false);
    pthread_mutex_init(&e->lock, NULL);
    pthread_cond_init(&e->decode_more, NULL);
    pthread_cond_init(&e->score_more, NULL);
    pthread_cond_init(&e->idle, NULL);
    CHECK(pthread_create(&e->scorer, NULL, scorer, e) == 0, "no thread for %s", name);
    if (!e->m.cfg.scalar_head)
        CHECK(pthread_create(&e->decoder, NULL, decoder, e) == 0, "no thread for %s", name);
    *out = e;
    return 0;
}

void engine_drain(Engine *e, double patience_s) {
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += (time_t)patience_s;
    pthread_mutex_lock(&e->lock);
    e->closing = true;
    while (atomic_load(&e->counts.active) > 0)
        if (pthread_cond_timedwait(&e->idle, &e->lock, &end) != 0) break;
    atomic_store(&e->cut, true);
    while (atomic_load(&e->counts.active) > 0) pthread_cond_wait(&e->idle, &e->lock);
    pthread_mutex_unlock(&e->lock);
}

void engine_close(Engine **out) {
    Engine *e = *out;
    if (!e) return;
    engine_drain(e, 0);
    pthread_mutex_lock(&e->lock);
    e->ended = true;
    pthread_cond_broadcast(&e->decode_more);
    pthread_cond_broadcast(&e->score_more);
    pthread_mutex_unlock(&e->lock);
    pthread_join(e->scorer, NULL);
    if (!e->m.cfg.scalar_head) pthread_join(e->decoder, NULL);
    tape_close(&e->tape);
    arena_free(&e->arena);
    load_free(&e->m);
    free(e->name);
    free(e);
    *out = NULL;
}

const Loaded *engine_model(const Engine *e) { return &e->m; }
const char *engine_name(const Engine *e) { return e->name; }
bool engine_is_reward(const Engine *e) { return e->m.cfg.scalar_head; }
EngineCounts *engine_counts(Engine *e) { return &e->counts; }

bool engine_submit(Engine *e, EngineTask **t, int n) {
    pthread_mutex_lock(&e->lock);
    const bool fits = !e->closing && atomic_load(&e->counts.waiting) + n <= e->o.queue;
    for (int i = 0; i < n && fits; i++) {
        const bool score = e->m.cfg.scalar_head || t[i]->echo || t[i]->o.max_new == 0;
        t[i]->began = clock_seconds();
        t[i]->deadline = t[i]->began + e->o.deadline_s;
        atomic_fetch_add(&e->counts.prompt_tokens, t[i]->nids);
        put_task(score ? &e->score : &e->decode, t[i]);
    }
    if (fits) {
        atomic_fetch_add(&e->counts.submitted, n);
        atomic_fetch_add(&e->counts.waiting, n);
        atomic_fetch_add(&e->counts.active, n);
        pthread_cond_broadcast(&e->decode_more);
        pthread_cond_broadcast(&e->score_more);
    } else
        atomic_fetch_add(&e->counts.refused, n);
    pthread_mutex_unlock(&e->lock);
    return fits;
}

/* --- tasks ----------------------------------------------------------------------------------------- */

int engine_task(EngineTask **out, Engine *e, IdList *ids, const DecodeOptions *o, int top,
                bool echo) {
    const int64_t T = e->m.gpt->cfg.context, V = e->m.gpt->cfg.vocab;
    EngineTask *t = xcalloc(1, sizeof *t);
    int64_t room = T - ids->n < o->max_new ? T - ids->n : o->max_new;
    if (room < 0) room = 0;
    *t = (EngineTask){.e = e, .ids = ids->v, .nids = ids->n, .o = *o, .top = top, .echo = echo};
    *ids = (IdList){0};
    t->o.max_new = room;
    t->o.stop = e->m.stop;
    t->o.nstop = e->m.nstop;
    t->o.on_token = decoded_token;
    t->o.see = top >= 0 ? see_logits : NULL;
    t->o.ctx = t;
    t->seq = (DecodeSequence){.o = &t->o, .prompt = t->ids, .nprompt = t->nids, .room = room};
    int rc = 0;
    if (t->nids < 1)
        rc = error_set(ERR_DATA, "the prompt is empty");
    else if (t->nids > T || (o->max_new > 0 && t->nids >= T))
        rc = error_set(ERR_DATA,
                       "the prompt has %" PRId64 " tokens, the model's context is %" PRId64 "%s",
                       t->nids, T, o->max_new > 0 ? " and the answer needs room" : "");
    else if (o->max_new > 0)
        rc = decode_check(e->m.gpt, &t->seq);
    for (int64_t i = 0; i < t->nids && rc >= 0; i++)
        if (t->ids[i] < 0 || t->ids[i] >= V)
            rc = error_set(ERR_DATA, "token %d is none of the model's: 0 to %" PRId64, t->ids[i],
                           V - 1);
    if (rc < 0) {
        engine_task_free(t);
        return rc;
    }
    t->seq.tokens = xmalloc((size_t)(room + 1) * sizeof *t->seq.tokens);
    t->seq.logp = xmalloc((size_t)(room + 1) * sizeof *t->seq.logp);
    if (top >= 0) {
        const size_t all = (size_t)(t->nids + room);
        t->logp = xmalloc(all * sizeof *t->logp);
        for (size_t i = 0; i < all; i++) t->logp[i] = NAN;
        t->top_id = xcalloc(all * (size_t)top + 1, sizeof *t->top_id);
        t->top_logp = xcalloc(all * (size_t)top + 1, sizeof *t->top_logp);
        t->logits = xmalloc((size_t)V * sizeof *t->logits);
    }
    *out = t;
    return 0;
}

void engine_task_free(EngineTask *t) {
    if (!t) return;
    free(t->ids);
    free(t->seq.tokens);
    free(t->seq.logp);
    free(t->logp);
    free(t->top_id);
    free(t->top_logp);
    free(t->logits);
    free(t);
}
