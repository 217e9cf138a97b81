/* memory.h: is there memory for a run? Asked before a stage makes its models, so that a run that is
 * too large ends at once and with its plan, not in the middle of the night by the kernel's hand. */
#ifndef TRAIN_MEMORY_H
#define TRAIN_MEMORY_H

#include <stdbool.h>

#include "train/plan.h"
#include "train/run.h"

enum { MEMORY_LIMITS = 64 };

/* What this process, and those that share the limit, may take beside what they have. */
typedef struct MemoryLimit {
    double bytes; /* what the kernel gives back when asked (page cache, swap) counts as free */
    enum { LIMIT_NODE, LIMIT_CGROUP, LIMIT_PROCESS } kind;
    int version;      /* cgroup: 1 or 2 */
    char folder[512]; /* cgroup: below the mount point; "" the outermost */
    char what[640];   /* "memory.max of /sys/fs/cgroup/job (4096 MiB)" */
} MemoryLimit;

/* A process's cgroups, by version; "" where it is in none that is known. */
typedef struct MemoryGroups {
    char folder[3][512];
} MemoryGroups;

/* Memory of the machine, of every cgroup that holds this process (version 2 and 1), and the
 * process's own (ulimit -v, -d); what cannot be read is no limit. Returns how many there are. root:
 * "", or for a test a folder with proc/ and sys/fs/cgroup/. Not collective. */
int memory_limits(const char *root, MemoryLimit v[MEMORY_LIMITS], MemoryGroups *groups);
/* Does the limit hold for a process on this node that is in these cgroups? Not collective. */
bool memory_shared(const MemoryLimit *l, const MemoryGroups *other);
/* The one that leaves this process least; -1 if there is none. Not collective. */
int memory_least(const MemoryLimit *v, int n);

/* Before the stage makes its models. ERR_CONFIG on all ranks when on some node they will surely
 * take more than there is, after rank 0 has printed the plan; a warning when they may. Surely: what
 * a rank allocates for its own share, less the 5 % to which the plan is right; of PPO with the
 * shortest responses there are. Collective; in a dry run for this process alone. */
int memory_check(Run *run, const PlanWork *w);

/* --dry-run: does the passes of a step and prints the plan with what they took. Not collective. */
int memory_dry_run(Run *run, const PlanWork *w, Step *s);

#endif
