/* choose.c: the layout of a stage on so many nodes: of all ways to use all cores of a node that fit
 * into its memory the fastest, and of those as fast (within half a per cent) the one with the least
 * memory: shorter micro-batches and sharding wherever they cost no time. Sharded gradients, which
 * take dist.reproducible=false, only where that is set, or nothing else fits. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "plan/forecast.h"

enum { MICRO_MIN = 512, MICRO_MAX = 1 << 17 };
static const double usable = 0.9; /* of a node's memory: the rest is the system's and the cache's */
static const double as_fast = 1.005; /* then less memory counts */

typedef struct Candidate {
    PlanLayout l;
    double seconds, node_bytes;
} Candidate;

static Candidate candidate(const PlanStage *s, const PlanMachine *m, PlanLayout l) {
    PlanMemory memory;
    PlanTime t;
    plan_memory(&s->work, &l, &memory);
    plan_time(&s->work, &l, machine_rates(m, l.threads), &m->net, &t);
    return (Candidate){l, t.step, (double)l.per_node * memory.total};
}

static bool better(const Candidate *a, const Candidate *b) {
    if (b->seconds <= 0) return true;
    if (a->seconds * as_fast < b->seconds) return true;
    return a->seconds < b->seconds * as_fast && a->node_bytes < b->node_bytes;
}

/* Were ranks of so many threads measured? How a team of another size fares is not known: it is
 * considered only where no measured one divides the cores. */
static bool measured(const PlanMachine *m, int64_t threads) {
    bool any = false;
    for (int i = 0; i < m->nrates; i++) {
        if (m->rates[i].threads == threads) return true;
        any |= m->cores % m->rates[i].threads == 0;
    }
    return !any;
}

int choose_layout(const PlanStage *s, const PlanMachine *m, int64_t nodes, PlanLayout *out,
                  char **why) {
    Candidate best = {0}, least = {0}, fastest = {0}; /* fastest: of those that do not fit */
    Candidate loose = {0}; /* the best that dist.reproducible rules out */
    int64_t tried = 0;
    for (int64_t ranks = 1; ranks <= m->cores; ranks++) {
        if (m->cores % ranks || !measured(m, m->cores / ranks)) continue;
        for (int shard = 0; shard < PLAN_SHARDS; shard++) {
            if (shard && ranks * nodes == 1) break;
            for (int64_t micro = MICRO_MIN; micro <= MICRO_MAX; micro *= 2) {
                const Candidate c = candidate(s, m,
                                              (PlanLayout){.ranks = ranks * nodes,
                                                           .per_node = ranks,
                                                           .threads = m->cores / ranks,
                                                           .shard = shard,
                                                           .micro_tokens = micro});
                tried++;
                if (least.node_bytes <= 0 || c.node_bytes < least.node_bytes) least = c;
                if (c.node_bytes <= usable * m->memory) {
                    Candidate *of =
                        shard == SHARD_GRADIENTS && s->work.virtual_ranks > 0 ? &loose : &best;
                    if (better(&c, of)) *of = c;
                } else if (fastest.seconds <= 0 || c.seconds < fastest.seconds)
                    fastest = c;
            }
        }
    }
    const char *only = "";
    if (best.seconds <= 0 && loose.seconds > 0) {
        best = loose;
        only = " with dist.reproducible=false";
    }
    if (best.seconds <= 0)
        return error_set(ERR_CONFIG,
                         "stage %s does not fit: %.1f GiB a node at least, expected at most %.1f "
                         "(%.0f %% of --memory); more nodes with dist.shard, or a smaller model",
                         s->name, least.node_bytes / (1 << 30), usable * m->memory / (1 << 30),
                         100 * usable);
    *out = best.l;
    const bool blocked = fastest.seconds > 0 && fastest.seconds * as_fast < best.seconds;
    *why =
        blocked
            ? xasprintf("the fastest of %" PRId64 " layouts that fit%s: %.1f GiB of a node's "
                        "%.1f usable; %" PRId64 " ranks a node would take %.0f %% of its time but "
                        "%.1f GiB",
                        tried, only, best.node_bytes / (1 << 30), usable * m->memory / (1 << 30),
                        fastest.l.per_node, 100 * fastest.seconds / best.seconds,
                        fastest.node_bytes / (1 << 30))
            : xasprintf("the fastest of %" PRId64 " layouts%s, and of those as fast the one "
                        "with the least memory: %.2f GiB of a node's %.1f usable",
                        tried, only, best.node_bytes / (1 << 30), usable * m->memory / (1 << 30));
    return 0;
}
