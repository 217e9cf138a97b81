/* import.c: what imports share. See import.h. */
#include "checkpoints/exchange/import.h"

#include <inttypes.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "checkpoints/checkpoint.h"

int import_check_rows(const char *from, const Tokenizer *t, int64_t rows) {
    const int64_t n = tokenizer_vocab(t);
    int64_t none = 0, first = -1;
    if (n > rows)
        return error_set(ERR_DATA, "%s: the tokenizer has %" PRId64 " tokens, the model %" PRId64,
                         from, n, rows);
    for (int64_t i = rows; i-- > 0;)
        if (!tokenizer_token_bytes(t, (int32_t)i, NULL)) none++, first = i;
    if (none)
        log_info("%s: %" PRId64 " of the model's %" PRId64 " rows of the vocabulary (from %" PRId64
                 ") have no token in the tokenizer: they are never sampled",
                 from, none, rows, first);
    return 0;
}

int import_template(const char *from, const char *tmpl, const json_t *ours, const char *jinja,
                    json_t *meta) {
    Template t = TEMPLATE_PLAIN;
    int rc = tmpl    ? template_by_name(tmpl, &t)
             : ours  ? template_from_json(ours, &t)
             : jinja ? template_of_jinja(jinja, &t)
                     : 0;
    if (rc < 0) return error_wrap(tmpl ? rc : ERR_DATA, "%s", from);
    json_object_set_new(meta, "template", template_to_json(t));
    if (jinja) json_object_set_new(meta, "chat_template", json_string(jinja));
    return 0;
}

int import_save(const char *out, const Gpt *g, const Tokenizer *t, uint64_t hash, json_t *meta) {
    char text[17];
    snprintf(text, sizeof text, "%016" PRIx64, hash);
    json_auto_t *more =
        json_pack("{s:o, s:s, s:{s:s}, s:s, s:i, s:i}", "model", arch_to_json(&g->cfg), "use",
                  "params", "data", "import", text, "program", "rhetor " RHETOR_VERSION, "ranks", 1,
                  "threads", omp_get_max_threads());
    json_object_update(meta, more);
    const ParamSet *ps = &g->params;
    AUTOFREE char *tokenizer = t ? tokenizer_json(t) : NULL;
    AUTOFREE CkptArray *array = xcalloc((size_t)ps->n, sizeof *array);
    for (int i = 0; i < ps->n; i++) {
        array[i] = (CkptArray){.name = xasprintf("params/%s", ps->v[i].name),
                               .type = H5_F32,
                               .ndim = ps->v[i].tensor.ndim,
                               .data = ps->v[i].tensor.data};
        memcpy(array[i].shape, ps->v[i].tensor.shape, sizeof ps->v[i].tensor.shape);
    }
    int rc = ckpt_save_file(out, &(CkptContent){.stage = "import",
                                                .arrays = array,
                                                .narrays = ps->n,
                                                .meta = meta,
                                                .tokenizer = tokenizer,
                                                .compress = true});
    for (int i = 0; i < ps->n; i++) free((char *)(uintptr_t)array[i].name);
    return rc;
}
