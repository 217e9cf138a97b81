/* merge.c: see merge.h. Loading merges; this saves what was loaded. */
#include "checkpoints/exchange/merge.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "checkpoints/exchange/load.h"

int merge_save(const Loaded *l, const ParamSet *ps, const char *stage, const json_t *lora,
               const char *out) {
    json_auto_t *meta = json_pack(
        "{s:o, s:o, s:s, s:{s:s}, s:s, s:i, s:i}", "model", arch_to_json(&l->cfg), "template",
        template_to_json(l->tmpl), "use", "params", "parents", lora ? "model" : "adapters", l->id,
        "program", "rhetor " RHETOR_VERSION, "ranks", 1, "threads", omp_get_max_threads());
    const char *jinja = l->tokenizer ? tokenizer_chat_template(l->tokenizer) : NULL;
    if (jinja) json_object_set_new(meta, "chat_template", json_string(jinja));
    for (int i = 0; i < l->nstop; i++) {
        if (i == 0) json_object_set_new(meta, "eos", json_array());
        json_array_append_new(json_object_get(meta, "eos"), json_integer(l->stop[i]));
    }
    if (l->nend == 1) json_object_set_new(meta, "stop", json_integer(l->stop[0]));
    AUTOFREE char *text = l->tokenizer ? tokenizer_json(l->tokenizer) : NULL;
    if (lora) json_object_set(meta, "lora", (json_t *)(uintptr_t)lora);
    AUTOFREE CkptArray *array = xcalloc((size_t)ps->n, sizeof *array);
    for (int i = 0; i < ps->n; i++) {
        const Tensor *t = &ps->v[i].tensor;
        array[i] = (CkptArray){.name = xasprintf("params/%s", ps->v[i].name),
                               .type = H5_F32,
                               .ndim = t->ndim,
                               .data = t->data};
        memcpy(array[i].shape, t->shape, sizeof t->shape);
    }
    const int rc = ckpt_save_file(out, &(CkptContent){.stage = stage,
                                                      .arrays = array,
                                                      .narrays = ps->n,
                                                      .meta = meta,
                                                      .tokenizer = text,
                                                      .compress = true});
    for (int i = 0; i < ps->n; i++) free((char *)(uintptr_t)array[i].name);
    return rc;
}

int merge_adapters(const char *path, const char *out) {
    Loaded l;
    TRY(load_open(&l, path, "the model", LOAD_EITHER, NULL));
    int rc = l.lora.rank > 0
                 ? 0
                 : error_set(ERR_USAGE, "merge: %s holds no adapters: it is whole", l.path);
    if (rc == 0) rc = load_weights(&l, false);
    if (rc == 0) rc = merge_save(&l, &l.gpt->params, "merge", NULL, out);
    load_free(&l);
    return rc;
}
