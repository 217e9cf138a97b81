/* groups.c: prompts by what they ask. See groups.h. */
#include "eval/groups.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/hash.h"
#include "eval/stats.h"

/* Record i belongs to the group of that name. */
static void put(Groups *g, const char *name, int64_t i, int64_t n) {
    int k = 0;
    while (k < g->n && strcmp(g->v[k].name, name) != 0) k++;
    if (k == g->n) {
        g->v = xrealloc(g->v, (size_t)(++g->n) * sizeof *g->v);
        g->v[k] = (Group){.index = xmalloc((size_t)(n + 1) * sizeof(int64_t))};
        snprintf(g->v[k].name, sizeof g->v[k].name, "%s", name);
    }
    g->v[k].index[g->v[k].n++] = i;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const Group *)a)->name, ((const Group *)b)->name);
}

void groups_make(Groups *g, const Gold *gold, int64_t n) {
    *g = (Groups){0};
    char name[2 * GOLD_WORD];
    for (int64_t i = 0; i < n; i++) {
        put(g, "all", i, n);
        if (!gold) continue;
        if (gold[i].act == ACT_ANSWER && gold[i].reads) put(g, "answerable", i, n);
        if (gold[i].act == ACT_UNKNOWN) put(g, "unanswerable", i, n);
        snprintf(name, sizeof name, "family/%s", gold[i].family);
        put(g, name, i, n);
        snprintf(name, sizeof name, "held/%s", *gold[i].held ? gold[i].held : "none");
        put(g, name, i, n);
    }
    qsort(g->v, (size_t)g->n, sizeof *g->v, by_name);
}

void groups_free(Groups *g) {
    for (int k = 0; k < g->n; k++) free(g->v[k].index);
    free(g->v);
    *g = (Groups){0};
}

const Group *groups_find(const Groups *g, const char *name) {
    for (int k = 0; k < g->n; k++)
        if (strcmp(g->v[k].name, name) == 0) return &g->v[k];
    return NULL;
}

int64_t *groups_clusters(char *const *prompt, int64_t n) {
    int64_t *cluster = xmalloc((size_t)(n + 1) * sizeof *cluster);
    AUTOFREE uint64_t *hash = xmalloc((size_t)(n + 1) * sizeof *hash);
    for (int64_t i = 0; i < n; i++) {
        hash[i] = hash_text(prompt[i]);
        int64_t j = 0;
        while (hash[j] != hash[i] || strcmp(prompt[j], prompt[i]) != 0) j++;
        cluster[i] = j;
    }
    return cluster;
}

double groups_mean(const Group *g, const double *x, int64_t n, const int64_t *cluster, double *se) {
    const int64_t m = g ? g->n : n;
    AUTOFREE double *of = xmalloc((size_t)(m + 1) * sizeof *of);
    AUTOFREE int64_t *label = xmalloc((size_t)(m + 1) * sizeof *label);
    for (int64_t k = 0; k < m; k++) {
        const int64_t i = g ? g->index[k] : k;
        of[k] = x[i];
        label[k] = cluster ? cluster[i] : i;
    }
    double mean;
    *se = stats_cluster_se(of, label, m, &mean);
    return mean;
}
