/* sample.h: one token out of one row of logits, private to model/. */
#ifndef MODEL_SAMPLE_H
#define MODEL_SAMPLE_H

#include "core/rng.h"
#include "model/decode.h"

/* Chooses a token by temperature, top_k, top_p of `o`, never one of g->masked. logits [V] is
 * overwritten; heap [V] is scratch, needed when top_k or top_p is on, else NULL. *logp:
 * log-probability of the token at the temperature (1 when greedy), before top_k and top_p. Random
 * numbers: (key, id, position, token/4). Logits that are not finite (a diverged model) give token 0
 * and a NaN. */
int32_t sample_token(const Gpt *g, real *logits, const DecodeOptions *o, const RngKey *key,
                     uint64_t id, uint32_t position, int32_t *heap, float *logp);

#endif
