/* ranked.h: a parent and a file of rankings, for tests of the stages that learn from them. */
#ifndef TESTS_RLHF_RANKED_H
#define TESTS_RLHF_RANKED_H

#include <stdlib.h>

#include "tests/base/scratch.h"
#include "tests/data/tokens.h"
#include "tests/train/lab.h"

static char *ranked_model, *ranked_path;

static inline int ranked_make(const char *records) {
    scratch_make(NULL);
    ranked_model = scratch("model");
    ranked_path = scratch("ranked.jsonl");
    scratch_text(ranked_path, records);
    Gpt *g = lab_model(false, 1);
    Tokenizer *t = tokens_bytes();
    lab_save(ranked_model, STAGE_SFT, g, t, TEMPLATE_PLAIN, NULL);
    tokenizer_close(&t);
    gpt_close(&g);
    return 0;
}

static inline int ranked_clear(void **state) {
    free(ranked_model);
    free(ranked_path);
    return scratch_remove(NULL);
}

/* A run of a stage on them, with more settings, the last NULL. */
static inline void ranked_run(Run *run, int stage, const char *dir, const char *const *more) {
    AUTOFREE char *model = xasprintf("from.model=%s", ranked_model);
    AUTOFREE char *train = xasprintf("data.train=%s", ranked_path);
    AUTOFREE char *heldout = xasprintf("data.heldout=%s", ranked_path);
    const char *set[16] = {model, train, heldout};
    for (int n = 3; *more; n++) set[n] = *more++;
    lab_run(run, stage, dir, set);
}

#endif
