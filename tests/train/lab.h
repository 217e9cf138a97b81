/* lab.h (tests): a Run without a command line, a small random model, a checkpoint of it. Included
 * after cmocka.h, scratch.h and tokens.h; `comm` is the program's. */
#ifndef TESTS_TRAIN_LAB_H
#define TESTS_TRAIN_LAB_H

#include <math.h>

#include "core/kernel.h"
#include "tests/model/random_gpt.h"
#include "train/run_impl.h"

static Comm *comm;

/* A run of `stage` in `dir` (NULL: no folder) with settings up to a NULL. */
__attribute__((unused)) static void lab_run(Run *run, int stage, const char *dir,
                                            const char *const *settings) {
    const char *set[16];
    int n = 0;
    char *dir_setting = xasprintf("run.dir=%s", dir ? dir : "");
    set[n++] = dir_setting;
    while (settings && *settings) set[n++] = *settings++;
    *run = (Run){.comm = comm, .main_rank = comm_rank(comm) == 0, .steps = 100};
    OK(config_load(&run->cfg, stage, NULL, set, n));
    run->priv = run_priv_new(&run->cfg);
    if (dir) OK(file_make_dirs(run->priv->ckpt_dir));
    free(dir_setting);
}

__attribute__((unused)) static void lab_end(Run *run) {
    run_priv_free(run->priv);
    config_free(&run->cfg);
}

enum { LAB_VOCAB = 257, LAB_CONTEXT = 32 };

__attribute__((unused)) static Gpt *lab_model(bool head, uint64_t seed) {
    return random_gpt((GptConfig){.vocab = LAB_VOCAB,
                                  .context = LAB_CONTEXT,
                                  .layers = 2,
                                  .heads = 2,
                                  .width = 16,
                                  .bias = true,
                                  .scalar_head = head},
                      seed);
}

/* Saves the model as the only step of a run of `stage`. ema: another model that later stages shall
 * use. Not collective: each rank has its own `dir`. */
__attribute__((unused)) static void lab_save(const char *dir, int stage, Gpt *g, const Tokenizer *t,
                                             Template tmpl, Gpt *ema) {
    Run run;
    Comm *all = comm;
    OK(comm_open_alone(&comm));
    lab_run(&run, stage, dir, NULL);
    run.step = run.steps = 1;
    run_keep_params(&run, "params", &g->params, g->params.data);
    if (ema) run_keep_params(&run, "ema", &ema->params, ema->params.data);
    run_describe(&run, &g->cfg, t, tmpl, ema ? "ema" : "params");
    OK(run_save(&run));
    lab_end(&run);
    comm_close(&comm);
    comm = all;
}

/* -log p of the target at every position of one sequence, from all logits in double. */
__attribute__((unused)) static double lab_nll(Gpt *g, const int32_t *tokens, const int32_t *targets,
                                              const uint8_t *active, int64_t n) {
    Arena arena = {0};
    Tape *tape = tape_open(&arena, false);
    const int64_t start[2] = {0, n}, C = g->cfg.width;
    const Batch b = {.n = n, .nseq = 1, .tokens = tokens, .targets = targets, .start = start};
    const Tensor *x = gpt_forward(g, tape, &b, NULL, NULL);
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double z = 0, target = 0;
        if (active && !active[i]) continue;
        for (int64_t v = 0; v < g->cfg.vocab; v++) {
            double logit = 0;
            for (int64_t c = 0; c < C; c++)
                logit += (double)x->data[i * C + c] * (double)g->out_w->data[v * C + c];
            z += exp(logit);
            if (v == targets[i]) target = logit;
        }
        sum += log(z) - target;
    }
    tape_close(&tape);
    arena_free(&arena);
    return sum;
}

#endif
