/* bench_products.c: `rhetor-bench products`: each product of the cases' models by the program's own
 * kernels (core/gemm.h; decoding: model/packed.h) and by OpenBLAS, in turns of one product each, and
 * the median of the ratio of neighbours. With --cpu one thread's own time is counted: on a machine
 * with other jobs only such ratios say something. */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/option.h"
#include "core/blas.h"
#include "core/gemm.h"
#include "core/kernel.h"
#include "core/rng.h"
#include "model/packed.h"
#include "tools/bench/bench.h"

typedef enum Kind { FORWARD, INPUT, WEIGHT, DECODE } Kind; /* which product of a linear layer */
static const char *const kind_name[] = {"forward", "dx", "dW", "decode"};

/* A layer of K inputs and M outputs on n rows. */
typedef struct Product {
    const char *model;
    Kind kind;
    int64_t n, K, M;
} Product;

#define LAYER(model, n, K, M) \
    {model, FORWARD, n, K, M}, {model, INPUT, n, K, M}, { model, WEIGHT, n, K, M }
static const Product products[] = {
    LAYER("demo", 4096, 96, 384),         LAYER("demo", 4096, 384, 96),
    LAYER("demo", 4096, 96, 288),         LAYER("demo", 2048, 96, 512),
    LAYER("small", 4096, 384, 1536),      LAYER("small", 4096, 1536, 384),
    LAYER("small", 4096, 384, 384),       LAYER("small", 288, 384, 4096),
    LAYER("t64", 256, 768, 3072),         LAYER("t64", 256, 3072, 768),
    LAYER("124m", 4096, 768, 3072),       LAYER("124m", 288, 768, 50257),
    {"demo", DECODE, 32, 96, 384},        {"small", DECODE, 32, 384, 1536},
    {"124m", DECODE, 1, 768, 3072},       {"124m", DECODE, 8, 768, 3072},
    {"124m", DECODE, 32, 768, 3072},      {"124m", DECODE, 64, 768, 3072},
    {"square", FORWARD, 2048, 2048, 2048}};
enum { PRODUCTS = sizeof products / sizeof *products, COPIES_BYTES = 64 << 20 };

typedef struct Args {
    const char *only;
    double seconds;
    bool cpu;
} Args;

/* Where the operands of turn `i` lie: those of decoding come from memory, as weights do. */
typedef struct Operands {
    const Product *p;
    Tensor w;           /* [M,K] */
    real *x, *dy, *out; /* [n,K], [n,M]; any of the three products */
    Packed *packed;     /* [copies] */
    int copies;
    Arena arena;
} Operands;

static real *numbers(int64_t n, uint64_t row) {
    real *x = xaligned(64, (size_t)n * sizeof *x);
    rng_normal_fill(&(RngKey){.seed = 1, .purpose = RNG_TEST}, row, x, n, 1);
    return x;
}

static void own(Operands *o, int turn) {
    const Product *p = o->p;
    const int64_t n = p->n, K = p->K, M = p->M;
    Gemm g = {.M = n,
              .N = M,
              .K = K,
              .a = o->x,
              .lda = K,
              .b = o->w.data,
              .ldb = K,
              .trans_b = true,
              .c = o->out,
              .ldc = M};
    if (p->kind == INPUT)
        g = (Gemm){.M = n,
                   .N = K,
                   .K = M,
                   .a = o->dy,
                   .lda = M,
                   .b = o->w.data,
                   .ldb = K,
                   .c = o->out,
                   .ldc = K};
    if (p->kind == WEIGHT)
        g = (Gemm){.M = M,
                   .N = K,
                   .K = n,
                   .a = o->dy,
                   .lda = M,
                   .trans_a = true,
                   .b = o->x,
                   .ldb = K,
                   .c = o->out,
                   .ldc = K,
                   .add = true};
    if (p->kind == DECODE)
        packed_linear(&o->packed[turn % o->copies], &o->arena, n, o->x, NULL, ACT_NONE, o->out);
    else
        gemm(&o->arena, &g);
}

static void blas(Operands *o, int turn) {
    const Product *p = o->p;
    const int64_t n = p->n, K = p->K, M = p->M;
    switch (p->kind) {
    case FORWARD: blas_gemm(false, true, n, M, K, 1, o->x, K, o->w.data, K, 0, o->out, M); break;
    case INPUT: blas_gemm(false, false, n, K, M, 1, o->dy, M, o->w.data, K, 0, o->out, K); break;
    case WEIGHT: blas_gemm(true, false, M, K, n, 1, o->dy, M, o->x, K, 1, o->out, K); break;
    case DECODE:
        blas_gemm(false, true, n, M, K, 1, o->x, K, o->packed[turn % o->copies].strips, K, 0,
                  o->out, M);
    }
}

static double seconds_of(void (*product)(Operands *, int), Operands *o, int repeat) {
    static int turn;
    const double t = bench_seconds();
    for (int i = 0; i < repeat; i++) product(o, turn++);
    return (bench_seconds() - t) / repeat;
}

static void open_operands(Operands *o, const Product *p) {
    const int64_t most = p->n * (p->K > p->M ? p->K : p->M);
    *o = (Operands){.p = p, .w = {.ndim = 2, .shape = {p->M, p->K}}, .copies = 1};
    o->w.data = numbers(p->M * p->K, 1);
    o->x = numbers(p->n * p->K, 2);
    o->dy = numbers(p->n * p->M, 3);
    o->out = numbers(p->kind == WEIGHT ? p->M * p->K : most, 4);
    if (p->kind != DECODE) return;
    const size_t size = packed_bytes(&o->w);
    o->copies = (int)(COPIES_BYTES / size) + 1;
    o->packed = xcalloc((size_t)o->copies, sizeof *o->packed);
    for (int i = 0; i < o->copies; i++) packed_make(&o->packed[i], &o->w, xaligned(64, size));
}

static void close_operands(Operands *o) {
    for (int i = 0; o->packed && i < o->copies; i++) free(o->packed[i].strips);
    free(o->packed), free(o->w.data), free(o->x), free(o->dy), free(o->out);
    arena_free(&o->arena);
}

static void measure(const Product *p, double budget) {
    Operands o;
    open_operands(&o, p);
    own(&o, 0), blas(&o, 0);
    const double flops = 2.0 * p->n * p->K * p->M, once = seconds_of(own, &o, 1);
    const int repeat = once < 2e-3 ? (int)(2e-3 / once) + 1 : 1; /* turns of milliseconds */
    double ratio[BENCH_ROUNDS], best[2] = {1e9, 1e9};
    int n = 0;
    for (double spent = 0; n < BENCH_ROUNDS && (n < 3 || spent < budget); n++) {
        const double a = seconds_of(own, &o, repeat), b = seconds_of(blas, &o, repeat);
        ratio[n] = b / a;
        if (a < best[0]) best[0] = a;
        if (b < best[1]) best[1] = b;
        spent += (a + b) * repeat;
    }
    printf("%-8s %-8s %6lld %6lld %6lld %10.3f %9.1f %9.1f %7.2f %7.2f\n", p->model,
           kind_name[p->kind], (long long)p->n, (long long)p->K, (long long)p->M, best[0] * 1e3,
           flops / best[0] * 1e-9, flops / best[1] * 1e-9, best[1] / best[0],
           bench_median(ratio, n));
    fflush(stdout);
    close_operands(&o);
}

static const Option options[] = {
    {"cpu", 'c', NULL, "one thread, whose own time counts instead of the clock's", OPT_FLAG(cpu)},
    {"seconds", 's', "X", "time for each product, at least three rounds (1)",
     OPT_NUMBER(seconds, 0, 3600)},
    {NULL, 0, "[MODEL]", NULL, OPT_TEXT(only), .low = 0, .high = 1},
    {0}};

int bench_products(int argc, char **argv) {
    Args a = {.seconds = 1};
    argv[0] = "rhetor-bench products";
    option_parse(options, NULL,
                 "Measures the products of a model's layers, or of all, by our kernels and by "
                 "OpenBLAS in turns",
                 argc, argv, &a);
    if (a.cpu) bench_count_cpu();
    core_init();
    blas_threads(omp_get_max_threads());
    printf("%s; beside: %s\n\n%-8s %-8s %6s %6s %6s %10s %9s %9s %7s %7s\n", kernel_text(),
           blas_name(), "model", "product", "rows", "in", "out", "ms", "GFLOP/s", "OpenBLAS",
           "ratio", "median");
    bool any = false;
    for (int i = 0; i < PRODUCTS; i++) {
        if (a.only && strcmp(a.only, products[i].model) != 0) continue;
        measure(&products[i], a.seconds);
        any = true;
    }
    return option_end(any ? 0 : error_set(ERR_USAGE, "no products of a model \"%s\"", a.only));
}
