/* groups.h: prompts of the embedded world by what they ask, so that a mean over all of them hides
 * nothing: `all`, `answerable` (the prompt tells the answer, and must be read for it),
 * `unanswerable` (it does not tell), `family/qa` and so on, `held/none`, `held/verb` and so on (what
 * of a prompt training never had). Also means with standard errors that know which records share a
 * prompt. */
#ifndef EVAL_GROUPS_H
#define EVAL_GROUPS_H

#include "data/world/gold.h"

typedef struct Group {
    char name[2 * GOLD_WORD];
    int64_t n;
    int64_t *index; /* [n] ascending */
} Group;

typedef struct Groups {
    Group *v;
    int n;
} Groups;

/* gold NULL: `all` alone. Empty groups are left out. */
void groups_make(Groups *g, const Gold *gold, int64_t n);
void groups_free(Groups *g);
const Group *groups_find(const Groups *g, const char *name); /* NULL: none */

/* cluster[i]: the first record whose prompt is that of record i. malloc'd. */
int64_t *groups_clusters(char *const *prompt, int64_t n);

/* Mean of x over a group (NULL: over all n) and its standard error, clustered: records of one
 * prompt are no independent draws. cluster NULL: each record its own. NaN where there is nothing. */
double groups_mean(const Group *g, const double *x, int64_t n, const int64_t *cluster, double *se);

#endif
