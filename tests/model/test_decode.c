/* Decoding: against the training forward, against exact probabilities, and against itself in other
 * batches. */
#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/blas.h"
#include "core/kernel.h"
#include "model/decode.h"
#include "model/sample.h"
#include "tests/model/random_gpt.h"

enum { V = 29, CONTEXT = 40, C = 20, PROMPTS = 60, LONGEST = 17 };
static const GptConfig config = {
    .vocab = V, .context = CONTEXT, .layers = 2, .heads = 2, .width = C, .bias = true};

typedef struct World {
    Gpt *g;
    Arena arena;
    Tape *tape;
    int32_t tokens[PROMPTS * LONGEST];
    int64_t start[PROMPTS + 1]; /* prompts of 1 to 17 tokens */
} World;

static int open_world(void **state) {
    World *w = calloc(1, sizeof *w);
    w->g = random_gpt(config, 1);
    w->tape = tape_open(&w->arena, false);
    for (int i = 0; i < PROMPTS; i++) {
        int64_t len = 1 + random_below((uint64_t)i, LONGEST);
        for (int64_t j = 0; j < len; j++)
            w->tokens[w->start[i] + j] = (int32_t)random_below((uint64_t)(1000 + 100 * i + j), V);
        w->start[i + 1] = w->start[i] + len;
    }
    *state = w;
    return 0;
}

static int close_world(void **state) {
    World *w = *state;
    tape_close(&w->tape);
    arena_free(&w->arena);
    gpt_close(&w->g);
    free(w);
    return 0;
}

static DecodeResult run(World *w, const DecodeOptions *o) {
    DecodeResult r;
    assert_int_equal(decode(&r, w->g, w->tokens, w->start, PROMPTS, NULL, o), 0);
    assert_int_equal(r.n, PROMPTS);
    return r;
}

static void expect_same(const Response *a, const Response *b) {
    assert_int_equal(a->n, b->n);
    assert_int_equal(a->stopped, b->stopped);
    assert_memory_equal(a->tokens, b->tokens, sizeof *a->tokens * (size_t)a->n);
    assert_memory_equal(a->logp, b->logp, sizeof *a->logp * (size_t)a->n);
}

/* Prompt and response of i, shifted by one for scoring. */
typedef struct Joined {
    Batch b;
    int32_t all[CONTEXT + 1];
    int64_t start[2], prompt;
} Joined;

static void join(Joined *j, const World *w, int64_t i, const Response *r) {
    j->prompt = w->start[i + 1] - w->start[i];
    memcpy(j->all, w->tokens + w->start[i], sizeof *j->all * (size_t)j->prompt);
    memcpy(j->all + j->prompt, r->tokens, sizeof *j->all * (size_t)r->n);
    j->start[0] = 0, j->start[1] = j->prompt + r->n - 1;
    j->b = (Batch){
        .n = j->start[1], .nseq = 1, .tokens = j->all, .targets = j->all + 1, .start = j->start};
}

/* --- against the training forward ------------------------------------------------------------- */

static void test_greedy_is_argmax(void **state) {
    World *w = *state;
    DecodeResult r = run(w, &(DecodeOptions){.top_p = 1, .max_new = 12, .slots = 8});
    for (int64_t i = 0; i < PROMPTS; i++) {
        Joined j;
        join(&j, w, i, &r.v[i]);
        assert_int_equal(r.v[i].n, 12);
        Tensor *h = gpt_forward(w->g, w->tape, &j.b, NULL, NULL);
        real logits[CONTEXT * V];
        blas_gemm(false, true, j.b.n, V, C, 1, h->data, C, w->g->out_w->data, C, 0, logits, V);
        tape_reset(w->tape);
        for (int64_t k = 0; k < r.v[i].n; k++) {
            const real *row = logits + (j.prompt - 1 + k) * V;
            int best = 0;
            for (int v = 1; v < V; v++)
                if (row[v] > row[best]) best = v;
            assert_int_equal(r.v[i].tokens[k], best);
        }
    }
    decode_free(&r);
}

static void check_logp(World *w, const DecodeOptions *o) {
    DecodeResult r = run(w, o);
    double temperature = o->temperature > 0 ? o->temperature : 1;
    for (int64_t i = 0; i < PROMPTS; i++) {
        Joined j;
        real logp[CONTEXT];
        join(&j, w, i, &r.v[i]);
        gpt_score(w->g, w->tape, &j.b, NULL, temperature, logp, NULL);
        for (int64_t k = 0; k < r.v[i].n; k++) {
            double want = (double)logp[j.prompt - 1 + k], have = (double)r.v[i].logp[k];
            if (!(fabs(want - have) < 1e-5))
                fail_msg("prompt %lld, token %lld: %.8g, scored %.8g", (long long)i, (long long)k,
                         have, want);
        }
    }
    decode_free(&r);
}

static void test_logp_is_the_models(void **state) {
    check_logp(*state, &(DecodeOptions){.temperature = 1, .top_p = 1, .max_new = 23});
    check_logp(*state, &(DecodeOptions){.temperature = 0.6, .top_p = 1, .max_new = 9, .seed = 2});
    check_logp(*state,
               &(DecodeOptions){.temperature = 1.5, .top_k = 5, .top_p = 0.8, .max_new = 9});
    check_logp(*state, &(DecodeOptions){.temperature = 0, .top_p = 1, .max_new = 9});
}

static void check_model(World *w, GptConfig cfg, double temperature) {
    Gpt *g = w->g;
    w->g = random_gpt(cfg, 1);
    check_logp(w, &(DecodeOptions){.temperature = temperature, .top_p = 1, .max_new = 23});
    gpt_close(&w->g);
    w->g = g;
}

static void test_untied(void **state) {
    GptConfig cfg = config;
    cfg.untied = true;
    check_model(*state, cfg, 1);
}

static void test_families(void **state) {
    GptConfig odd = config;
    odd.heads = 4, odd.width = 24;
    for (int f = 0; f < FAMILIES; f++) check_model(*state, family_of(odd, (ArchFamily)f), 1);
}

/* Values in several strips of columns, the last one narrower and not full. */
static void test_wide_heads(void **state) {
    GptConfig cfg = config;
    cfg.width = 72;
    cfg.heads = cfg.layers = 1;
    check_model(*state, cfg, 4); /* this wide, logits are large, and so is their rounding */
}

static int64_t count_of(World *w, const DecodeOptions *o, const int32_t *tokens, int n) {
    DecodeResult r = run(w, o);
    int64_t met = 0;
    for (int64_t i = 0; i < PROMPTS; i++)
        for (int64_t t = 0; t < r.v[i].n; t++)
            for (int m = 0; m < n; m++) met += r.v[i].tokens[t] == tokens[m];
    decode_free(&r);
    return met;
}

/* Tokens that are never sampled. The others' log-probabilities are the model's own, as training
 * computes them. */
static void test_masked(void **state) {
    World *w = *state;
    const int32_t never[] = {0, 5, 6, 20, 21, 22};
    static const DecodeOptions o[] = {
        {.temperature = 1, .top_p = 1, .max_new = 23},
        {.temperature = 0, .top_p = 1, .max_new = 9},
        {.temperature = 1.5, .top_k = 5, .top_p = 0.8, .max_new = 9},
        {.temperature = 2, .top_k = 1000, .top_p = 1, .max_new = 9},
        {.temperature = 1, .top_p = 0.5, .max_new = 9},
    };
    for (size_t k = 0; k < sizeof o / sizeof o[0]; k++) {
        assert_true(count_of(w, &o[k], never, 6) > 0);
        gpt_never_sample(w->g, never, 6);
        assert_int_equal(count_of(w, &o[k], never, 6), 0);
        check_logp(w, &o[k]);
        gpt_never_sample(w->g, NULL, 0);
    }
}

/* All probability on a masked token: the likeliest of the others, with the log-probability that it
 * has, however far down. */
static void test_masked_sure(void **state) {
    enum { N = 7 };
    real logits[N] = {-300, 0, -200, -250, -200, -400, -201};
    int32_t heap[N], never[] = {1};
    const RngKey key = {.seed = 5, .purpose = RNG_SAMPLE};
    const Gpt g = {.cfg = {.vocab = N}, .masked = never, .nmasked = 1};
    for (int k = 0; k < 3; k++) {
        const DecodeOptions o = {.temperature = k != 0, .top_p = k == 2 ? 0.9 : 1};
        real row[N];
        float logp;
        memcpy(row, logits, sizeof row);
        assert_int_equal(sample_token(&g, row, &o, &key, 0, 0, k == 2 ? heap : NULL, &logp), 2);
        assert_true(fabs((double)logp + 200) < 1e-3);
    }
}

/* --- against itself --------------------------------------------------------------------------- */

static void test_batch_does_not_matter(void **state) {
    needs_own_kernels();
    World *w = *state;
    int threads = omp_get_max_threads();
    int32_t stop[] = {3, 11};
    DecodeOptions o = {.temperature = 1,
                       .top_p = 1,
                       .max_new = 20,
                       .stop = stop,
                       .nstop = 2,
                       .seed = 7,
                       .step = 3,
                       .slots = 1};
    for (int filter = 0; filter < 2; filter++) {
        o.slots = 1;
        o.top_p = filter ? 0.9 : 1;
        DecodeResult one = run(w, &o);
        static const int slots[] = {2, 7, 16, 64, 0};
        for (int k = 0; k < 5; k++) {
            o.slots = slots[k];
            omp_set_num_threads(1 + k % 3);
            DecodeResult r = run(w, &o);
            assert_int_equal(r.tokens, one.tokens);
            for (int64_t i = 0; i < PROMPTS; i++) expect_same(&r.v[i], &one.v[i]);
            decode_free(&r);
        }
        omp_set_num_threads(threads);
        decode_free(&one);
    }
}

static void test_order_does_not_matter(void **state) {
    needs_own_kernels();
    World *w = *state;
    DecodeOptions o = {.temperature = 1, .top_p = 1, .max_new = 20, .seed = 7, .slots = 8};
    DecodeResult forward = run(w, &o), backward;
    int32_t tokens[PROMPTS * LONGEST];
    int64_t start[PROMPTS + 1] = {0};
    uint64_t id[PROMPTS];
    for (int64_t i = 0; i < PROMPTS; i++) {
        int64_t from = PROMPTS - 1 - i, len = w->start[from + 1] - w->start[from];
        id[i] = (uint64_t)from;
        start[i + 1] = start[i] + len;
        memcpy(tokens + start[i], w->tokens + w->start[from], sizeof *tokens * (size_t)len);
    }
    assert_int_equal(decode(&backward, w->g, tokens, start, PROMPTS, id, &o), 0);
    for (int64_t i = 0; i < PROMPTS; i++) expect_same(&forward.v[i], &backward.v[PROMPTS - 1 - i]);
    decode_free(&forward);
    decode_free(&backward);
}

static int64_t same_tokens(const DecodeResult *a, const DecodeResult *b) {
    int64_t same = 0;
    for (int64_t i = 0; i < a->n; i++)
        same += a->v[i].n == b->v[i].n &&
                memcmp(a->v[i].tokens, b->v[i].tokens, sizeof(int32_t) * (size_t)a->v[i].n) == 0;
    return same;
}

static void test_seed_and_step(void **state) {
    World *w = *state;
    DecodeOptions o = {.temperature = 1, .top_p = 1, .max_new = 20, .seed = 7};
    DecodeResult a = run(w, &o), again = run(w, &o);
    assert_int_equal(same_tokens(&a, &again), PROMPTS);
    o.step = 1;
    DecodeResult step = run(w, &o);
    o.step = 0, o.seed = 8;
    DecodeResult seed = run(w, &o);
    assert_true(same_tokens(&a, &step) < PROMPTS / 10);
    assert_true(same_tokens(&a, &seed) < PROMPTS / 10);
    decode_free(&a), decode_free(&again), decode_free(&step), decode_free(&seed);
}

/* With all logits equal only the noise speaks: it differs between tokens, positions and
 * sequences. */
static void test_noise(void **state) {
    World *w = *state;
    size_t bytes = sizeof(real) * V * C;
    real *keep = malloc(bytes);
    memcpy(keep, w->g->wte->data, bytes);
    memset(w->g->wte->data, 0, bytes);
    DecodeResult r = run(w, &(DecodeOptions){.temperature = 1, .top_p = 1, .max_new = 100});
    memcpy(w->g->wte->data, keep, bytes);
    free(keep);
    int64_t count[V] = {0}, n = 0, repeats = 0, same = 0;
    for (int64_t i = 0; i < PROMPTS; i++)
        for (int64_t k = 0; k < r.v[i].n; k++, n++) {
            count[r.v[i].tokens[k]]++;
            repeats += k > 0 && r.v[i].tokens[k] == r.v[i].tokens[k - 1];
            same += i > 0 && k < r.v[i - 1].n && r.v[i].tokens[k] == r.v[i - 1].tokens[k];
        }
    double each = (double)n / V, spread = 5 * sqrt(each);
    for (int v = 0; v < V; v++) assert_true(fabs((double)count[v] - each) < spread);
    assert_true(fabs((double)repeats - each) < spread + PROMPTS);
    assert_true(fabs((double)same - each) < spread + PROMPTS);
    decode_free(&r);
}

/* More prompt tokens than one pass carries: some sequences enter later. */
static void test_many_long_prompts(void **state) {
    needs_own_kernels();
    enum { WIDTH = 32, LEN = 250, COUNT = 100 };
    Gpt *g = random_gpt(
        (GptConfig){.vocab = V, .context = 256, .layers = 1, .heads = 1, .width = WIDTH}, 2);
    static int32_t tokens[LEN * COUNT];
    int64_t start[COUNT + 1];
    for (int i = 0; i < LEN * COUNT; i++) tokens[i] = (int32_t)random_below((uint64_t)i, V);
    for (int i = 0; i <= COUNT; i++) start[i] = i * LEN;
    DecodeOptions o = {.temperature = 3, .top_p = 1, .max_new = 5, .slots = COUNT};
    DecodeResult all, few;
    int threads = omp_get_max_threads();
    omp_set_num_threads(1); /* one crew: 100 x 250 rows at once would exceed the pass */
    assert_int_equal(decode(&all, g, tokens, start, COUNT, NULL, &o), 0);
    omp_set_num_threads(threads);
    o.slots = 2;
    assert_int_equal(decode(&few, g, tokens, start, COUNT, NULL, &o), 0);
    for (int i = 0; i < COUNT; i++) expect_same(&all.v[i], &few.v[i]);
    decode_free(&all), decode_free(&few);
    gpt_close(&g);
}

/* --- against exact probabilities -------------------------------------------------------------- */

static int descending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

/* What the first token after prompt 0 should be: softmax at the temperature, the top_k of it, then
 * the fewest of these that hold top_p of their mass. */
static void exact(World *w, const DecodeOptions *o, double p[V]) {
    int64_t n = w->start[1], start[2] = {0, n};
    int32_t target[LONGEST];
    double sorted[V], mass = 0, least = 0;
    for (int v = 0; v < V; v++) {
        real logp[LONGEST];
        for (int64_t i = 0; i < n; i++) target[i] = v;
        Batch b = {.n = n, .nseq = 1, .tokens = w->tokens, .targets = target, .start = start};
        gpt_score(w->g, w->tape, &b, NULL, o->temperature, logp, NULL);
        p[v] = sorted[v] = exp((double)logp[n - 1]);
    }
    qsort(sorted, V, sizeof *sorted, descending);
    int64_t k = o->top_k > 0 ? o->top_k : V, kept = 0;
    for (int64_t i = 0; i < k; i++) mass += sorted[i];
    for (double part = 0; kept < k && part < o->top_p * mass; kept++) part += least = sorted[kept];
    mass = 0;
    for (int v = 0; v < V; v++) mass += p[v] = p[v] >= least * (1 - 1e-9) ? p[v] : 0;
    for (int v = 0; v < V; v++) p[v] /= mass;
}

static void check_distribution(World *w, DecodeOptions o) {
    enum { DRAWS = 8000 };
    double p[V];
    exact(w, &o, p);
    int64_t n = w->start[1], *start = malloc(sizeof *start * (DRAWS + 1));
    int32_t *tokens = malloc(sizeof *tokens * (size_t)(DRAWS * n));
    for (int64_t i = 0; i <= DRAWS; i++) start[i] = i * n;
    for (int64_t i = 0; i < DRAWS * n; i++) tokens[i] = w->tokens[i % n];
    o.max_new = 1, o.seed = 42, o.slots = 64;
    DecodeResult r;
    assert_int_equal(decode(&r, w->g, tokens, start, DRAWS, NULL, &o), 0);
    int64_t count[V] = {0};
    for (int i = 0; i < DRAWS; i++) count[r.v[i].tokens[0]]++;
    double chi2 = 0, rest_p = 0;
    int64_t rest = 0, cells = 0, possible = 0;
    for (int v = 0; v < V; v++) {
        if (p[v] == 0) assert_int_equal(count[v], 0);
        possible += p[v] > 0;
        if (p[v] * DRAWS < 10) { /* small cells together */
            rest += count[v], rest_p += p[v];
            continue;
        }
        chi2 += pow((double)count[v] - p[v] * DRAWS, 2) / (p[v] * DRAWS);
        cells++;
    }
    if (rest_p > 0) chi2 += pow((double)rest - rest_p * DRAWS, 2) / fmax(rest_p * DRAWS, 1);
    bool filtered = o.top_k > 0 || o.top_p < 1;
    if (o.top_k > 0 && o.top_p == 1) assert_int_equal(possible, o.top_k);
    assert_true(filtered ? possible > 2 && possible < V * 2 / 3 : possible == V);
    double degrees = (double)cells - 1;
    if (!(chi2 < degrees + 4 * sqrt(2 * degrees) + 4))
        fail_msg("chi-square %.1f with %.0f degrees of freedom", chi2, degrees);
    free(start), free(tokens);
    decode_free(&r);
}

static void test_distribution(void **state) {
    World *w = *state;
    check_distribution(w, (DecodeOptions){.temperature = 1, .top_p = 1});
    check_distribution(w, (DecodeOptions){.temperature = 2.5, .top_p = 1});
    check_distribution(w, (DecodeOptions){.temperature = 1.3, .top_k = 6, .top_p = 1});
    check_distribution(w, (DecodeOptions){.temperature = 2, .top_p = 0.8});
    check_distribution(w, (DecodeOptions){.temperature = 2, .top_k = 9, .top_p = 0.8});
}

static void test_narrow_filters_are_greedy(void **state) {
    World *w = *state;
    DecodeOptions greedy = {.top_p = 1, .max_new = 15}, k1 = greedy, p0 = greedy;
    k1.temperature = 1, k1.top_k = 1;
    p0.temperature = 1, p0.top_p = 1e-6;
    DecodeResult a = run(w, &greedy), b = run(w, &k1), c = run(w, &p0);
    for (int64_t i = 0; i < PROMPTS; i++) {
        expect_same(&a.v[i], &b.v[i]);
        expect_same(&a.v[i], &c.v[i]);
    }
    decode_free(&a), decode_free(&b), decode_free(&c);
}

/* A row of logits that is raced in blocks, most of which nobody of can win, has the same winner as
 * one whose tokens run one by one: with room for a heap they do, here all of them. */
static void test_race_in_blocks(void **state) {
    enum { WIDE = 1003 };
    static real logits[WIDE], row[WIDE];
    static int32_t heap[WIDE];
    const RngKey key = {.seed = 5, .purpose = RNG_SAMPLE};
    const DecodeOptions o = {.temperature = 1, .top_p = 1};
    const Gpt g = {.cfg = {.vocab = WIDE}};
    int64_t late = 0;
    for (uint32_t position = 0; position < 300; position++) {
        double sharp = position % 3 * 4; /* flat: late blocks can win; sharp: few tokens run */
        for (int64_t i = 0; i < WIDE; i++)
            logits[i] = (real)(sharp * rng_uniform(&key, 1, position, (uint32_t)i));
        float logp[2];
        memcpy(row, logits, sizeof row);
        int32_t blocks = sample_token(&g, row, &o, &key, 2, position, NULL, &logp[0]);
        memcpy(row, logits, sizeof row);
        int32_t single = sample_token(&g, row, &o, &key, 2, position, heap, &logp[1]);
        assert_int_equal(blocks, single);
        assert_true(logp[0] == logp[1]);
        late += blocks >= WIDE * 3 / 4;
    }
    assert_in_range(late, 50, 100);
}

/* --- ends ------------------------------------------------------------------------------------- */

static void test_ends(void **state) {
    World *w = *state;
    int32_t stop[] = {3, 11};
    DecodeOptions o = {.temperature = 1, .top_p = 1, .max_new = 1000, .stop = stop, .nstop = 2};
    DecodeResult r = run(w, &o);
    int64_t stopped = 0, full = 0, sum = 0;
    for (int64_t i = 0; i < PROMPTS; i++) {
        const Response *x = &r.v[i];
        int64_t room = CONTEXT - (w->start[i + 1] - w->start[i]);
        for (int64_t k = 0; k < x->n; k++) {
            bool is_stop = x->tokens[k] == 3 || x->tokens[k] == 11;
            assert_int_equal(is_stop, x->stopped && k == x->n - 1);
        }
        assert_true(x->n >= 1 && x->n <= room);
        if (!x->stopped) assert_int_equal(x->n, room);
        stopped += x->stopped;
        full += !x->stopped;
        sum += x->n;
    }
    assert_true(stopped > 0 && full > 0); /* both kinds occurred */
    assert_int_equal(r.tokens, sum);

    /* The same without stop tokens: the shorter ones are beginnings of these. */
    o.nstop = 0;
    DecodeResult whole = run(w, &o);
    for (int64_t i = 0; i < PROMPTS; i++) {
        assert_false(whole.v[i].stopped);
        assert_int_equal(whole.v[i].n, CONTEXT - (w->start[i + 1] - w->start[i]));
        assert_memory_equal(whole.v[i].tokens, r.v[i].tokens, sizeof(int32_t) * (size_t)r.v[i].n);
    }
    decode_free(&r), decode_free(&whole);
}

typedef struct Stream {
    int64_t n[PROMPTS];
    int32_t token[PROMPTS][CONTEXT];
    int64_t end_after; /* 0: never */
} Stream;

static int on_token(void *ctx, int64_t prompt, int32_t token) {
    Stream *s = ctx;
    s->token[prompt][s->n[prompt]++] = token;
    return s->n[prompt] == s->end_after;
}

static void test_stream(void **state) {
    World *w = *state;
    Stream *s = calloc(1, sizeof *s);
    DecodeOptions o = {.temperature = 1, .top_p = 1, .max_new = 9, .on_token = on_token, .ctx = s};
    for (s->end_after = 0; s->end_after <= 4; s->end_after += 4) {
        memset(s->n, 0, sizeof s->n);
        DecodeResult r = run(w, &o);
        for (int64_t i = 0; i < PROMPTS; i++) {
            assert_int_equal(r.v[i].n, s->end_after ? 4 : 9);
            assert_int_equal(r.v[i].n, s->n[i]);
            assert_memory_equal(r.v[i].tokens, s->token[i], sizeof(int32_t) * (size_t)r.v[i].n);
            assert_false(r.v[i].stopped);
        }
        decode_free(&r);
    }
    free(s);
}

/* --- a decoder that goes on -------------------------------------------------------------------- */

enum { SERVED = 90 };

/* Sequence i is prompt i % 30 with its own options and as many tokens of it as i says, so that many
 * begin alike; they come a few at a time. */
typedef struct Arrivals {
    DecodeSequence seq[SERVED];
    DecodeOptions o[SERVED];
    int32_t tokens[SERVED][CONTEXT];
    float logp[SERVED][CONTEXT];
    int next, done, calls;
} Arrivals;

static DecodeSequence *arrive(void *ctx, int64_t rows, bool idle) {
    Arrivals *a = ctx;
    DecodeSequence *q = NULL;
#pragma omp critical(test_arrive)
    if (a->next < SERVED && a->seq[a->next].nprompt <= rows && (idle || a->calls++ % 3))
        q = &a->seq[a->next++];
    return q;
}

static void leave(void *ctx, DecodeSequence *q) {
    Arrivals *a = ctx;
#pragma omp atomic
    a->done++;
}

static void test_serve(void **state) {
    World *w = *state;
    Arrivals *a = calloc(1, sizeof *a);
    for (int threads = 1; threads <= 4; threads += 3)
        for (int64_t slots = 1; slots <= 16; slots += 15) {
            omp_set_num_threads(threads);
            memset(a, 0, sizeof *a);
            for (int i = 0; i < SERVED; i++) {
                const int64_t p = i % 30;
                a->o[i] = (DecodeOptions){.temperature = i % 4 ? 0.5 * (i % 4) : 0,
                                          .top_p = i % 5 ? 1 : 0.8,
                                          .top_k = i % 7 ? 0 : 5,
                                          .max_new = 3 + i % 20,
                                          .seed = (uint64_t)(i / 4)};
                a->seq[i] = (DecodeSequence){.o = &a->o[i],
                                             .prompt = w->tokens + w->start[p],
                                             .nprompt = w->start[p + 1] - w->start[p],
                                             .id = (uint64_t)i,
                                             .tokens = a->tokens[i],
                                             .logp = a->logp[i]};
                a->seq[i].room = 3 + i % 20;
                assert_int_equal(decode_check(w->g, &a->seq[i]), 0);
            }
            assert_int_equal(decode_serve(w->g, &(DecodeSource){arrive, leave, a}, slots), 0);
            assert_int_equal(a->done, SERVED);
            for (int i = 0; i < SERVED; i++) {
                const DecodeSequence *q = &a->seq[i];
                DecodeResult r;
                assert_int_equal(
                    decode(&r, w->g, q->prompt, (int64_t[]){0, q->nprompt}, 1, &q->id, q->o), 0);
                expect_same(&r.v[0], &(Response){q->tokens, q->logp, q->n, q->stopped});
                decode_free(&r);
            }
        }
    omp_set_num_threads(omp_get_num_procs());
    free(a);
}

/* --- what is wrong ---------------------------------------------------------------------------- */

static void expect_error(World *w, const int32_t *tokens, const int64_t *start, int64_t n,
                         const DecodeOptions *o, int code, const char *says) {
    DecodeResult r;
    assert_int_equal(decode(&r, w->g, tokens, start, n, NULL, o), code);
    if (!strstr(error_message(), says)) fail_msg("\"%s\" does not say %s", error_message(), says);
    decode_free(&r);
}

static void test_errors(void **state) {
    World *w = *state;
    static int32_t tokens[2 * CONTEXT];
    DecodeOptions ok = {.temperature = 1, .top_p = 1, .max_new = 4}, o = ok;
    DecodeResult r;
    expect_error(w, tokens, (int64_t[]){0, 2, 2}, 2, &ok, ERR_DATA, "prompt 1 is empty");
    expect_error(w, tokens, (int64_t[]){0, 2, 2 + CONTEXT}, 2, &ok, ERR_DATA,
                 "prompt 1 has 40 tokens, expected at most 39");
    assert_int_equal(decode(&r, w->g, tokens, (int64_t[]){0, CONTEXT - 1}, 1, NULL, &ok), 0);
    assert_int_equal(r.v[0].n, 1);
    decode_free(&r);
    assert_int_equal(decode(&r, w->g, tokens, (int64_t[]){0}, 0, NULL, &ok), 0);
    assert_int_equal(r.n, 0);
    decode_free(&r);
    tokens[1] = V;
    expect_error(w, tokens, (int64_t[]){0, 2}, 1, &ok, ERR_DATA, "token 29");
    tokens[1] = 0;
    o.temperature = -1;
    expect_error(w, tokens, (int64_t[]){0, 2}, 1, &o, ERR_CONFIG, "temperature is -1");
    o = ok, o.top_p = 0;
    expect_error(w, tokens, (int64_t[]){0, 2}, 1, &o, ERR_CONFIG, "top_p is 0");
    o = ok, o.top_k = -2;
    expect_error(w, tokens, (int64_t[]){0, 2}, 1, &o, ERR_CONFIG, "top_k is -2");
    o = ok, o.max_new = 0;
    expect_error(w, tokens, (int64_t[]){0, 2}, 1, &o, ERR_CONFIG, "0 tokens");
}

/* A diverged model is recognised by its log-probabilities, and decoding ends all the same. */
static void test_not_finite(void **state) {
    World *w = *state;
    real keep = w->g->norm_f_w->data[3];
    w->g->norm_f_w->data[3] = (real)NAN;
    DecodeResult r =
        run(w, &(DecodeOptions){.temperature = 1, .top_k = 3, .top_p = 1, .max_new = 3});
    w->g->norm_f_w->data[3] = keep;
    for (int64_t i = 0; i < PROMPTS; i++)
        for (int64_t k = 0; k < r.v[i].n; k++) assert_true(isnan(r.v[i].logp[k]));
    assert_int_equal(decode_finite(&r), ERR_INTERNAL);
    assert_non_null(strstr(error_message(), "response 1, token 1"));
    decode_free(&r);
    r = run(w, &(DecodeOptions){.temperature = 1, .top_p = 1, .max_new = 3});
    assert_int_equal(decode_finite(&r), 0);
    decode_free(&r);
}

/* What decode_bytes counts on dry arenas is what the packed weights take, to the byte. */
static void test_bytes(void **state) {
    World *w = *state;
    Arena scratch = {0};
    DecodeOptions o = {.temperature = 1, .top_p = 1, .max_new = 5, .scratch = &scratch};
    DecodeResult r = run(w, &o);
    DecodeBytes d;
    Gpt *dry;
    assert_int_equal(gpt_open_dry(&dry, &w->g->cfg), 0);
    decode_bytes(&d, dry, PROMPTS, LONGEST, LONGEST + 5, 1);
    assert_int_equal(d.weights, scratch.high);
    assert_true(d.passes > (size_t)decode_slots(&config, PROMPTS, LONGEST + 5, 1) * LONGEST *
                               config.layers * C * 2 * sizeof(real)); /* the keys and values */
    gpt_close(&dry);
    decode_free(&r);
    arena_free(&scratch);
}

int main(void) {
    core_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy_is_argmax),
        cmocka_unit_test(test_logp_is_the_models),
        cmocka_unit_test(test_untied),
        cmocka_unit_test(test_families),
        cmocka_unit_test(test_wide_heads),
        cmocka_unit_test(test_masked),
        cmocka_unit_test(test_masked_sure),
        cmocka_unit_test(test_batch_does_not_matter),
        cmocka_unit_test(test_order_does_not_matter),
        cmocka_unit_test(test_seed_and_step),
        cmocka_unit_test(test_noise),
        cmocka_unit_test(test_many_long_prompts),
        cmocka_unit_test(test_distribution),
        cmocka_unit_test(test_narrow_filters_are_greedy),
        cmocka_unit_test(test_race_in_blocks),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_serve),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_bytes),
    };
    return cmocka_run_group_tests(tests, open_world, close_world);
}
