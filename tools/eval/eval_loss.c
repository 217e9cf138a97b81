/* eval_loss.c: rhetor-eval loss, logprobs. */
#include "core/batch.h"
#include "data/texts.h"
#include "tools/eval/eval.h"
#include "train/evaluate.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The documents of a text or JSON file as `rhetor-data encode` makes them: end-of-text ends each
 * and begins none. */
static int text_loss(const Loaded *m, const char *path, int64_t windows, EvalLoss *e) {
    const TextOptions o = {0};
    const int32_t eos = tokenizer_eos(m->tokenizer);
    Texts *texts;
    TRY(texts_open(&texts, path, &o));
    IdList ids = {0};
    int64_t *start = xcalloc(1, sizeof *start), n = 0, bytes = 0;
    const char *text;
    size_t len;
    int rc;
    while ((rc = texts_next(texts, &text, &len)) > 0) {
        rc = tokenizer_encode(m->tokenizer, text, len, false, &ids);
        if (rc < 0) {
            texts_wrap(texts, rc, texts_line(texts));
            break;
        }
        if (eos >= 0) ids_push(&ids, eos);
        start = xrealloc(start, (size_t)(++n + 1) * sizeof *start);
        start[n] = ids.n;
        bytes += (int64_t)len;
    }
    texts_close(&texts);
    if (rc >= 0) {
        rc = evaluate_documents(m->gpt, ids.v, start, n, bytes, windows, MICRO_TOKENS, e);
        if (rc < 0) error_wrap(rc, "%s", path);
    }
    free(start);
    ids_free(&ids);
    return rc;
}

static int corpus_loss(const Loaded *m, const char *path, int64_t windows, Comm *comm,
                       EvalLoss *e) {
    StrList files = {(char *[]){(char *)(uintptr_t)path}, 1};
    Corpus *c;
    int rc = corpus_open(&c, &files, tokenizer_hash(m->tokenizer));
    if (rc == 0) rc = evaluate_corpus(m->gpt, c, windows, MICRO_TOKENS, comm, e);
    corpus_close(&c);
    return rc;
}

int eval_loss(const Args *a) {
    Loaded m;
    Comm *comm;
    TRY(comm_open_alone(&comm));
    TRY(load_model(&m, a->model, "--model", LOAD_LANGUAGE));
    int rc = 0;
    for (int i = 0; i < a->file.n && rc == 0; i++) {
        const char *dot = strrchr(a->file.v[i], '.');
        EvalLoss e = {0};
        rc = dot && strcmp(dot, ".h5") == 0
                 ? corpus_loss(&m, a->file.v[i], a->o.max_prompts, comm, &e)
                 : text_loss(&m, a->file.v[i], a->o.max_prompts, &e);
        if (rc == 0)
            eval_print(json_pack("{s:s, s:I, s:o, s:o, s:o}", "file", a->file.v[i], "tokens",
                                 (json_int_t)e.tokens, "nats_per_token", eval_decimals(e.nll, 6),
                                 "perplexity", eval_decimals(exp(e.nll), 4), "bits_per_byte",
                                 eval_decimals(e.bits_per_byte, 6)));
    }
    load_free(&m);
    comm_close(&comm);
    return rc;
}

static int record_ids(const Loaded *m, const json_t *rec, IdList *ids) {
    const json_t *text = json_object_get(rec, "text"), *tokens = json_object_get(rec, "tokens"), *v;
    size_t i;
    ids->n = 0;
    if (json_is_string(text) && !m->tokenizer)
        return error_set(ERR_DATA,
                         "\"text\": %s was imported without a tokenizer; give "
                         "{\"tokens\": [...]}",
                         m->path);
    if (json_is_string(text))
        TRY(tokenizer_encode(m->tokenizer, json_string_value(text), json_string_length(text), false,
                             ids));
    else if (json_is_array(tokens)) {
        json_array_foreach(tokens, i, v) {
            if (!json_is_integer(v) || json_integer_value(v) < 0 ||
                json_integer_value(v) >= m->gpt->cfg.vocab)
                return error_set(ERR_DATA, "\"tokens\"[%zu]: expected an id in 0..%" PRId64, i,
                                 m->gpt->cfg.vocab - 1);
            ids_push(ids, (int32_t)json_integer_value(v));
        }
    } else
        return error_set(ERR_DATA, "expected {\"text\": \"...\"} or {\"tokens\": [...]}");
    if (ids->n > m->gpt->cfg.context)
        return error_set(ERR_DATA, "%" PRId64 " tokens are more than the context of %" PRId64,
                         ids->n, m->gpt->cfg.context);
    return 0;
}

int eval_logprobs(const Args *a) {
    Loaded m;
    JsonRecords *file;
    json_t *rec;
    IdList ids = {0};
    Arena arena = {0};
    Tape *tape = tape_open(&arena, false);
    Batch pack = {0};
    int rc = 0;
    TRY(load_model(&m, a->model, "--model", LOAD_EITHER)); /* without a tokenizer as well */
    if (m.cfg.scalar_head) rc = error_set(ERR_CONFIG, "--model: %s is a reward model", m.path);
    TRY(rc);
    TRY(json_records_open(&file, a->file.n ? a->file.v[0] : "-"));
    AUTOFREE real *logp = xmalloc((size_t)m.gpt->cfg.context * sizeof *logp);
    while ((rc = json_records_next(file, &rec)) > 0) {
        rc = record_ids(&m, rec, &ids);
        json_decref(rec);
        if (rc < 0) {
            error_wrap(rc, "%s:%" PRId64, json_records_path(file), json_records_line(file));
            break;
        }
        if (ids.n > 0) {
            batch_clear(&pack);
            batch_add(&pack, ids.v, ids.n, NULL, 1.0f, 0);
            Batch b = pack;
            gpt_score(m.gpt, tape, &b, NULL, 1.0, logp, NULL);
        }
        printf("{\"tokens\":[");
        for (int64_t i = 0; i < ids.n; i++) printf("%s%d", i ? "," : "", ids.v[i]);
        printf("],\"logprobs\":[");
        for (int64_t i = 0; i + 1 < ids.n; i++) printf("%s%.9g", i ? "," : "", (double)logp[i]);
        printf("]}\n");
    }
    json_records_close(&file);
    ids_free(&ids);
    batch_free(&pack);
    tape_close(&tape);
    arena_free(&arena);
    load_free(&m);
    return rc < 0 ? rc : 0;
}
