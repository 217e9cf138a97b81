/* gguf_rope.h: Llama 3's stretching of rotary frequencies. GGUF keeps what each frequency is divided
 * by; the model has the four numbers that make it. */
#ifndef CHECKPOINTS_EXCHANGE_GGUF_ROPE_H
#define CHECKPOINTS_EXCHANGE_GGUF_ROPE_H

#include <jansson.h>

#include "model/arch.h"

/* The divisors of the columns / 2 frequencies. */
void gguf_rope_factors(const GptConfig *c, float *out);
/* The numbers that make those divisors: our own words for them (ours, NULL: none), else Llama 3's
 * (low 1, high 4) with an original context that is a power of two. ERR_DATA: none do. */
int gguf_rope_read(GptConfig *c, const float *factor, int64_t n, const json_t *ours);

#endif
