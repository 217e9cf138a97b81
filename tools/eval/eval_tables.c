/* eval_tables.c: rhetor-eval compare, pick, probe. */
#include "eval/pick.h"
#include "eval/probe.h"
#include "tools/eval/eval.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "ppo>sft>base": each above the next. */
static int check_expectation(const Comparison *c, const Args *a) {
    char *chain = xstrdup(a->expect), *save = NULL, *prev = NULL;
    int rc = 0;
    for (char *w = strtok_r(chain, ">", &save); w; prev = w, w = strtok_r(NULL, ">", &save)) {
        double mean, se;
        if (!prev) continue;
        compare_difference(c, prev, w, &mean, &se);
        printf("expected: %s above %s by more than %g standard errors: %+.3f +- %.3f, %.1f: %s\n",
               prev, w, a->expect_se, mean, se, mean / se,
               mean > a->expect_se * se ? "holds" : "does NOT hold");
        if (!(mean > a->expect_se * se))
            rc = error_set(ERR_INTERNAL, "--expect %s does not hold", a->expect);
    }
    free(chain);
    return rc;
}

/* Before hours of sampling: does the chain name rows of the table? */
static int check_chain(const Args *a) {
    char *chain = xstrdup(a->expect), *save = NULL, best[64];
    int rc = 0, n = 0;
    snprintf(best, sizeof best, "best of %" PRId64, a->o.best_of);
    for (char *w = strtok_r(chain, ">", &save); w && rc == 0; w = strtok_r(NULL, ">", &save)) {
        bool known = a->o.best_of > 0 && strcmp(w, best) == 0;
        for (int i = 0; i < a->o.n && !known; i++) known = strcmp(w, a->name[i]) == 0;
        if (!known)
            rc = error_set(ERR_USAGE,
                           "--expect %s: \"%s\" is none of the models given with "
                           "--model NAME=PATH",
                           a->expect, w);
        n++;
    }
    free(chain);
    if (rc == 0 && n < 2)
        rc = error_set(ERR_USAGE, "--expect %s: expected two or more names, A>B", a->expect);
    return rc;
}

int eval_compare(const Args *a) {
    if (!a->o.prompts || a->o.n == 0)
        return error_set(ERR_USAGE, "expected --model NAME=PATH (for each row) and --prompts FILE");
    if (a->o.best_of > 0 && !a->o.reward)
        return error_set(ERR_USAGE, "--best-of %" PRId64 " needs --reward PATH, which chooses",
                         a->o.best_of);
    if (a->expect) TRY(check_chain(a));
    Comparison c;
    TRY(compare(&c, &a->o));
    compare_print(&c, &a->o, stdout);
    int rc = 0;
    if (a->json) {
        json_auto_t *j = compare_json(&c);
        rc = json_write_file(j, a->json);
    }
    if (rc == 0 && a->expect) {
        printf("\n");
        rc = check_expectation(&c, a);
    }
    compare_free(&c);
    return rc;
}

int eval_pick(const Args *a) {
    if (!a->o.reward || !a->o.prompts)
        return error_set(ERR_USAGE, "expected --reward PATH and --prompts FILE");
    return pick(&a->o, a->model, a->out, stdout);
}

int eval_probe(const Args *a) {
    Loaded m;
    ProbeScore score[PROBE_KINDS];
    TRY(load_model(&m, a->model, "--model", LOAD_LANGUAGE));
    int rc = probe_run(score, &m, a->o.seed, a->probes, MICRO_TOKENS);
    if (rc == 0) probe_print(score, stdout);
    if (rc == 0 && a->json) {
        json_auto_t *j = probe_json(score, &m, a->o.seed);
        rc = json_write_file(j, a->json);
    }
    for (ProbeKind k = 0; k < PROBE_KINDS && rc == 0; k++) {
        double se, p = probe_accuracy(&score[k], &se);
        if (p < a->expect_accuracy)
            rc = error_set(ERR_INTERNAL, "--expect %g does not hold: %s is %.3f",
                           a->expect_accuracy, world_probe_names[k], p);
    }
    load_free(&m);
    return rc;
}
