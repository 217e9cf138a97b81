/* rhetor-bench: what this machine can do, and how much of it Rhetor gets.
 *
 * On a shared machine the same loop can be twice as fast a second later, so a time alone says
 * little. Every case is therefore measured in turns with its limits: sgemm 2048^3, and reading
 * memory where a case moves much of it. A round's share is
 *
 *     max(FLOPs / rate of sgemm, bytes / rate of reading) / time
 *
 * with the rates measured just before and just after, and the median over the rounds is printed.
 * FLOPs and bytes are those that the mathematics needs; what is computed twice is not counted.
 *
 * A case runs in a process of its own, so its peak memory is its own too. The parent must not start
 * OpenMP threads: they do not live on in a child. */
#include <argp.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/json.h"
#include "base/openmp.h"
#include "core/blas.h"
#include "core/kernel.h"
#include "core/ops.h"
#include "model/decode.h"
#include "optim/optim.h"

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int double_order(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int n) { /* sorts v */
    qsort(v, (size_t)n, sizeof *v, double_order);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* --- the machine's limits ---------------------------------------------------------------------
 * Each function does its work once with all threads OpenMP may use and returns 1e9 FLOPs or bytes a
 * second. */

enum { SGEMM_N = 2048, CHAINS = 12, FMA_ROUNDS = 5000000 };
enum { STREAM_BYTES = 256 << 20, STREAM_BLOCK = 1 << 16 /* elements */, HUGE_PAGE = 2 << 20 };
static const int64_t stream_n = STREAM_BYTES / (int64_t)sizeof(real);
static const double sgemm_flops = 2.0 * SGEMM_N * SGEMM_N * SGEMM_N;
static real *mat[3], *stream[3];             /* operands */
static volatile real half = (real)0.5, sink; /* keep the compiler from knowing results */

/* CHAINS independent sums in registers: enough to hide the latency of two FMA units. */
#define FMA_LOOP(name, target, bytes)                                                          \
    target static double name(int64_t rounds) {                                                \
        typedef real vec __attribute__((vector_size(bytes)));                                  \
        vec x = (vec){0} + half, acc[CHAINS];                                                  \
        for (int i = 0; i < CHAINS; i++) acc[i] = x;                                           \
        for (int64_t r = 0; r < rounds; r++)                                                   \
            _Pragma("GCC unroll 12") for (int i = 0; i < CHAINS; i++) acc[i] = acc[i] * x + x; \
        for (int i = 1; i < CHAINS; i++) acc[0] += acc[i];                                     \
        sink = acc[0][0];                                                                      \
        return 2.0 * (double)rounds * CHAINS * (double)(bytes) / (sizeof(real));               \
    }
FMA_LOOP(fma_plain, , 16) /* without FMA a multiplication and an addition */
FMA_LOOP(fma_avx2, KERNEL_TARGET_AVX2, 32)
FMA_LOOP(fma_avx512, KERNEL_TARGET_AVX512, 64)

static double fma_rate(void) {
    static double (*const loop[KERNEL_LEVELS])(int64_t) = {fma_plain, fma_avx2, fma_avx512};
    double flops = 0, t = now();
#pragma omp parallel reduction(+ : flops)
    flops += loop[kernel_supported()](FMA_ROUNDS);
    return flops / (now() - t) * 1e-9;
}

/* From four places at once: one keeps too few reads in flight. */
KERNEL(stream_sum, (int64_t n, const real *x, real *sum), (n, x, sum)) {
    real s = 0;
#pragma omp simd reduction(+ : s)
    for (int64_t i = 0; i < n / 4; i++) s += x[i] + x[i + n / 4] + x[i + n / 2] + x[i + n / 4 * 3];
    *sum = s;
}

KERNEL(stream_triad, (int64_t n, const real *restrict b, const real *restrict c, real *restrict a),
       (n, b, c, a)) {
    for (int64_t i = 0; i < n; i++) a[i] = b[i] + (real)0.5 * c[i];
}

static double read_rate(void) {
    double t = now();
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < stream_n; i += STREAM_BLOCK) {
        real s;
        stream_sum(STREAM_BLOCK, stream[0] + i, &s);
        sink = s;
    }
    return STREAM_BYTES / (now() - t) * 1e-9;
}

/* a = b + c/2: two arrays read, one written, counted as three, as STREAM does. */
static double triad_rate(void) {
    double t = now();
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < stream_n; i += STREAM_BLOCK)
        stream_triad(STREAM_BLOCK, stream[1] + i, stream[2] + i, stream[0] + i);
    return 3.0 * STREAM_BYTES / (now() - t) * 1e-9;
}

static double sgemm_rate(void) {
    double t = now();
    blas_gemm(false, false, SGEMM_N, SGEMM_N, SGEMM_N, 1, mat[0], SGEMM_N, mat[1], SGEMM_N, 0,
              mat[2], SGEMM_N);
    return sgemm_flops / (now() - t) * 1e-9;
}

static const struct {
    const char *name, *unit;
    double (*rate)(void);
} limits[] = {{"FMA peak", "GFLOP/s", fma_rate},
              {"sgemm 2048^3", "GFLOP/s", sgemm_rate},
              {"memory, read", "GB/s", read_rate},
              {"memory, triad", "GB/s", triad_rate}};
enum { NLIMIT = sizeof limits / sizeof *limits, LIMIT_ROUNDS = 7 };

/* count arrays of n elements, written by the threads that will read them (first touch). */
static void alloc_touched(real **p, int count, int64_t n) {
    for (int k = 0; k < count; k++) {
        p[k] = aligned_alloc(HUGE_PAGE, n * sizeof(real));
        CHECK(p[k], "out of memory: %lld elements", (long long)n);
        madvise(p[k], n * sizeof(real), MADV_HUGEPAGE); /* as core/arena.c; it may be refused */
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < n; i++) p[k][i] = (real)(i % 256) / 256 - (real)0.5;
    }
}

/* --- the cases ----------------------------------------------------------------------- */

typedef enum Kind { LIMITS, LINEAR, ATTENTION, LAYERNORM, LOSS, ADAMW, STEP, DECODE } Kind;

typedef struct Case {
    const char *name, *what;
    Kind kind;
    const GptConfig *model;
    int64_t B, T;    /* sequences, and tokens of each; decoding: prompts */
    int64_t max_new; /* decoding */
    bool slow;       /* runs only when named in full */
} Case;

typedef struct Work {
    const Case *c;
    double flops, bytes, tokens; /* of one run; 0: they do not matter */
    Arena keep, arena;           /* inputs; activations */
    Tape *tape;
    Batch batch;
    Packing packing;
    Gpt *gpt;
    AdamW adam;
    Tensor *x, *r;     /* inputs of an op; its parameters are the model's */
    Tensor *dy, *dsum; /* gradients of its outputs are their data ... */
    real *dy_again;    /* ... and ops use up dy: it is restored from here */
} Work;

static const RngKey key = {.seed = 1, .purpose = RNG_TEST};

/* Random data and a cleared gradient. */
static Tensor *random_tensor(Work *w, int64_t rows, int64_t cols) {
    static uint64_t sample;
    Tensor *t = arena_zalloc(&w->keep, sizeof *t);
    *t = (Tensor){.ndim = 2, .shape = {rows, cols}};
    t->data = arena_alloc(&w->keep, rows * cols * sizeof(real));
    t->grad = arena_zalloc(&w->keep, rows * cols * sizeof(real));
    rng_normal_fill(&key, sample++, t->data, rows * cols, 1);
    return t;
}

static void open_batch(Work *w, const Case *c) {
    int64_t n = c->B * c->T;
    int32_t *tokens = arena_alloc(&w->keep, n * sizeof *tokens);
    int32_t *targets = arena_alloc(&w->keep, n * sizeof *targets);
    float *weight = arena_alloc(&w->keep, n * sizeof *weight);
    int64_t *start = arena_alloc(&w->keep, (c->B + 1) * sizeof *start);
    for (int64_t i = 0; i < n; i++) {
        tokens[i] = (int32_t)rng_below(&key, i, 0, 0, c->model->vocab);
        targets[i] = (int32_t)rng_below(&key, i, 1, 0, c->model->vocab);
        weight[i] = 1.0f / (float)n;
    }
    for (int64_t s = 0; s <= c->B; s++) start[s] = s * c->T;
    w->batch = (Batch){n, c->B, tokens, targets, weight, start};
    w->packing = (Packing){n, c->B, start};
    w->tokens = n;
}

/* Prepares what work_run does once, and counts it. */
static int work_open(Work *w, const Case *c) {
    const GptConfig *g = c->model;
    int64_t n = c->B * c->T, C = g->width, L = g->layers, V = g->vocab, M = 4 * C;
    *w = (Work){.c = c};
    w->tape = tape_open(&w->arena, true);
    open_batch(w, c);
    TRY(gpt_open(&w->gpt, g, c->kind != DECODE));
    gpt_init(w->gpt, 1);
    ParamSet *ps = &w->gpt->params;
    if (c->kind == ADAMW || c->kind == STEP) adamw_init(&w->adam, ps, 0.9, 0.95, 1e-8, 0.1);
    if (c->kind <= LOSS) {
        w->x = random_tensor(w, n, c->kind == ATTENTION ? 3 * C : C);
        w->dy = random_tensor(w, n, c->kind == LINEAR ? M : C);
        w->dy_again = arena_alloc(&w->keep, tensor_size(w->dy) * sizeof(real));
        memcpy(w->dy_again, w->dy->data, tensor_size(w->dy) * sizeof(real));
    }
    switch (c->kind) {
    case LINEAR: w->flops = 6.0 * n * M * C; break;
    case ATTENTION: w->flops = 6.0 * n * c->T * C; break; /* the causal half */
    case LAYERNORM:
        w->r = random_tensor(w, n, C);
        w->dsum = random_tensor(w, n, C);
        w->bytes = 9.0 * n * C * sizeof(real); /* x r -> sum y; sum dy dsum -> dx dr */
        break;
    case LOSS: w->flops = 6.0 * n * V * C; break;
    case ADAMW:
        rng_normal_fill(&key, 0, ps->grad, ps->size, 0.01);
        w->bytes = 7.0 * ps->size * sizeof(real); /* w g m v -> w m v */
        break;
    case STEP: w->flops = gpt_train_flops(g, n, c->T); break;
    case DECODE: {
        /* All but the last token of each response go through the trunk, and attend to those before;
         * the head makes the new ones. Weights too large for a cache are read in every pass. */
        double rows = c->T + c->max_new - 1, weights = 12.0 * L * C * C + V * C;
        w->flops = c->B * (24.0 * L * C * C * rows + 2.0 * V * C * c->max_new +
                           2.0 * L * C * rows * (rows + 1));
        if (weights * sizeof(real) > 64e6) w->bytes = c->max_new * weights * sizeof(real);
        if (c->max_new > 1) w->tokens = c->B * c->max_new;
        break;
    }
    case LIMITS: break;
    }
    return 0;
}

static void work_run(Work *w) {
    const Case *c = w->c;
    Tensor *y = NULL, *sum = NULL, *x = w->x;
    Gpt *g = w->gpt;
    GptBlock *k = &g->block[0];
    if (x) x->grad_unset = true; /* as in a model, where another op has made it */
    if (w->r) w->r->grad_unset = true;
    switch (c->kind) {
    case LINEAR: y = op_linear(w->tape, x, k->fc_w, k->fc_b, ACT_GELU_TANH); break;
    case ATTENTION: y = op_attention(w->tape, x, &w->packing, (int)c->model->heads); break;
    case LAYERNORM: y = op_layernorm(w->tape, x, w->r, k->norm2_w, k->norm2_b, 1e-5, &sum); break;
    case LOSS:
        op_cross_entropy(w->tape, x, g->out_w, w->batch.targets, w->batch.weight, NULL);
        break;
    case STEP: gpt_loss(g, w->tape, &w->batch, NULL, NULL); break;
    case ADAMW: adamw_update(&w->adam, &g->params, 1e-4, 1); return;
    case DECODE: {
        DecodeOptions o = {.temperature = 1, .top_p = 1, .max_new = c->max_new, .seed = 1};
        DecodeResult r;
        int rc = decode(&r, g, w->batch.tokens, w->batch.start, c->B, NULL, &o);
        CHECK(rc == 0 && r.tokens == c->B * c->max_new, "decode: %s", error_message());
        decode_free(&r);
        return;
    }
    case LIMITS: return;
    }
    /* The gradients that the next op would have left. */
    if (y) y->grad = w->dy->data, y->grad_unset = false;
    if (sum) sum->grad = w->dsum->data, sum->grad_unset = false;
    tape_backward(w->tape);
    tape_reset(w->tape);
    if (c->kind == STEP) { /* as train/trainer.c ends a step */
        adamw_update(&w->adam, &g->params, 1e-4, clip_scale(grad_norm(&g->params), 1));
        paramset_zero_grad(&g->params);
    }
}

#define GPT(L, H, C, V, T) \
    { .layers = L, .heads = H, .width = C, .vocab = V, .context = T, .bias = 1, .norm_eps = 1e-5 }
static const GptConfig demo = GPT(4, 4, 96, 512, 128), small = GPT(6, 6, 384, 4096, 256),
                       gpt2 = GPT(12, 12, 768, 50257, 1024);

static const Case cases[] = {
    {"limits", "FMA, sgemm and memory, 1 thread and all", LIMITS, NULL, 0, 0, 0, 0},
    {"linear-small", "x W^T + b and GELU, 384 -> 1536", LINEAR, &small, 16, 256, 0, 0},
    {"attention-small", "6 heads, T 256", ATTENTION, &small, 16, 256, 0, 0},
    {"layernorm-small", "with residual", LAYERNORM, &small, 16, 256, 0, 0},
    {"loss-small", "head and cross-entropy, V 4096", LOSS, &small, 16, 256, 0, 0},
    {"adamw-small", "12.3 M parameters", ADAMW, &small, 0, 0, 0, 0},
    {"linear-demo", "96 -> 384", LINEAR, &demo, 32, 128, 0, 0},
    {"attention-demo", "4 heads, T 128", ATTENTION, &demo, 32, 128, 0, 0},
    {"loss-demo", "V 512", LOSS, &demo, 32, 128, 0, 0},
    {"step-demo", "4 layers, d 96, T 128, V 512, B 32", STEP, &demo, 32, 128, 0, 0},
    {"step-small", "6 layers, d 384, T 256, V 4096, B 16", STEP, &small, 16, 256, 0, 0},
    {"decode-demo", "256 prompts of 32, 64 new tokens each", DECODE, &demo, 256, 32, 64, 0},
    {"step-124m", "GPT-2, B 4, T 1024", STEP, &gpt2, 4, 1024, 0, 1},
    {"step-124m-t64", "GPT-2, B 4, T 64", STEP, &gpt2, 4, 64, 0, 1},
    {"prefill-124m", "GPT-2, 4 prompts of 512", DECODE, &gpt2, 4, 512, 1, 1},
    {"decode-124m-b1", "GPT-2, batch 1, 128 new tokens", DECODE, &gpt2, 1, 64, 128, 1},
    {"decode-124m-b8", "GPT-2, batch 8, 128 new tokens", DECODE, &gpt2, 8, 64, 128, 1},
    {"decode-124m-b32", "GPT-2, batch 32, 128 new tokens", DECODE, &gpt2, 32, 64, 128, 1},
};
enum { NCASE = sizeof cases / sizeof *cases };

/* --- measuring, in the case's process ------------------------------------------------ */

typedef struct Result { /* in memory shared with the parent */
    double flops, bytes, tokens, arena, peak;
    double seconds, share, limit_rate; /* medians over the rounds */
    const char *limit;                 /* "sgemm" or "read" */
    int rounds;
    double best[NLIMIT][2]; /* of the limits; [0]: 1 thread, [1]: all */
} Result;

static int measure_limits(Result *r) {
    int threads = omp_get_max_threads();
    alloc_touched(mat, 3, SGEMM_N * SGEMM_N);
    alloc_touched(stream, 3, stream_n);
    for (int i = 0; i < LIMIT_ROUNDS; i++)
        for (int k = 0; k < NLIMIT; k++)
            for (int all = 0; all < 2; all++) {
                omp_set_num_threads(all ? threads : 1);
                r->best[k][all] = fmax(r->best[k][all], limits[k].rate());
            }
    return 0;
}

enum { MIN_ROUNDS = 3, MAX_ROUNDS = 25 };

static double time_of(Work *w, int64_t repeat) {
    /* Some ops use up dy; restored before each sample, outside the time. */
    if (w->dy) memcpy(w->dy->data, w->dy_again, tensor_size(w->dy) * sizeof(real));
    double t = now();
    for (int64_t i = 0; i < repeat; i++) work_run(w);
    return (now() - t) / (double)repeat;
}

static int measure(Result *r, const Case *c, double budget) {
    core_init();
    if (c->kind == LIMITS) return measure_limits(r);
    Work w;
    TRY(work_open(&w, c));
    time_of(&w, 1); /* warm: after it nothing is allocated */
    double once = time_of(&w, 1);
    struct rusage usage; /* before the references take memory */
    getrusage(RUSAGE_SELF, &usage);
    if (w.flops > 0) alloc_touched(mat, 3, SGEMM_N * SGEMM_N);
    if (w.bytes > 0) alloc_touched(stream, 1, stream_n);
    if (w.flops > 0) sgemm_rate();
    /* Short work is repeated until it takes about as long as sgemm. */
    int64_t repeat = once < 0.06 ? (int64_t)(0.06 / once) + 1 : 1;
    double seconds[MAX_ROUNDS], share[MAX_ROUNDS], sgemm[MAX_ROUNDS + 1], read[MAX_ROUNDS + 1];
    double begin = now();
    int n = 0;
    for (;; n++) {
        sgemm[n] = w.flops > 0 ? 1e-9 / sgemm_rate() : 0;
        read[n] = w.bytes > 0 ? 1e-9 / read_rate() : 0;
        if (n > 0) /* with the references before and after */
            share[n - 1] =
                fmax(w.flops * (sgemm[n - 1] + sgemm[n]), w.bytes * (read[n - 1] + read[n])) / 2 /
                seconds[n - 1];
        if (n == MAX_ROUNDS || (n >= MIN_ROUNDS && now() - begin > budget)) break;
        seconds[n] = time_of(&w, repeat);
    }
    double sgemm_time = median(sgemm, n + 1), read_time = median(read, n + 1);
    bool memory = w.bytes * read_time > w.flops * sgemm_time;
    *r = (Result){.flops = w.flops,
                  .bytes = w.bytes,
                  .tokens = w.tokens,
                  .arena = w.arena.high,
                  .peak = usage.ru_maxrss * 1024.0,
                  .seconds = median(seconds, n),
                  .share = median(share, n),
                  .limit_rate = 1e-9 / (memory ? read_time : sgemm_time),
                  .limit = memory ? "read" : "sgemm",
                  .rounds = n};
    return 0;
}

static int run_case(Result *r, const Case *c, double budget) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) return error_set(ERR_MEMORY, "cannot start a process for %s: %m", c->name);
    if (pid == 0) {
        int rc = measure(r, c, budget);
        if (rc < 0) fprintf(stderr, "rhetor-bench: %s: %s\n", c->name, error_message());
        _exit(error_exit_code(rc)); /* the memory goes with the process */
    }
    int status;
    if (waitpid(pid, &status, 0) < 0) return error_set(ERR_INTERNAL, "%s: waitpid: %m", c->name);
    if (status == 0) return 0;
    return error_set(ERR_INTERNAL, "%s failed: exit status %d, signal %d (9: out of memory?)",
                     c->name, WEXITSTATUS(status), WTERMSIG(status));
}

/* --- the tables ---------------------------------------------------------------------- */

static void print_limits(const Result *r) {
    printf("%-16s %10s %10s\n", "limit", "1 thread", "all");
    for (int k = 0; k < NLIMIT; k++)
        printf("%-16s %10.1f %10.1f  %s\n", limits[k].name, r->best[k][0], r->best[k][1],
               limits[k].unit);
    printf("\n");
}

/* A number, or a dash where there is none. */
static void print_cell(int width, int digits, double v) {
    if (v > 0)
        printf(" %*.*f", width, digits, v);
    else
        printf(" %*s", width, "-");
}

static void print_case(const Case *c, const Result *r, bool head) {
    if (head)
        printf("%-16s %9s %8s %6s %9s  %-12s %6s %8s %8s\n", "case", "median ms", "GFLOP/s", "GB/s",
               "tokens/s", "limit beside", "share", "arena MB", "peak MB");
    printf("%-16s %9.2f", c->name, r->seconds * 1e3);
    print_cell(8, 1, r->flops / r->seconds * 1e-9);
    print_cell(6, 1, r->bytes / r->seconds * 1e-9);
    print_cell(9, 0, r->tokens / r->seconds);
    printf("  %-5s %6.1f", r->limit, r->limit_rate);
    printf(" %6.2f", r->share);
    print_cell(8, 1, r->arena * 1e-6);
    print_cell(8, 0, r->peak * 1e-6);
    printf("\n");
}

static json_t *case_json(const Case *c, const Result *r) {
    return json_pack("{s:s, s:s, s:f, s:i, s:f, s:f, s:f, s:s, s:f, s:f, s:f, s:f}", "name",
                     c->name, "what", c->what, "seconds", r->seconds, "rounds", r->rounds, "flops",
                     r->flops, "bytes", r->bytes, "tokens", r->tokens, "limit", r->limit,
                     "limit_rate", r->limit_rate, "share", r->share, "arena_bytes", r->arena,
                     "peak_bytes", r->peak);
}

static json_t *limits_json(const Result *r) {
    json_t *list = json_array();
    for (int k = 0; k < NLIMIT && r->best[k][0] > 0; k++)
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:[ff]}", "name", limits[k].name, "unit",
                                        limits[k].unit, "best", r->best[k][0], r->best[k][1]));
    return list;
}

/* --- main ---------------------------------------------------------------------------- */

typedef struct Args {
    bool list, run[NCASE], named;
    const char *json;
    double seconds;
} Args;

static const struct argp_option options[] = {
    {"json", 'j', "FILE", 0, "also write the results as JSON", 0},
    {"list", 'l', 0, 0, "print the names of the cases and leave", 0},
    {"seconds", 's', "X", 0, "time for each case, at least three rounds (3)", 0},
    {0}};

static void choose(Args *a, const char *name, struct argp_state *state) {
    bool found = false;
    for (int i = 0; i < NCASE; i++) {
        size_t n = strlen(name) + cases[i].slow; /* slow: up to the terminating zero */
        if (strncmp(cases[i].name, name, n) == 0) found = a->run[i] = true;
    }
    a->named = true;
    if (!found) argp_error(state, "no case \"%s\"; --list shows all", name);
}

static error_t parse(int k, char *arg, struct argp_state *state) {
    Args *a = state->input;
    char *end;
    switch (k) {
    case 'j': a->json = arg; break;
    case 'l': a->list = true; break;
    case 's':
        a->seconds = strtod(arg, &end);
        if (*end || !(a->seconds >= 0 && a->seconds <= 3600))
            argp_error(state, "%s: expected seconds, 0 to 3600", arg);
        break;
    case ARGP_KEY_ARG: choose(a, arg, state); break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static int bench(const Args *a) {
    Result *r =
        mmap(NULL, NCASE * sizeof *r, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (r == MAP_FAILED) return error_set(ERR_MEMORY, "cannot share memory: %m");
    const char *type = getenv("OPENBLAS_CORETYPE");
    json_t *all = json_array();
    bool head = true;
    int rc = 0;
    kernel_level = kernel_supported(); /* for the name; core_init would start threads */
    printf("%s\nOPENBLAS_CORETYPE %s\n\n", blas_kernel(), type ? type : "is not set");
    for (int i = 0; i < NCASE; i++) {
        if (a->named ? !a->run[i] : cases[i].slow) continue;
        TRY_GOTO(done, run_case(&r[i], &cases[i], a->seconds));
        if (cases[i].kind == LIMITS) {
            print_limits(&r[i]);
            continue;
        }
        print_case(&cases[i], &r[i], head);
        head = false;
        json_array_append_new(all, case_json(&cases[i], &r[i]));
    }
    if (a->json) {
        json_t *j = json_pack("{s:s, s:s?, s:o, s:O}", "kernel", blas_kernel(), "openblas_coretype",
                              type, "limits", limits_json(&r[0]), "cases", all);
        rc = json_write_file(j, a->json);
        json_decref(j);
    }
done:
    json_decref(all);
    munmap(r, NCASE * sizeof *r);
    return rc;
}

int main(int argc, char **argv) {
    openmp_wait_briefly(argv);
    static const char doc[] =
        "Measures this machine's limits and Rhetor's share of them. NAME is a "
        "case or the beginning of several; without one all quick ones run.";
    static const struct argp argp = {options, parse, "[NAME...]", doc, 0, 0, 0};
    Args a = {.seconds = 3};
    argp_err_exit_status = error_exit_code(ERR_USAGE);
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    if (a.list) {
        for (int i = 0; i < NCASE; i++)
            printf("%-16s %s%s\n", cases[i].name, cases[i].what,
                   cases[i].slow ? " (only when named in full)" : "");
        return 0;
    }
    int rc = bench(&a);
    if (rc < 0) fprintf(stderr, "rhetor-bench: %s\n", error_message());
    return error_exit_code(rc);
}
