/* engine.h: a checkpoint at work for many clients: a queue, and threads that decode and score what
 * is in it. What a task gets does not depend on which others are there. */
#ifndef SERVE_HTTP_ENGINE_H
#define SERVE_HTTP_ENGINE_H

#include <stdatomic.h>

#include "checkpoints/exchange/load.h"
#include "model/decode.h"

enum { ENGINE_TOP = 20 }; /* alternatives a token, at most */

typedef struct EngineOptions {
    int64_t slots;     /* sequences decoded at once; 0: chosen for the machine */
    int64_t queue;     /* tasks that may wait */
    double deadline_s; /* of a task, from its submission */
    bool half;         /* weights in bfloat16 */
} EngineOptions;

/* One completion, or one score. Made by the caller, its own until `done`. */
typedef struct EngineTask EngineTask;
struct EngineTask {
    int32_t *ids; /* [nids] the prompt; for a score the whole sequence */
    int64_t nids;
    DecodeOptions o; /* temperature, top_k, top_p, max_new (0: no completion), seed */
    uint64_t id;     /* sample id */
    int top;         /* alternatives of each token; -1: no log-probabilities */
    bool echo;       /* log-probabilities of the prompt as well */
    /* By one thread at a time. A token came: non-zero ends the completion; t->n counts it already. */
    int (*token)(EngineTask *t, int32_t token);
    void (*done)(EngineTask *t);
    void *ctx;
    atomic_bool cancelled;
    /* What comes out. */
    DecodeSequence seq; /* its tokens, n, stopped */
    float *logp;        /* [nids + room] of each token at temperature 1; the first is NAN */
    int32_t *top_id;    /* [nids + room][top] most likely first */
    float *top_logp;
    float reward; /* of a reward model */
    bool late;    /* ended by its deadline */
    /* The engine's. */
    struct Engine *e;
    real *logits; /* [vocab] */
    double began, deadline;
    EngineTask *next;
};

typedef struct EngineCounts {
    atomic_llong submitted, refused, done, prompt_tokens, tokens;
    atomic_llong waiting, active;
    atomic_llong first_token_us; /* sum over tasks, from their submission */
} EngineCounts;

typedef struct Engine Engine;
/* path: run folder or checkpoint; name: what clients call it. Starts its threads. */
int engine_open(Engine **out, const char *name, const char *path, const EngineOptions *o);
/* Takes nothing new; waits for what is there, after so many seconds ends it. */
void engine_drain(Engine *e, double patience_s);
void engine_close(Engine **e); /* drains and ends the threads */

const Loaded *engine_model(const Engine *e);
const char *engine_name(const Engine *e);
bool engine_is_reward(const Engine *e);
EngineCounts *engine_counts(Engine *e);

/* Gives the n tasks to the threads: all, or none where the queue has no room for them (false). */
bool engine_submit(Engine *e, EngineTask **t, int n);

/* A task for these ids (taken over), with room for what it may produce; ERR_DATA: it does not fit. */
int engine_task(EngineTask **out, Engine *e, IdList *ids, const DecodeOptions *o, int top,
                bool echo);
void engine_task_free(EngineTask *t);

#endif
