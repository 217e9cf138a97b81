/* prompts.c: samples of a model for a file of prompts. See prompts.h. */
#include "eval/prompts.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/text.h"
#include "data/record.h"

int prompts_raw(IdList *ids, const Loaded *m, const json_t *record, const char *field) {
    const json_t *prompt = json_object_get(record, field ? field : "prompt"), *message;
    Text all = {0};
    size_t i;
    if (json_is_string(prompt)) text_put(&all, "%s", json_string_value(prompt));
    json_array_foreach(prompt, i, message) {
        const char *content = json_string_value(json_object_get(message, "content"));
        text_put(&all, "%s%s", i ? " " : "", content ? content : "");
    }
    AUTOFREE char *text = text_take(&all);
    return tokenizer_encode(m->tokenizer, text, strlen(text), false, ids);
}

static int encode_prompt(IdList *ids, const Loaded *m, json_t *record, bool raw,
                         const char *field) {
    const char *name = field ? field : "prompt";
    const json_t *text = json_object_get(record, name);
    if (raw && (json_is_string(text) || json_is_array(text)))
        return prompts_raw(ids, m, record, field);
    DatasetOptions o = {.tokenizer = m->tokenizer,
                        .tmpl = m->tmpl,
                        .context = m->gpt->cfg.context,
                        .field = {[FIELD_PROMPT] = name}};
    Record r;
    TRY(record_parse(&r, DATASET_PROMPTS, json_incref(record), &o));
    int rc = template_prompt(m->tmpl, m->tokenizer, r.prompt, r.nprompt, ids);
    record_free(&r);
    return rc;
}

int prompts_load(PromptFile *p, const char *path, const Loaded *m, bool raw, int64_t max_prompt,
                 int64_t max, const char *field) {
    *p = (PromptFile){0};
    JsonRecords *file;
    TRY(json_records_open(&file, path));
    int64_t cap = 0;
    json_t *record;
    int rc = 0;
    while ((max == 0 || p->n < max) && (rc = json_records_next(file, &record)) > 0) {
        if (p->n == cap) {
            cap = 2 * cap + 64;
            p->record = xrealloc(p->record, (size_t)cap * sizeof *p->record);
            p->ids = xrealloc(p->ids, (size_t)cap * sizeof *p->ids);
        }
        IdList ids = {0};
        rc = encode_prompt(&ids, m, record, raw, field);
        if (rc < 0) {
            error_wrap(rc, "%s:%" PRId64, json_records_path(file), json_records_line(file));
            json_decref(record);
            ids_free(&ids);
            break;
        }
        if (ids.n > max_prompt || ids.n == 0) {
            p->skipped++;
            json_decref(record);
            ids_free(&ids);
            continue;
        }
        p->record[p->n] = record;
        p->ids[p->n++] = ids;
    }
    json_records_close(&file);
    if (rc >= 0 && p->n == 0)
        rc =
            error_set(ERR_DATA, "%s: no usable prompt (%" PRId64 " longer than %" PRId64 " tokens)",
                      path, p->skipped, max_prompt);
    if (rc < 0) prompts_free(p);
    return rc < 0 ? rc : 0;
}

void prompts_free(PromptFile *p) {
    for (int64_t i = 0; i < p->n; i++) {
        json_decref(p->record[i]);
        ids_free(&p->ids[i]);
    }
    free(p->record);
    free(p->ids);
    *p = (PromptFile){0};
}

int prompts_sample(DecodeResult *r, const Loaded *m, const PromptFile *p, int64_t K,
                   const DecodeOptions *o) {
    const int64_t n = p->n * K;
    AUTOFREE int64_t *start = xcalloc((size_t)n + 1, sizeof *start);
    for (int64_t i = 0; i < n; i++) start[i + 1] = start[i] + p->ids[i / K].n;
    AUTOFREE int32_t *tokens = xmalloc((size_t)(start[n] + 1) * sizeof *tokens);
    for (int64_t i = 0; i < n; i++)
        memcpy(tokens + start[i], p->ids[i / K].v, (size_t)p->ids[i / K].n * sizeof *tokens);
    DecodeOptions with = *o;
    with.stop = m->stop;
    with.nstop = m->nstop;
    int rc = decode(r, m->gpt, tokens, start, n, NULL, &with);
    if (rc >= 0) rc = decode_finite(r);
    for (int64_t i = 0; i < r->n && rc >= 0; i++)
        r->v[i].stopped = r->v[i].stopped && load_finished(m, r->v[i].tokens[r->v[i].n - 1]);
    return rc;
}
