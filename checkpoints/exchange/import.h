/* import.h: what imports share: the model that was read becomes a checkpoint. */
#ifndef CHECKPOINTS_EXCHANGE_IMPORT_H
#define CHECKPOINTS_EXCHANGE_IMPORT_H

#include <jansson.h>

#include "data/template.h"
#include "data/tokenizer/tokenizer.h"
#include "model/gpt.h"

/* `meta`: what the import knows beyond the model (template, eos, ...); it is added to. hash: of the
 * files' bytes. t NULL: no tokenizer. ERR_IO. */
int import_save(const char *out, const Gpt *g, const Tokenizer *t, uint64_t hash, json_t *meta);
/* ERR_DATA if the tokenizer has more tokens than the model rows; rows without a token are named. */
int import_check_rows(const char *from, const Tokenizer *t, int64_t rows);
/* The chat template of the model: the one that is asked for (tmpl), else the one that an export of
 * ours names (ours, NULL: none), else the one that its own text is (jinja, NULL: none), else plain.
 * Both go into the checkpoint's description. ERR_CONFIG, ERR_DATA. */
int import_template(const char *from, const char *tmpl, const json_t *ours, const char *jinja,
                    json_t *meta);

#endif
