/* run_impl.h: what run.c and run_main.c share. */
#ifndef TRAIN_RUN_IMPL_H
#define TRAIN_RUN_IMPL_H

#include <stdio.h>

#include "base/file.h"
#include "base/text.h"
#include "checkpoints/checkpoint.h"
#include "train/events.h"
#include "train/run.h"

enum {
    RUN_MAX_METRICS = 64,
    RUN_MAX_COUNTERS = 32,
    LOG_SECONDS = 30 /* log and status.json are never older, but for a step that takes longer */
};

typedef struct Counter {
    char *name;
    int64_t *i; /* one of the two is set */
    double *f;
} Counter;

typedef struct Metric {
    const char *name;
    double value;
    bool timing;
} Metric;

struct RunPriv {
    char *ckpt_dir, *config_text, *tokenizer, *path;
    FileLock *lock;   /* rank 0 */
    bool default_dir; /* run.dir was not set */
    bool ours;        /* the folder is this run's: locked, and no other run lies in it */
    FILE *metrics_file;
    Events *events; /* NULL: not written */
    Text texts;     /* of run_text, in this step */
    json_t *meta;
    CkptArray *array;
    int narray;
    Counter counter[RUN_MAX_COUNTERS];
    int ncounter;
    Metric metric[RUN_MAX_METRICS];
    int nmetric;
    char headline[256];
    const int64_t *keep_step;
    int nkeep_step;
    int64_t saved_step, first_step;
    int save_failures;
    double available; /* memory at the start, bytes; of which limit */
    char available_of[640];
    double result;           /* last value of the stage's headline metric; NaN: none yet */
    double best, saved_best; /* the best result so far; that of best.json */
    bool new_best;
    double began, last_log, last_status, last_save, step_began;
    int64_t tokens_since, steps_since;
};

/* status.json: "running", "stopped", "failed" or "done", and how far; nothing while the folder may
 * be another run's. Rank 0's is the one that counts; a rank that fails alone writes it too. */
void run_write_status(Run *run, const char *state, int code, const char *reason);
RunPriv *run_priv_new(const Config *c);
void run_priv_free(RunPriv *p);

#endif
