/* golden_model.h (tests): models and episodes of the golden iterations. Included after golden.h;
 * `comm` is the program's. */
#ifndef TESTS_RLHF_GOLDEN_MODEL_H
#define TESTS_RLHF_GOLDEN_MODEL_H

#include "rlhf/iteration.h"

static const double TOLERANCE = 1e-5;
static Comm *comm;

/* --- the formula of weights and tokens, as in rl_golden.py ------------------------------------ */

static uint64_t splitmix(uint64_t x) {
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

static double noise(uint64_t seed, int p, int64_t j) {
    return (double)(splitmix((seed << 32) + ((uint64_t)p << 20 | (uint64_t)j)) >> 40) / (1 << 24) -
           0.5;
}

static void make_model(Gpt **g, const json_t *it, bool head, uint64_t seed, uint64_t other) {
    GptConfig c = {.vocab = (int64_t)num(it, "vocab"),
                   .context = (int64_t)num(it, "context"),
                   .layers = (int64_t)num(it, "layers"),
                   .heads = (int64_t)num(it, "heads"),
                   .width = (int64_t)num(it, "width"),
                   .bias = true,
                   .scalar_head = head,
                   .norm_eps = 1e-5};
    OK(gpt_open(g, &c, true));
    for (int p = 0; p < (*g)->params.n; p++) {
        const Param *q = &(*g)->params.v[p];
        const bool gain = strstr(q->name, "norm") && strstr(q->name, "weight");
        for (int64_t j = 0; j < tensor_size(&q->tensor); j++) {
            double x = noise(seed, p, j) + 0.125 * noise(other, p, j);
            if (q->tensor.ndim == 1) x = 0.5 * x + gain;
            q->tensor.data[j] = (real)x;
        }
    }
}

static void compare_weights(const ParamSet *ps, const real *w, const json_t *want,
                            const char *model) {
    assert_int_equal(json_object_size(want), ps->n);
    for (int p = 0; p < ps->n; p++) {
        const Param *q = &ps->v[p];
        const json_t *v = json_object_get(want, q->name);
        const int64_t n = tensor_size(&q->tensor), stride = (int64_t)num(v, "stride");
        char what[128];
        snprintf(what, sizeof what, "%s %s", model, q->name);
        for (int64_t i = 0; i < length(v, "x"); i++)
            close_to((double)w[q->offset + i * stride], at(v, "x", i), TOLERANCE, what, i * stride);
        double dot = 0;
        for (int64_t j = 0; j < n; j++) dot += noise(99, p, j) * (double)w[q->offset + j];
        close_to(dot, num(v, "dot"), TOLERANCE * sqrt((double)n), what, -1);
    }
}

static void make_trainer(Trainer *t, Gpt *g, const json_t *o) {
    trainer_start(t, g, comm, SHARD_NONE,
                  &(AdamW){.beta1 = num(o, "beta1"),
                           .beta2 = num(o, "beta2"),
                           .eps = num(o, "eps"),
                           .decay = num(o, "decay")});
    t->clip = num(o, "max_norm");
}

/* The golden episodes by way of a replay file. */
static void read_episodes(Episodes *e, const json_t *it) {
    char *path = scratch("episodes.jsonl");
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    const json_t *v;
    size_t i;
    json_array_foreach(json_object_get(it, "episodes"), i, v) {
        json_t *line =
            json_pack("{s:O, s:O, s:O}", "prompt", json_object_get(v, "prompt"), "response",
                      json_object_get(v, "response"), "stopped", json_object_get(v, "stopped"));
        json_dumpf(line, f, JSON_COMPACT);
        fputc('\n', f);
        json_decref(line);
    }
    fclose(f);
    OK(rollout_read(e, path, (int64_t)num(it, "batch"), (int64_t)num(it, "vocab"),
                    (int64_t)num(it, "context")));
    free(path);
}

#endif
