/* merge.h: a checkpoint of adapters (model/lora.h) becomes one of all weights. Not collective. */
#ifndef CHECKPOINTS_EXCHANGE_MERGE_H
#define CHECKPOINTS_EXCHANGE_MERGE_H

#include "checkpoints/exchange/load.h"

/* The model at `path` (a run folder or a checkpoint), its adapters merged into its base's weights,
 * becomes the checkpoint `out`, a parent like any other. ERR_USAGE: it holds no adapters. */
int merge_adapters(const char *path, const char *out);
/* A checkpoint of these parameters that is otherwise l: its architecture, tokenizer, template,
 * stops. lora: the description of adapters on l (load.c); NULL: all weights. */
int merge_save(const Loaded *l, const ParamSet *ps, const char *stage, const json_t *lora,
               const char *out);

#endif
