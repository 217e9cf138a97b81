/* prompts.h: samples of a model for a file of prompts: what rhetor-generate writes, and what
 * rankings, win rates and comparisons are made of. Not collective. */
#ifndef EVAL_PROMPTS_H
#define EVAL_PROMPTS_H

#include <jansson.h>

#include "checkpoints/exchange/load.h"
#include "data/dataset.h"
#include "model/decode.h"

/* Prompts with their records, so that other fields (gold, ids, ...) travel along. */
typedef struct PromptFile {
    int64_t n;
    json_t **record; /* [n] */
    IdList *ids;     /* [n] encoded with the model's template */
    int64_t skipped; /* too long for the context */
} PromptFile;

/* raw: the prompt's text as it is, without the template (for a base model). At most `max` records
 * (0: all). Prompts longer than max_prompt tokens are left out and counted. */
int prompts_load(PromptFile *p, const char *path, const Loaded *m, bool raw, int64_t max_prompt,
                 int64_t max, const char *field);
void prompts_free(PromptFile *p);

/* ids of the text of a record's prompt without a template: its messages with a space between. */
int prompts_raw(IdList *ids, const Loaded *m, const json_t *record, const char *field);

/* K responses for each prompt: response k of prompt i is r->v[i * K + k]. Sample ids are i * K + k.
 * They end with the model's stop tokens (o->stop is not read); `stopped` says: with stop[0]. */
int prompts_sample(DecodeResult *r, const Loaded *m, const PromptFile *p, int64_t K,
                   const DecodeOptions *o);

#endif
