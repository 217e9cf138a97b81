/* pipeline.h: what the parts of rhetor-pipeline share. */
#ifndef PIPELINE_PIPELINE_H
#define PIPELINE_PIPELINE_H

#include "base/file.h"
#include "pipeline/recipe.h"
#include "pipeline/request.h"

typedef struct Args {
    Request request;
    const char *from, *until, *only;
    const char *launch, *job; /* words before a stage's program; name of the job that we are */
    int64_t ranks;
    bool status, json, dry, force;
} Args;

typedef struct Pipeline {
    const Args *args;
    Recipe recipe;
    FileLock *lock;
    int first, last;
    bool not_begun; /* the launcher failed before a stage, which ran before, could go on */
} Pipeline;

/* --status: how far every step is, a line each or (--json) one object. From files alone, so it
 * works from any host that sees the run's folder. */
void status_print(const Pipeline *p);

#endif
