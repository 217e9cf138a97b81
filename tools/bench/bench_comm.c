/* bench_comm.c: `mpirun -n N rhetor-bench comm`: what the exchange of gradients (dist/exchange.h)
 * takes between the ranks, for vectors from 32 KiB to 64 MiB, and the two numbers of rhetor-plan's
 * network that say it shortest (train/plan.h). On one node
 *
 *     seconds = 2 latency rounds + 2 R bytes / bandwidth
 *
 * and between nodes of one rank each, or of several whose vectors' way through the node's memory
 * is then within the bandwidth,
 *
 *     seconds = 2 (N-1) latency rounds + 2 (N-1)/N bytes / bandwidth
 *
 * for N nodes and rounds of 2 MiB; least squares of the relative error over all sizes. Addition and
 * memory are in it, as used. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/option.h"
#include "base/text.h"
#include "core/rng.h"
#include "dist/exchange.h"
#include "tools/bench/bench.h"
#include "train/plan.h"

enum { SIZES = 12, SMALLEST = 1 << 13, ROUNDS_MAX = 200 };

typedef struct Args {
    const char *json;
    double seconds;
    bool quick;
} Args;

static const Option options[] = {
    {"json", 'j', "FILE", "also write the result as JSON, for rhetor-plan --rates", OPT_TEXT(json)},
    {"seconds", 's', "X", "time for each size, at least a round (0.5)",
     OPT_NUMBER(seconds, 0, 3600)},
    {"quick", 'q', NULL, "vectors up to 1 MiB only", OPT_FLAG(quick)},
    {0}};

/* Nodes that the ranks are on, by their names. */
static int count_nodes(Comm *c) {
    char name[256] = "", *all;
    AUTOFREE size_t *offset = xcalloc((size_t)comm_size(c) + 1, sizeof *offset);
    gethostname(name, sizeof name - 1);
    comm_allgather_bytes(c, name, sizeof name, &all, offset);
    int nodes = 0;
    for (int r = 0; r < comm_size(c); r++) {
        bool seen = false;
        for (int q = 0; q < r && !seen; q++) seen = strcmp(all + offset[q], all + offset[r]) == 0;
        nodes += !seen;
    }
    free(all);
    return nodes;
}

/* The shortest of several sums; of the slowest rank. */
static double sum_seconds(Comm *c, Exchange *x, float *v, int64_t n, double budget) {
    double best = HUGE_VAL;
    const double began = clock_seconds();
    for (int i = 0; i < ROUNDS_MAX; i++) {
        double go = 0;
        comm_max_f64(c, &go, 1); /* together */
        double t = clock_seconds();
        exchange_wait(x, exchange_sum(x, v, n, 0, EXCHANGE_ALL, NULL));
        t = clock_seconds() - t;
        double late = clock_seconds() - began > budget;
        double both[2] = {t, late};
        comm_max_f64(c, both, 2);
        if (i > 0) best = fmin(best, both[0]); /* the first makes buffers */
        if (both[1] > 0 && i > 0) break;
    }
    return best;
}

/* t = a y + b x. */
static void fit(const double *y, const double *x, const double *t, int n, double *a, double *b) {
    double yy = 0, xy = 0, xx = 0, y1 = 0, x1 = 0; /* sums over (a y + b x - t) / t */
    for (int i = 0; i < n; i++) {
        const double v = y[i] / t[i], w = x[i] / t[i];
        yy += v * v;
        xy += v * w;
        xx += w * w;
        y1 += v;
        x1 += w;
    }
    *b = (yy * x1 - xy * y1) / (yy * xx - xy * xy);
    *a = (y1 - *b * xy) / yy;
}

static int measure(Comm *c, const Args *a) {
    const int R = comm_size(c), nodes = count_nodes(c);
    const bool speaks = comm_rank(c) == 0;
    if (R == 1)
        return error_set(ERR_USAGE, "one rank has nobody to exchange with; mpirun -n 2 --bind-to "
                                    "none rhetor-bench comm");
    const int sizes = a->quick ? SIZES / 2 : SIZES;
    const int64_t most = (int64_t)SMALLEST << (sizes - 1);
    float *v = xmalloc((size_t)most * sizeof *v);
    for (int64_t i = 0; i < most; i++) v[i] = (float)(i % 256) * 1e-30f; /* sums stay finite */
    double bytes[SIZES], seconds[SIZES], messages[SIZES], moved[SIZES], latency, slope;
    Exchange *x;
    exchange_open(&x, c, sizeof *v);
    json_t *vectors = json_array();
    if (speaks)
        printf("%d ranks on %d node%s\n%12s %12s %12s %12s\n", R, nodes, TEXT_S(nodes), "KiB", "ms",
               "fit", "GB/s a node");
    for (int i = 0; i < sizes; i++) {
        const int64_t n = (int64_t)SMALLEST << i;
        bytes[i] = (double)n * (double)sizeof *v;
        seconds[i] = sum_seconds(c, x, v, n, a->seconds);
        messages[i] = 2 * ceil(bytes[i] / PLAN_ROUND_BYTES) * (nodes > 1 ? nodes - 1 : 1);
        moved[i] = 2 * bytes[i] * (nodes > 1 ? (nodes - 1.0) / nodes : R);
        json_array_append_new(vectors,
                              json_pack("{s:f, s:f}", "bytes", bytes[i], "seconds", seconds[i]));
    }
    free(v);
    exchange_close(&x);
    fit(messages, moved, seconds, sizes, &latency, &slope);
    latency = fmax(latency, 1e-9);
    const double bandwidth = 1 / slope;
    for (int i = 0; speaks && i < sizes; i++)
        printf("%12.0f %12.3f %12.3f %12.2f\n", bytes[i] / 1024, seconds[i] * 1e3,
               (latency * messages[i] + slope * moved[i]) * 1e3, 1e-9 * moved[i] / seconds[i]);
    if (speaks)
        printf("latency %.2f us a message, bandwidth %.2f GB/s a node: rhetor-plan "
               "--%slatency %.3g --%sbandwidth %.3g\n",
               latency * 1e6, bandwidth * 1e-9, nodes > 1 ? "" : "node-", latency * 1e6,
               nodes > 1 ? "" : "node-", bandwidth * 1e-9);
    int rc = 0;
    json_auto_t *j =
        json_pack("{s:{s:i, s:i, s:f, s:f, s:o}}", "comm", "ranks", R, "nodes", nodes, "latency_us",
                  latency * 1e6, "bandwidth_gbs", bandwidth * 1e-9, "vectors", vectors);
    if (speaks && a->json) rc = json_write_file(j, a->json);
    return comm_agree(c, rc);
}

int bench_comm(int argc, char **argv) {
    Args a = {.seconds = 0.5};
    argv[0] = "rhetor-bench comm";
    log_rank(comm_launch_rank());
    option_parse(options, NULL,
                 "Measures the exchange between the ranks: mpirun -n N --bind-to none rhetor-bench "
                 "comm",
                 argc, argv, &a);
    Comm *c;
    int rc = comm_open(&c, &argc, &argv);
    if (rc >= 0) rc = measure(c, &a);
    comm_close(&c);
    return option_end(rc);
}
