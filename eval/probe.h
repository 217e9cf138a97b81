/* probe.h: can a language model read? It chooses among all values of a kind at the end of documents
 * that it has not seen (data/world/world_probe.h). Not collective. */
#ifndef EVAL_PROBE_H
#define EVAL_PROBE_H

#include <jansson.h>
#include <stdio.h>

#include "checkpoints/exchange/load.h"
#include "data/world/world_probe.h"

typedef struct ProbeScore {
    int64_t n, right; /* right: the value with the highest summed log-probability */
    int64_t constant; /* right answers of the best policy that reads only the last sentence */
} ProbeScore;

/* n probes of each kind. ERR_CONFIG if one is longer than the model's context. */
int probe_run(ProbeScore score[PROBE_KINDS], const Loaded *m, uint64_t seed, int64_t n,
              int64_t micro_tokens);
/* Choice i of n probes, choice[i] the number of a value: counts what is right. */
ProbeScore probe_count(const Probe *p, const int *choice, int64_t n);

double probe_accuracy(const ProbeScore *s, double *se); /* binomial standard error */
void probe_print(const ProbeScore score[PROBE_KINDS], FILE *f);
json_t *probe_json(const ProbeScore score[PROBE_KINDS], const Loaded *m, uint64_t seed);

#endif
