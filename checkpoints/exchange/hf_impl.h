/* hf_impl.h: what import and export share. Internal to checkpoints/exchange/. */
#ifndef CHECKPOINTS_EXCHANGE_HF_IMPL_H
#define CHECKPOINTS_EXCHANGE_HF_IMPL_H

#include "checkpoints/exchange/hf.h"
#include "data/tokenizer/tokenizer.h"
#include "model/arch.h"

enum { HF_PIECE = 1 << 16 /* elements on their way between file and model */ };

/* config.json of a folder, and what it says the model is. */
typedef struct HfConfig {
    const char *dir;
    char *path;
    json_t *json;
    GptConfig cfg;
} HfConfig;

/* ERR_DATA names the field that is malformed, of another architecture, or at odds with its alias.
 * hf_config_free also after a failure. */
int hf_config_read(HfConfig *c, const char *dir);
void hf_config_free(HfConfig *c);
/* A member; NULL also where it is null, which transformers writes for what is not set. */
const json_t *hf_config_get(const HfConfig *c, const char *key);
/* The tokens that end a text, the tokenizer's own first if it is one of them: of
 * generation_config.json, else config.json, else the tokenizer's settings (NULL: no tokenizer).
 * None: nothing says. Ids that the model does not have are warned about and left out. */
int hf_config_stops(const HfConfig *c, const Tokenizer *t, IdList *out);

/* The fields as they stand in config.json. */
json_t *hf_config_json(const GptConfig *c);

#endif
