/* bench.h: what the parts of rhetor-bench share. */
#ifndef TOOLS_BENCH_BENCH_H
#define TOOLS_BENCH_BENCH_H

#include <stdbool.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/tensor.h"
#include "model/gpt.h"

enum { PARTS = 3 };

/* A piece of a case, measured with its limits just before and just after. Counted is what the
 * mathematics needs, for one run; what is computed twice is not. 0: does not matter. */
typedef struct BenchPart {
    const char *name;
    double flops, bytes, tokens;
} BenchPart;

typedef struct Case Case;

/* A case made ready, in its process. */
typedef struct BenchWork {
    const Case *c;
    int nparts;
    BenchPart part[PARTS];
    double tokens;      /* of all parts together, for tokens/s; 0: none */
    Arena *activations; /* its high-water mark is printed; NULL: none */
    void *priv;         /* of the kind of case */
} BenchWork;

/* open prepares what run does and counts it (run may count again). run does part `part` once, in the
 * order of the parts, and returns the seconds that count. Nothing is ever closed: the process
 * ends. */
typedef struct BenchKind {
    int (*open)(BenchWork *w);
    double (*run)(BenchWork *w, int part);
} BenchKind;

struct Case {
    const char *name, *what;
    const BenchKind *kind; /* NULL: the machine's limits */
    const GptConfig *model;
    int64_t B, T;    /* sequences, and tokens of each; decoding and PPO: prompts */
    int64_t max_new; /* decoding and PPO */
    bool ragged;     /* PPO: responses of different lengths */
    bool slow;       /* runs only when named in full, or with --all */
};

extern const BenchKind bench_linear, bench_attention, bench_layernorm, bench_loss, bench_adamw,
    bench_step, bench_prefill, bench_decode, bench_ppo;
extern const Case bench_case[];
extern const int bench_cases;

/* The machine's limits: each does its work once with all threads OpenMP may use and returns 1e9
 * FLOPs or bytes a second. The operands of the last three come from bench_limits_open; read alone needs
 * only `sgemm` or `memory` of it. */
double bench_fma(void);
double bench_sgemm(void);
double bench_read(void);
double bench_triad(void);
void bench_limits_open(bool sgemm, int memory_arrays);

/* The seconds that are counted: the clock's, or after bench_count_cpu this process's own, on one
 * thread from then on, which other jobs disturb less. Call the latter before any thread starts. */
double bench_seconds(void);
void bench_count_cpu(void);

/* The median of v[n], n at most BENCH_ROUNDS. */
enum { BENCH_ROUNDS = 25 };
double bench_median(const double *v, int n);

/* Measurements of their own kind, on any number of ranks: rhetor-bench checkpoint [...], whose
 * limit is the disk, and rhetor-bench comm [...], the exchange between the ranks; on one rank
 * rhetor-bench products [...], our products beside OpenBLAS's. Return the exit status. */
int bench_checkpoint(int argc, char **argv);
int bench_comm(int argc, char **argv);
int bench_products(int argc, char **argv);

/* FLOPs of the blocks and of the head, forward. A sequence of n tokens attends to n (n+1) / 2
 * pairs. All but `rows` of them need no more of the last block than keys and values. */
static inline double bench_trunk_flops(const GptConfig *g, double n, double rows) {
    const double C = (double)g->width, L = (double)g->layers, attend = 2 * C * (n + 1);
    return L * (24 * C * C + attend) * n - (20 * C * C + attend) * (n - rows);
}
static inline double bench_head_flops(const GptConfig *g, double rows) {
    return 2 * (double)g->vocab * (double)g->width * rows;
}

#endif
