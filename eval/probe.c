/* probe.c: can a language model read? See probe.h. */
#include "eval/probe.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "core/kernel.h"
#include "train/evaluate.h"

/* The text followed by each of its values: q[0 .. p->n-1], whose tokens the caller frees. */
static int encode(Sequence *q, const Loaded *m, const Probe *p) {
    IdList text = {0}, value = {0};
    int rc = tokenizer_encode(m->tokenizer, p->text, strlen(p->text), false, &text);
    for (int i = 0; i < p->n && rc >= 0; i++) {
        value.n = 0;
        rc = tokenizer_encode(m->tokenizer, p->value[i], strlen(p->value[i]), false, &value);
        const int64_t n = text.n + value.n;
        if (rc >= 0 && n > m->gpt->cfg.context)
            rc = error_set(ERR_CONFIG,
                           "a probe has %" PRId64 " tokens, the model's context is %" PRId64
                           "; pretrain with a larger model.context",
                           n, m->gpt->cfg.context);
        if (rc < 0) break;
        int32_t *ids = xmalloc((size_t)n * sizeof *ids);
        memcpy(ids, text.v, (size_t)text.n * sizeof *ids);
        memcpy(ids + text.n, value.v, (size_t)value.n * sizeof *ids);
        q[i] = (Sequence){.tokens = ids, .n = n, .prompt = text.n};
    }
    ids_free(&text);
    ids_free(&value);
    return rc < 0 ? rc : 0;
}

static int choose(int *choice, const Loaded *m, const Probe *p, int64_t micro_tokens) {
    Sequence q[PROBE_VALUES] = {0};
    double logp[PROBE_VALUES];
    int rc = encode(q, m, p);
    if (rc == 0) evaluate_logp(m->gpt, q, p->n, 1, micro_tokens, logp);
    for (int i = 0; i < p->n; i++) free((void *)(uintptr_t)q[i].tokens);
    *choice = 0;
    for (int i = 1; i < p->n && rc == 0; i++)
        if (logp[i] > logp[*choice]) *choice = i;
    return rc;
}

ProbeScore probe_count(const Probe *p, const int *choice, int64_t n) {
    ProbeScore s = {.n = n};
    int64_t seen[PROBE_GROUPS][PROBE_VALUES] = {{0}}, best[PROBE_GROUPS] = {0};
    for (int64_t i = 0; i < n; i++) {
        const int64_t times = ++seen[p[i].group][p[i].right];
        if (times > best[p[i].group]) best[p[i].group] = times;
        s.right += choice[i] == p[i].right;
    }
    for (int g = 0; g < PROBE_GROUPS; g++) s.constant += best[g];
    return s;
}

int probe_run(ProbeScore score[PROBE_KINDS], const Loaded *m, uint64_t seed, int64_t n,
              int64_t micro_tokens) {
    Probe *p = xmalloc((size_t)n * sizeof *p);
    AUTOFREE int *choice = xcalloc((size_t)n, sizeof *choice);
    int rc = 0;
    for (ProbeKind kind = 0; kind < PROBE_KINDS && rc == 0; kind++) {
        for (int64_t i = 0; i < n && rc == 0; i++) {
            world_probe(&p[i], seed, kind, (uint64_t)i);
            rc = choose(&choice[i], m, &p[i], micro_tokens);
        }
        if (rc == 0) score[kind] = probe_count(p, choice, n);
    }
    free(p);
    return rc;
}

double probe_accuracy(const ProbeScore *s, double *se) {
    const double p = (double)s->right / (double)s->n;
    *se = sqrt(p * (1 - p) / (double)s->n);
    return p;
}

void probe_print(const ProbeScore score[PROBE_KINDS], FILE *f) {
    fprintf(f,
            "%" PRId64 " probes a kind, argmax among all values; +- is a standard error\n\n"
            "%-8s %17s %16s\n",
            score[0].n, "kind", "right", "best constant");
    for (ProbeKind k = 0; k < PROBE_KINDS; k++) {
        double se, p = probe_accuracy(&score[k], &se);
        fprintf(f, "%-8s %8.3f +- %.3f %16.3f\n", world_probe_names[k], p, se,
                (double)score[k].constant / (double)score[k].n);
    }
}

json_t *probe_json(const ProbeScore score[PROBE_KINDS], const Loaded *m, uint64_t seed) {
    json_t *kinds = json_object();
    for (ProbeKind k = 0; k < PROBE_KINDS; k++) {
        double se, p = probe_accuracy(&score[k], &se);
        json_object_set_new(kinds, world_probe_names[k],
                            json_pack("{s:I,s:f,s:f,s:f}", "n", (json_int_t)score[k].n, "accuracy",
                                      p, "se", se, "best_constant",
                                      (double)score[k].constant / (double)score[k].n));
    }
    return json_pack("{s:s,s:I,s:I,s:s,s:o}", "model", m->path, "step", (json_int_t)m->step, "seed",
                     (json_int_t)seed, "kernel", kernel_name(kernel_level), "kinds", kinds);
}
