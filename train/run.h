/* run.h: what every stage does around its algorithm, so that a stage file holds the algorithm only:
 * command line, config, ranks, run directory, lock, log, metrics, resume, save, stop.
 *
 * A stage registers what it must remember (parameters, moments, counters) once with run_keep_*;
 * saving and resuming walk the same list, so nothing is saved that is not restored and the other
 * way round. Calls are Collective unless said otherwise. */
#ifndef TRAIN_RUN_H
#define TRAIN_RUN_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "core/param.h"
#include "data/template.h"
#include "data/tokenizer/tokenizer.h"
#include "dist/comm.h"
#include "model/gpt.h"
#include "optim/optim.h"

typedef struct RunPriv RunPriv;

typedef struct Run {
    Config cfg;
    Comm *comm;
    bool main_rank;
    bool dry;      /* --dry-run: build everything, print the plan, write nothing */
    bool selftest; /* --selftest */
    int64_t step;  /* the step to do next; after run_resume where the last one ended */
    int64_t steps; /* how many there are; set by the stage before run_resume */
    double
        exchange_s; /* of this step: waiting for the gradients' sums and the others' parameters */
    size_t exchange_bytes; /* scratch of the exchanges of gradients, which a plan does not open */
    RunPriv *priv;
} Run;

/* The whole of main(): parses `rhetor-STAGE CONFIG.yaml [key=value...] [options]`, opens the run,
 * calls `stage`, closes the run, returns the exit status. Every failure is printed once. */
typedef int StageFn(Run *run);
int run_main(int argc, char **argv, int stage, StageFn *fn);

/* --- what a checkpoint holds ------------------------------------------------------------------ */
/* Registered data is borrowed and must live until the stage returns. `group` is the path in the
 * checkpoint: "params", "critic/params", ... Not collective. */
void run_keep_params(Run *run, const char *group, const ParamSet *ps, real *data);
void run_keep_adamw(Run *run, const char *group, const ParamSet *ps,
                    AdamW *a); /* group/m, /v, step */
void run_keep_i64(Run *run, const char *name, int64_t *v);
void run_keep_f64(Run *run, const char *name, double *v);
/* An array that may be missing in a checkpoint: it stays as it is then. */
void run_keep_doubles(Run *run, const char *name, double *v, int64_t n);
/* What the checkpoint says about its model. `use`: the group whose weights are the model for later
 * stages ("params" or "ema"). Not collective. */
void run_describe(Run *run, const GptConfig *model, const Tokenizer *tk, Template tmpl,
                  const char *use);
/* The run trains adapters on the weights of this parent; its checkpoints say so. */
void run_adapters(Run *run, const LoraConfig *o, const char *path, const char *id);
/* The token that ends the model's answers, where it was trained to stop. Not collective. */
void run_stop_token(Run *run, int32_t id);
/* Lineage: parent checkpoints (role, id) and data hashes (role, hash). A resumed run whose parents
 * or data differ is refused. Not collective. */
void run_parent(Run *run, const char *role, const char *id);
void run_data(Run *run, const char *role, uint64_t hash);
/* Steps whose checkpoints are never rotated away; borrowed. Not collective. */
void run_keep_steps(Run *run, const int64_t *steps, int n);

/* Restores the newest good checkpoint of the run directory, if any, into what was registered, and
 * sets run->step. Prints which settings differ from the saved ones. */
int run_resume(Run *run);

/* --- the loop --------------------------------------------------------------------------------- */
/* True while there are steps to do. Not collective. */
bool run_goes_on(const Run *run);
/* Metrics of the current step, in the order given, to metrics.jsonl and TensorBoard. Values must be
 * the same on all ranks (rank 0's are written). Not collective. */
void run_metric(Run *run, const char *name, double value);
/* The same for what differs from run to run, times: TensorBoard only, since metrics.jsonl is the
 * same for equal runs. */
void run_timing(Run *run, const char *name, double value);
/* The step's part of the progress line and, every run.log_every steps, of the log, e.g. "loss 3.21
 * lr 3.0e-04". Not collective. */
void run_headline(Run *run, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void run_text(Run *run, const char *fmt, ...)
    __attribute__((format(printf, 2, 3))); /* samples.txt, TensorBoard */
/* Evaluate before the next step? (every eval.every steps and after the last one.) Not
 * collective. */
bool run_eval_due(const Run *run);
/* An evaluation's result; smaller is better. With save.keep_best the checkpoint written at this
 * step becomes the best when `value` is. */
void run_eval_result(Run *run, double value);
/* Ends the step: writes its metrics, saves when due, honours signals, STOP, SAVE and the deadline.
 * ERR_REQUEUE after saving when the run must leave; ERR_IO where that save, the last one or three
 * in a row failed. tokens: processed in this step, for the speed. */
int run_step_end(Run *run, int64_t tokens);
/* Saves now (the stage's last act does so by itself when run_step_end saw the last step). */
int run_save(Run *run);

/* --- helpers ---------------------------------------------------------------------------------- */
/* Path in the run directory; valid until the next call. Not collective. */
const char *run_path(const Run *run, const char *name);
/* Prints the plan for --dry-run: parameters, tokens a step, time (of the step that was done),
 * memory. Not collective. */
void run_plan(const Run *run, double step_seconds, int64_t parameters, double tokens_per_step,
              double flops_per_step, size_t state_bytes, size_t arena_bytes);

#endif
