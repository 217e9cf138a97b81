/* data_encode.c: rhetor-data encode, decode. */
#include "base/json.h"
#include "base/lines.h"
#include "base/log.h"
#include "base/text.h"
#include "base/utf8.h"
#include "data/corpus.h"
#include "data/record_writer.h"
#include "data/texts.h"
#include "tools/data/data.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* {"text"} -> {"ids"}, or the other way round, one record a line. */
typedef int Translate(const Args *a, const Tokenizer *t, const json_t *in, json_t **out);

static int text_to_ids(const Args *a, const Tokenizer *t, const json_t *in, json_t **out) {
    const char *text;
    const char *field = a->field.n ? a->field.v[0] : "text";
    TRY(json_get_str(in, field, &text));
    IdList ids = {0};
    size_t len = json_string_length(json_object_get(in, field));
    int rc = tokenizer_encode(t, text, len, a->specials, &ids);
    if (rc >= 0) {
        json_t *list = json_array();
        for (int64_t i = 0; i < ids.n; i++) json_array_append_new(list, json_integer(ids.v[i]));
        *out = json_pack("{s:o}", "ids", list);
    }
    ids_free(&ids);
    return rc;
}

static int ids_to_text(const Args *a, const Tokenizer *t, const json_t *in, json_t **out) {
    const json_t *list = json_object_get(in, "ids");
    if (!json_is_array(list)) return error_set(ERR_DATA, "no list \"ids\"");
    IdList ids = {0};
    size_t i, len;
    json_t *id;
    int rc = 0;
    json_array_foreach(list, i, id) {
        json_int_t v = json_integer_value(id);
        if (!json_is_integer(id) || v < 0 || v > INT32_MAX) {
            rc = error_set(ERR_DATA, "\"ids\", item %zu is no token", i + 1);
            break;
        }
        ids_push(&ids, (int32_t)v);
    }
    char *text;
    if (rc >= 0) rc = tokenizer_decode(t, ids.v, ids.n, false, &text, &len);
    if (rc >= 0) { /* JSON holds characters only */
        char *valid = utf8_repair(text, len, &len);
        *out = json_pack("{s:o}", "text", json_stringn(valid, len));
        free(valid);
        free(text);
    }
    ids_free(&ids);
    return rc;
}

static int translate(const Args *a, Translate *fn) {
    TRY(data_need(a->tokenizer, "--tokenizer FILE"));
    TRY(data_need_files(a, 1));
    Tokenizer *t = NULL;
    JsonRecords *records = NULL;
    RecordWriter w = {0};
    int rc = tokenizer_load(&t, a->tokenizer);
    if (rc >= 0) rc = json_records_open(&records, a->file[0]);
    if (rc >= 0) json_records_allow_nul(records);
    if (rc >= 0) rc = record_writer_open(&w, a->out);
    json_t *in, *out = NULL;
    while (rc >= 0 && (rc = json_records_next(records, &in)) > 0) {
        rc = fn(a, t, in, &out);
        if (rc < 0)
            error_wrap(rc, "%s:%lld", json_records_path(records),
                       (long long)json_records_line(records));
        else
            record_writer_put(&w, out), json_decref(out);
        json_decref(in);
    }
    rc = record_writer_close(&w, rc);
    json_records_close(&records);
    tokenizer_close(&t);
    return rc;
}

int data_decode(Args *a) { return translate(a, ids_to_text); }

/* What the files of each weight came to. */
static void log_mixture(const Args *a, const CorpusBuild *b) {
    for (int i = 0, end; i < a->nfile; i = end) {
        int64_t tokens = 0;
        for (end = i; end < a->nfile && a->file_weight[end] == a->file_weight[i]; end++)
            tokens += b->file_tokens[end];
        if (i == 0 && end == a->nfile) return; /* no mixture */
        log_info("weight %g: %s%s, %lld tokens, %.1f %%", a->file_weight[i], a->file[i],
                 end > i + 1 ? " ..." : "", (long long)tokens,
                 100 * (double)tokens / (double)b->tokens);
    }
}

/* Encodes a file block by block, each cut where a piece ends. */
static int count_file(const Tokenizer *t, const char *path, int64_t *bytes, int64_t *tokens) {
    enum { BLOCK = 16 << 20 };
    Lines *lines;
    TRY(lines_open(&lines, path));
    size_t room = BLOCK, n = 0, got = 1;
    char *block = xmalloc(room);
    IdList ids = {0};
    int rc = 0;
    while (rc >= 0 && (got > 0 || n > 0)) {
        if (n == room) block = xrealloc(block, room *= 2); /* no piece has ended */
        got = 1;
        while (rc >= 0 && got > 0 && n < room) {
            rc = lines_read(lines, block + n, room - n, &got);
            n += got;
        }
        const size_t cut = got > 0 ? tokenizer_cut(t, block, n) : n;
        if (rc < 0 || cut == 0) continue;
        ids.n = 0;
        rc = tokenizer_encode(t, block, cut, false, &ids);
        *tokens += ids.n;
        *bytes += (int64_t)cut;
        memmove(block, block + cut, n -= cut);
    }
    ids_free(&ids);
    free(block);
    lines_close(&lines);
    return rc;
}

static int run_count(const Args *a) {
    TRY(data_need(a->tokenizer, "--tokenizer FILE"));
    TRY(data_need_files(a, INT32_MAX));
    Tokenizer *t;
    TRY(tokenizer_load(&t, a->tokenizer));
    int64_t bytes = 0, tokens = 0;
    int rc = 0;
    const double started = omp_get_wtime();
    const clock_t cpu = clock(); /* of all threads */
    for (int i = 0; i < a->nfile && rc >= 0; i++)
        if ((rc = count_file(t, a->file[i], &bytes, &tokens)) < 0) error_wrap(rc, "%s", a->file[i]);
    if (rc >= 0)
        printf("{\"bytes\": %lld, \"tokens\": %lld, \"seconds\": %.6f, \"cpu_seconds\": %.6f}\n",
               (long long)bytes, (long long)tokens, omp_get_wtime() - started,
               (double)(clock() - cpu) / CLOCKS_PER_SEC);
    tokenizer_close(&t);
    return rc;
}

int data_encode(Args *a) {
    if (a->ids) return translate(a, text_to_ids);
    if (a->count) return run_count(a);
    TRY(data_need(a->tokenizer, "--tokenizer FILE"));
    TRY(data_need(a->out, "--out FILE"));
    TRY(data_need_files(a, INT32_MAX));
    if (a->field.n > 1) return error_set(ERR_USAGE, "more than one --field for a corpus");
    if (a->heldout_out && a->heldout == 0)
        return error_set(ERR_USAGE, "--heldout-out without --heldout SHARE");
    Tokenizer *t;
    TRY(tokenizer_load(&t, a->tokenizer));
    CorpusBuild b = {.tokenizer = t,
                     .field = a->field.n ? a->field.v[0] : NULL,
                     .split = a->split,
                     .path = a->out,
                     .heldout_path = a->heldout_out,
                     .heldout = a->heldout,
                     .heldout_tail = a->heldout_tail,
                     .no_eot = a->no_eot,
                     .weight = a->file_weight,
                     .dedup = a->dedup,
                     .on_bad = a->records.on_bad,
                     .max_bad = a->records.max_bad,
                     .progress = true,
                     .file_tokens = xcalloc((size_t)a->nfile, sizeof(int64_t))};
    StrList files = {(char **)a->file, a->nfile};
    int rc = corpus_build(&b, &files);
    if (rc >= 0) {
        log_mixture(a, &b);
        log_info("%s: %lld document%s, %lld tokens, %.2f bytes a token", a->out,
                 (long long)b.documents, TEXT_S(b.documents), (long long)b.tokens,
                 (double)b.bytes / (double)b.tokens);
        if (b.bad > 0)
            log_info("%lld malformed document%s left out", (long long)b.bad, TEXT_S(b.bad));
        if (a->dedup)
            log_info("%lld duplicate%s left out", (long long)b.duplicates, TEXT_S(b.duplicates));
        if (a->heldout > 0)
            log_info("%s: %lld document%s, %lld tokens", a->heldout_out,
                     (long long)b.heldout_documents, TEXT_S(b.heldout_documents),
                     (long long)b.heldout_tokens);
    }
    free(b.file_tokens);
    tokenizer_close(&t);
    return rc;
}
