/* decode.c: continuous batching.
 *
 * A worker decodes a share of the prompts in a fixed number of slots. One pass through the trunk
 * carries, packed, the whole prompt of every sequence that has just taken a slot and the last token
 * of every other one; the row of each sequence's last token then gives its next token, and the last
 * layer makes keys and values only of the others. A sequence that ends leaves its slot to the next
 * prompt of the worker.
 *
 * Many sequences: a worker a thread, so that threads never wait for one another. Few: one worker,
 * whose matrix products and attention use all threads. What a sequence decodes does not depend, to
 * the last bit, on who decodes it with which others (packed.h), so workers take prompts as they
 * come free. For the same reason a prompt may take over keys and values that another slot holds of
 * the same first tokens. Nothing is allocated for a token: rows live in the worker's arena,
 * responses in one allocation. */
#include "model/decode.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "core/kernel.h"
#include "model/kv_cache.h"
#include "model/lora.h"
#include "model/packed.h"
#include "model/sample.h"
#include "model/trunk.h"

enum {
    SLOTS_PER_THREAD = 16,    /* enough for efficient products; more caches leave the processor's */
    SLOTS_PER_WORKER_MIN = 4, /* with fewer, threads share the rows' columns instead */
    SLOTS_LARGE_MODEL_MIN = 16, /* ... where each worker would read the weights from memory */
    LARGE_MODEL = 8 << 20,      /* weights; more bytes than a processor caches */
    PASS_ELEMENTS = 8 << 20,    /* activations of one pass, per worker */
    CACHE_BYTES_MAX = 1 << 30,  /* for slots = 0 */
};

enum { QKV, PROJ, FC, FC2, LINEARS }; /* of a block, in the order of use */

typedef struct DecodeWork {
    Gpt *g;
    DecodeSource source;
    int64_t longest; /* prompt and response together */
    int64_t longest_prompt;
    bool share;     /* prompts may take over what slots hold */
    Packed *linear; /* [layers][LINEARS], then out_w */
    Arena *arena;   /* of the packed weights */
} DecodeWork;

/* A sequence in a slot. */
typedef struct DecodeSlot {
    DecodeSequence *seq; /* NULL: free */
    int64_t cached;      /* tokens in the cache, also when it is free */
    int32_t *held;       /* [longest] these tokens, where w->share */
    int64_t row;         /* of its last token in this pass */
    int64_t fresh;       /* tokens that this pass adds: they cannot be taken over yet */
} DecodeSlot;

typedef struct Worker {
    DecodeWork *w;
    int64_t slots, active, rows_max;
    DecodeSlot *at; /* [slots] */
    Arena arena;
    Tape *tape;
    KvCache kv;
    /* the rows of this pass */
    int64_t n;
    int32_t *token, *slot, *pos; /* [n] */
    int64_t linear;              /* the trunk's next weight matrix */
} Worker;

static int64_t at_most(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t at_least(int64_t a, int64_t b) { return a > b ? a : b; }

/* --- one pass --------------------------------------------------------------------------------- */

static void add_row(Worker *k, int64_t slot, int32_t token) {
    DecodeSlot *s = &k->at[slot];
    k->token[k->n] = token;
    k->slot[k->n] = (int32_t)slot;
    k->pos[k->n] = (int32_t)s->cached;
    if (s->held) s->held[s->cached] = token;
    s->cached++, s->fresh++;
    s->row = k->n++;
}

/* How many tokens of the prompt, its last one not among them, slot s holds. */
static int64_t common(const DecodeSlot *s, const DecodeSequence *q) {
    const int64_t most = at_most(s->cached - s->fresh, q->nprompt - 1);
    int64_t n = 0;
    while (n < most && s->held[n] == q->prompt[n]) n++;
    return n;
}

/* The free slot for a new sequence, what can be taken over copied into it: the one that holds most
 * of the prompt itself, else the one that holds least of anything. */
static int64_t seat(Worker *k, const DecodeSequence *q) {
    int64_t to = -1, from = -1, most = 0;
    for (int64_t s = 0; s < k->slots; s++) {
        const int64_t n = k->w->share ? common(&k->at[s], q) : 0;
        const bool is_free = !k->at[s].seq;
        if (is_free && (to < 0 || k->at[s].cached < k->at[to].cached)) to = s;
        if (n > most || (n == most && n > 0 && is_free)) from = s, most = n;
    }
    if (from >= 0 && !k->at[from].seq) to = from;
    if (from >= 0 && from != to) {
        kv_copy(&k->kv, from, to, most);
        memcpy(k->at[to].held, k->at[from].held, sizeof(int32_t) * (size_t)most);
    }
    k->at[to].cached = most;
    return to;
}

/* Lays out the rows of the next pass; fills free slots while the pass has room for whole prompts (an
 * empty pass takes any). Returns the number of rows, 0 when all is done. */
static int64_t collect_rows(Worker *k) {
    const DecodeWork *w = k->w;
    k->n = 0;
    for (int64_t s = 0; s < k->slots; s++) {
        const DecodeSequence *q = k->at[s].seq;
        k->at[s].fresh = 0;
        if (q) add_row(k, s, q->tokens[q->n - 1]);
    }
    while (k->active < k->slots) {
        const int64_t rows = k->n == 0 ? INT64_MAX : k->rows_max - k->n;
        DecodeSequence *q = w->source.next(w->source.ctx, rows, k->n == 0);
        if (!q) break;
        const int64_t s = seat(k, q);
        k->at[s].seq = q;
        k->active++;
        for (int64_t i = k->at[s].cached; i < q->nprompt; i++) add_row(k, s, q->prompt[i]);
    }
    return k->n;
}

static Tensor *linear(void *ctx, Tape *t, Tensor *x, Tensor *w, Tensor *b, Activation act) {
    Worker *k = ctx;
    const Packed *p = &k->w->linear[k->linear++];
    CHECK(p->w == w, "the trunk's weight %lld is not the one that was packed",
          (long long)k->linear);
    const int64_t n = x->shape[0];
    Tensor *y = tape_tensor(t, 2, (int64_t[]){n, p->M});
    if (!tape_dry(t)) packed_linear(p, &k->arena, n, x->data, b, act, y->data);
    return y;
}

static Tensor *attend(void *ctx, Tape *t, int64_t layer, Tensor *qkv) {
    Worker *k = ctx;
    const Gpt *g = k->w->g;
    const int64_t W = qkv->shape[1], heads = g->cfg.heads + arch_kv_heads(&g->cfg);
    Tensor *y = tape_tensor(t, 2, (int64_t[]){k->n, g->cfg.heads * arch_head(&g->cfg)});
    if (!tape_dry(t)) {
#pragma omp parallel for schedule(static) if (k->n * W > PARALLEL_MIN)
        for (int64_t i = 0; i < k->n; i++)
            if (g->cfg.rope) rope_rotate(&g->rope, k->pos[i], heads, qkv->data + i * W);
        kv_attend(&k->kv, layer, k->n, k->slot, k->pos, qkv->data, y->data);
    }
    tape_done(t, qkv);
    return y;
}

static Tensor *embed_rows(Worker *k) {
    const Gpt *g = k->w->g;
    int64_t C = g->cfg.width;
    Tensor *x = tape_tensor(k->tape, 2, (int64_t[]){k->n, C});
    for (int64_t i = 0; i < k->n && !tape_dry(k->tape); i++) {
        const real *b = g->wpe ? g->wpe->data + k->pos[i] * C : NULL;
        real *y = x->data + i * C;
        tensor_read(g->wte, k->token[i] * C, C, y);
        for (int64_t j = 0; b && j < C; j++) y[j] += b[j];
    }
    return x;
}

/* Gives the sequence in slot s its next token; frees the slot if it was the last. */
static void take_token(Worker *k, int64_t s, int32_t token, float logp) {
    DecodeSequence *q = k->at[s].seq;
    const DecodeOptions *o = q->o;
    q->tokens[q->n] = token;
    q->logp[q->n] = logp;
    q->n++;
    bool end = q->n == q->room;
    for (int i = 0; i < o->nstop; i++) q->stopped |= token == o->stop[i];
    if (o->on_token) {
#pragma omp critical(decode_on_token)
        end |= o->on_token(o->ctx, q->index, token) != 0;
    }
    if (!end && !q->stopped) return;
    k->at[s].seq = NULL;
    k->active--;
    if (k->w->source.done) k->w->source.done(k->w->source.ctx, q);
}

static bool filters(const DecodeOptions *o, int64_t V) {
    return o->temperature > 0 && ((o->top_k > 0 && o->top_k < V) || o->top_p < 1);
}

static bool any_filters(const Worker *k) {
    for (int64_t s = 0; k->at && s < k->slots; s++)
        if (k->at[s].seq && filters(k->at[s].seq->o, k->w->g->cfg.vocab)) return true;
    return false;
}

/* Logits of the rows [m,V]; *heap: room for as many ids if tokens are filtered, else NULL. */
static real *forward(Worker *k, const GptRows *rows, int32_t **heap) {
    const DecodeWork *w = k->w;
    const int64_t V = w->g->cfg.vocab;
    k->linear = 0;
    Tensor *h =
        gpt_trunk(w->g, k->tape, embed_rows(k), &(TrunkOps){k, linear, attend, true}, rows, NULL);
    real *logits = tape_numbers(k->tape, sizeof *logits * (size_t)(rows->m * V));
    *heap = any_filters(k) ? tape_numbers(k->tape, sizeof **heap * (size_t)(rows->m * V)) : NULL;
    if (!tape_dry(k->tape))
        packed_linear(&w->linear[w->g->cfg.layers * LINEARS], &k->arena, rows->m, h->data, NULL,
                      ACT_NONE, logits);
    return logits;
}

static void one_pass(Worker *k) {
    Gpt *g = k->w->g;
    int64_t V = g->cfg.vocab, m = 0;
    int64_t *last = tape_alloc(k->tape, sizeof *last * (size_t)k->slots); /* sequences' last rows */
    int64_t *slot = tape_alloc(k->tape, sizeof *slot * (size_t)k->slots);
    for (int64_t i = 0; i < k->n; i++)
        if (k->at[k->slot[i]].row == i) slot[m] = k->slot[i], last[m++] = i;
    int32_t *heap;
    real *logits = forward(k, &(GptRows){m, last}, &heap);
    int32_t *token = tape_alloc(k->tape, sizeof *token * (size_t)m);
    float *logp = tape_alloc(k->tape, sizeof *logp * (size_t)m);

#pragma omp parallel for schedule(static) if (m * V > PARALLEL_MIN)
    for (int64_t i = 0; i < m; i++) {
        const DecodeSlot *s = &k->at[slot[i]];
        const DecodeOptions *o = s->seq->o;
        const RngKey key = {.seed = o->seed, .purpose = RNG_SAMPLE, .step = o->step};
        if (o->see) o->see(o->ctx, s->seq->index, logits + i * V);
        token[i] = sample_token(g, logits + i * V, o, &key, s->seq->id, (uint32_t)s->cached,
                                heap ? heap + i * V : NULL, &logp[i]);
    }
    for (int64_t i = 0; i < m; i++) take_token(k, slot[i], token[i], logp[i]);
    tape_reset(k->tape);
}

/* --- workers ---------------------------------------------------------------------------------- */

/* A pass has room for a block's tensors of so many rows. */
static int64_t rows_of(const DecodeWork *w, int64_t slots) {
    return at_least(slots, PASS_ELEMENTS / (12 * w->g->cfg.width));
}

static void worker_run(DecodeWork *w, int64_t slots) {
    const GptConfig *cfg = &w->g->cfg;
    Worker k = {.w = w, .slots = slots};
    k.rows_max = rows_of(w, slots);
    int64_t rows = at_least(k.rows_max, w->longest_prompt);
    AUTOFREE int32_t *held = w->share ? xmalloc((size_t)(slots * w->longest) * sizeof *held) : NULL;
    k.at = xcalloc((size_t)slots, sizeof *k.at);
    k.token = xmalloc(3 * sizeof *k.token * (size_t)rows);
    k.slot = k.token + rows;
    k.pos = k.slot + rows;
    for (int64_t s = 0; held && s < slots; s++) k.at[s].held = held + s * w->longest;
    kv_open(&k.kv, cfg, slots, w->longest);
    k.tape = tape_open(&k.arena, false);
    while (collect_rows(&k) > 0) one_pass(&k);
    tape_close(&k.tape);
    arena_free(&k.arena);
    kv_close(&k.kv);
    free(k.token);
    free(k.at);
}

int64_t decode_slots(const GptConfig *cfg, int64_t n, int64_t longest, int64_t threads) {
    const int64_t fit = CACHE_BYTES_MAX / kv_bytes_per_slot(cfg, longest);
    return at_most(n, at_least(1, at_most(threads * SLOTS_PER_THREAD, fit)));
}

static int64_t workers_of(const DecodeWork *w, int64_t slots, int64_t threads) {
    const ParamSet *weights = w->g->base ? &w->g->base->params : &w->g->params;
    if (weights->count > LARGE_MODEL && slots < threads * SLOTS_LARGE_MODEL_MIN) return 1;
    return at_least(1, at_most(threads, slots / SLOTS_PER_WORKER_MIN));
}

static void run_workers(DecodeWork *w, int64_t n, int64_t slots) {
    int64_t threads = omp_in_parallel() ? 1 : omp_get_max_threads();
    slots = slots ? at_most(slots, n) : decode_slots(&w->g->cfg, n, w->longest, threads);
    int64_t workers = workers_of(w, slots, threads);
    if (workers == 1) { /* outside a parallel region, so that the ops have all threads */
        worker_run(w, slots);
        return;
    }
#pragma omp parallel for schedule(static, 1) num_threads((int)workers)
    for (int64_t i = 0; i < workers; i++)
        worker_run(w, slots * (i + 1) / workers - slots * i / workers);
}

/* What is packed for `weight`: itself, or what adapters make of it. */
static void pack_weight(DecodeWork *w, Packed *p, const Tensor *weight, const Tensor *data) {
    void *memory = arena_numbers(w->arena, packed_bytes(data));
    *p = (Packed){.M = weight->shape[0], .K = weight->shape[1]};
    if (!w->arena->dry) packed_make(p, data, memory);
    p->w = weight;
}

/* Adapted weights are merged on the way, and wide then. */
static void pack_block_weight(DecodeWork *w, int64_t layer, LoraTarget target, Packed *p,
                              const Tensor *weight) {
    if (!w->g->block[layer].lora_a[target]) {
        pack_weight(w, p, weight, weight);
        return;
    }
    Arena arena = {0};
    Tensor merged = {.ndim = 2, .shape = {weight->shape[0], weight->shape[1]}};
    if (!w->arena->dry) {
        merged.data = arena_alloc(&arena, sizeof(real) * (size_t)tensor_size(weight));
        lora_merge_weight(w->g, layer, target, &arena, merged.data);
    }
    pack_weight(w, p, weight, &merged);
    arena_free(&arena);
}

static void pack_weights(DecodeWork *w) {
    const Gpt *g = w->g;
    int64_t L = g->cfg.layers;
    w->linear = arena_alloc(w->arena, sizeof *w->linear * (size_t)(L * LINEARS + 1));
    for (int64_t l = 0; l < L; l++) {
        const GptBlock *b = &g->block[l];
        Packed *p = &w->linear[l * LINEARS];
        pack_block_weight(w, l, LORA_QKV, &p[QKV], b->qkv_w);
        pack_block_weight(w, l, LORA_PROJ, &p[PROJ], b->proj_w);
        pack_block_weight(w, l, LORA_FC, &p[FC], b->fc_w);
        pack_block_weight(w, l, LORA_FC2, &p[FC2], b->fc2_w);
    }
    pack_weight(w, &w->linear[L * LINEARS], g->out_w, g->out_w);
}

void decode_bytes(DecodeBytes *out, Gpt *g, int64_t n, int64_t prompt, int64_t longest,
                  int64_t threads) {
    Arena packed = {.dry = true};
    DecodeWork w = {.g = g, .longest = longest, .arena = &packed};
    const int64_t slots = decode_slots(&g->cfg, n, longest, threads);
    const int64_t workers = workers_of(&w, slots, threads);
    Worker k = {.w = &w, .slots = (slots + workers - 1) / workers, .arena = {.dry = true}};
    pack_weights(&w);
    k.n = at_least(k.slots, at_most(rows_of(&w, k.slots), (n + workers - 1) / workers * prompt));
    k.tape = tape_open(&k.arena, false);
    AUTOFREE int64_t *last = xmalloc((size_t)k.slots * sizeof *last);
    for (int64_t s = 0; s < k.slots; s++) last[s] = s;
    int32_t *heap;
    forward(&k, &(GptRows){k.slots, last}, &heap);
    *out = (DecodeBytes){.weights = packed.high,
                         .passes = (size_t)workers * k.arena.high +
                                   (size_t)(slots * kv_bytes_per_slot(&g->cfg, longest))};
    tape_close(&k.tape);
    arena_free(&k.arena);
    arena_free(&packed);
}

/* --- the call --------------------------------------------------------------------------------- */

static int check_options(const DecodeOptions *o) {
    if (!(o->temperature >= 0 && isfinite(o->temperature)))
        return error_set(ERR_CONFIG, "temperature is %g, expected 0 (greedy) or more",
                         o->temperature);
    if (!(o->top_p > 0 && o->top_p <= 1))
        return error_set(ERR_CONFIG, "top_p is %g, expected above 0 and at most 1 (off)", o->top_p);
    if (o->top_k < 0)
        return error_set(ERR_CONFIG, "top_k is %lld, expected 0 (off) or more",
                         (long long)o->top_k);
    if (o->max_new < 1)
        return error_set(ERR_CONFIG, "the longest response is %lld tokens, expected 1 or more",
                         (long long)o->max_new);
    if (o->slots < 0)
        return error_set(ERR_CONFIG, "decoding slots are %lld, expected 0 (automatic) or more",
                         (long long)o->slots);
    return 0;
}

static int check_prompt(const Gpt *g, const DecodeSequence *q) {
    const int64_t T = g->cfg.context, V = g->cfg.vocab;
    const long long i = q->index;
    if (q->nprompt < 1)
        return error_set(ERR_DATA, "prompt %lld is empty, expected at least one token", i);
    if (q->nprompt >= T)
        return error_set(ERR_DATA,
                         "prompt %lld has %lld tokens, expected at most %lld: the model's context "
                         "is %lld and the response needs room; shorten the prompt",
                         i, (long long)q->nprompt, (long long)T - 1, (long long)T);
    for (int64_t j = 0; j < q->nprompt; j++)
        if (q->prompt[j] < 0 || q->prompt[j] >= V)
            return error_set(ERR_DATA,
                             "prompt %lld has token %d, expected 0 to %lld: was it encoded with "
                             "the model's tokenizer?",
                             i, q->prompt[j], (long long)V - 1);
    return 0;
}

int decode_check(const Gpt *g, const DecodeSequence *q) {
    TRY(check_options(q->o));
    return check_prompt(g, q);
}

/* The prompts of one call, as a source. */
typedef struct PromptList {
    DecodeSequence *v;
    int64_t n, next;
} PromptList;

static DecodeSequence *next_prompt(void *ctx, int64_t rows, bool idle) {
    PromptList *l = ctx;
    DecodeSequence *q = NULL;
#pragma omp critical(decode_take_prompt)
    if (l->next < l->n && l->v[l->next].nprompt <= rows) q = &l->v[l->next++];
    return q;
}

int decode(DecodeResult *out, Gpt *g, const int32_t *tokens, const int64_t *start, int64_t n,
           const uint64_t *id, const DecodeOptions *o) {
    *out = (DecodeResult){0};
    TRY(check_options(o));
    if (n == 0) return 0;
    Arena own = {0};
    AUTOFREE DecodeSequence *v = xcalloc((size_t)n, sizeof *v);
    PromptList list = {v, n, 0};
    DecodeWork w = {.g = g, .source = {next_prompt, NULL, &list}};
    w.arena = o->scratch ? o->scratch : &own;
    int64_t total = 0;
    for (int64_t i = 0; i < n; i++) {
        v[i] = (DecodeSequence){.o = o,
                                .prompt = tokens + start[i],
                                .nprompt = start[i + 1] - start[i],
                                .id = id ? id[i] : (uint64_t)i,
                                .index = i};
        TRY(check_prompt(g, &v[i]));
        v[i].room = at_most(o->max_new, g->cfg.context - v[i].nprompt);
        total += v[i].room;
        w.longest = at_least(w.longest, v[i].nprompt + v[i].room);
        w.longest_prompt = at_least(w.longest_prompt, v[i].nprompt);
    }
    int32_t *out_tokens = xmalloc((sizeof(int32_t) + sizeof(float)) * (size_t)total);
    float *out_logp = (float *)(out_tokens + total);
    for (int64_t i = 0, at = 0; i < n; at += v[i++].room)
        v[i].tokens = out_tokens + at, v[i].logp = out_logp + at;

    pack_weights(&w);
    run_workers(&w, n, o->slots);

    out->n = n;
    out->v = xcalloc((size_t)n, sizeof *out->v);
    out->priv = out_tokens;
    for (int64_t i = 0; i < n; i++) {
        out->v[i] = (Response){v[i].tokens, v[i].logp, v[i].n, v[i].stopped};
        out->tokens += v[i].n;
    }
    if (o->scratch) arena_reset(o->scratch);
    arena_free(&own);
    return 0;
}

int decode_serve(Gpt *g, const DecodeSource *source, int64_t slots) {
    Arena own = {0};
    const int64_t T = g->cfg.context;
    DecodeWork w = {.g = g, .source = *source, .longest = T, .longest_prompt = T, .share = true};
    if (slots < 0)
        return error_set(ERR_CONFIG, "slots are %lld, expected 0 (automatic) or more",
                         (long long)slots);
    w.arena = &own;
    pack_weights(&w);
    run_workers(&w, INT32_MAX, slots);
    arena_free(&own);
    return 0;
}

int decode_finite(const DecodeResult *r) {
    for (int64_t i = 0; i < r->n; i++)
        for (int64_t k = 0; k < r->v[i].n; k++)
            if (!isfinite((double)r->v[i].logp[k]))
                return error_set(ERR_INTERNAL,
                                 "the model gives no finite probabilities (response %lld, token "
                                 "%lld): it has diverged or is damaged; use an earlier checkpoint",
                                 (long long)i + 1, (long long)k + 1);
    return 0;
}

void decode_free(DecodeResult *r) {
    free(r->v);
    free(r->priv);
    *r = (DecodeResult){0};
}
