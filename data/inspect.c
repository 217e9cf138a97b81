/* inspect.c: what is in a file of data, for people. See inspect.h. */
#include "data/inspect.h"

#include "base/error.h"
#include "base/json.h"
#include "base/text.h"
#include "data/corpus.h"
#include "data/order.h"
#include "data/record.h"
#include "data/texts.h"

#include <stdlib.h>
#include <string.h>

enum { BINS = 40, BAR = 40, SAMPLE_TOKENS = 300, NO_LIMIT = INT32_MAX };

/* --- lengths ---------------------------------------------------------------------------------- */

typedef struct Lengths {
    int64_t n, sum, min, max, bin[BINS]; /* bin b: 2^b .. 2^(b+1)-1; 0 is in bin 0 */
} Lengths;

static void add_length(Lengths *l, int64_t n) {
    int b = n > 1 ? 63 - __builtin_clzll((uint64_t)n) : 0;
    l->bin[b < BINS ? b : BINS - 1]++;
    if (l->n == 0 || n < l->min) l->min = n;
    if (n > l->max) l->max = n;
    l->sum += n;
    l->n++;
}

static const char *unit(const DatasetOptions *o) { return o->bytes ? "bytes" : "tokens"; }

static void print_lengths(FILE *out, const char *what, const Lengths *l, const char *of) {
    if (l->n == 0) return;
    fprintf(out, "%s: %lld, of %lld to %lld %s, mean %.1f\n", what, (long long)l->n,
            (long long)l->min, (long long)l->max, of, (double)l->sum / (double)l->n);
    int first = 0, last = BINS - 1;
    int64_t most = 1;
    while (first < last && l->bin[first] == 0) first++;
    while (last > first && l->bin[last] == 0) last--;
    for (int b = first; b <= last; b++)
        if (l->bin[b] > most) most = l->bin[b];
    for (int b = first; b <= last; b++) {
        int bar = (int)(l->bin[b] * BAR / most);
        fprintf(out, "  %8lld to %-8lld %9lld ", b == 0 ? 0 : 1ll << b, (2ll << b) - 1,
                (long long)l->bin[b]);
        for (int i = 0; i < bar; i++) fputc('#', out);
        fputc('\n', out);
    }
}

/* --- samples ---------------------------------------------------------------------------------- */

/* Text for a terminal: control characters cannot move the cursor. */
static void print_text(FILE *out, const char *text, size_t n) {
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if ((c < ' ' && c != '\n' && c != '\t') || c == 0x7F)
            fprintf(out, "\\x%02x", c);
        else
            fputc(c, out);
    }
}

/* Runs of equal mask are decoded together, so that characters of several tokens stay whole. */
static int print_tokens(FILE *out, const Tokenizer *tk, const int32_t *ids, const uint8_t *learn,
                        int64_t n, bool colour) {
    int64_t shown = n < SAMPLE_TOKENS ? n : SAMPLE_TOKENS;
    for (int64_t i = 0; i < shown;) {
        bool learned = learn && learn[i];
        int64_t end = i + 1;
        while (end < shown && (learn && learn[end]) == learned) end++;
        char *text;
        size_t len;
        TRY(tokenizer_decode(tk, ids + i, end - i, false, &text, &len));
        if (learned) fputs(colour ? "\033[32m" : "«", out);
        print_text(out, text, len);
        if (learned) fputs(colour ? "\033[0m" : "»", out);
        free(text);
        i = end;
    }
    fputs(shown < n ? " ...\n" : "\n", out);
    return 0;
}

static void print_rule(FILE *out, bool colour, const char *text) {
    fprintf(out, "%s--- %s%s\n", colour ? "\033[1m" : "", text, colour ? "\033[0m" : "");
}

/* --- corpora ---------------------------------------------------------------------------------- */

static int corpus_samples(FILE *out, Corpus *c, const Tokenizer *tk, int samples, bool colour) {
    for (int i = 0; i < samples && i < corpus_documents(c); i++) {
        int64_t document = order_item(1, 0, i, corpus_documents(c)), begin, end;
        TRY(corpus_document(c, document, &begin, &end));
        int64_t n = end - begin < SAMPLE_TOKENS ? end - begin : SAMPLE_TOKENS;
        int32_t ids[SAMPLE_TOKENS];
        TRY(corpus_read(c, begin, n, ids));
        char title[80];
        snprintf(title, sizeof title, "document %lld, %lld tokens", (long long)document,
                 (long long)(end - begin));
        print_rule(out, colour, title);
        TRY(print_tokens(out, tk, ids, NULL, n, colour));
    }
    return 0;
}

static int corpus_report(FILE *out, Corpus *c, const Tokenizer *tk, int samples, bool colour) {
    enum { PIECE = 1 << 16 };
    static int32_t ids[PIECE];
    int64_t n = corpus_tokens(c), vocab = tokenizer_vocab(tk);
    char *used = xcalloc((size_t)vocab, 1);
    int64_t different = 0;
    int rc = 0;
    for (int64_t at = 0; at < n && rc == 0; at += PIECE) {
        int64_t take = n - at < PIECE ? n - at : PIECE;
        rc = corpus_read(c, at, take, ids);
        for (int64_t i = 0; i < take && rc == 0; i++) {
            if (ids[i] < 0 || ids[i] >= vocab)
                rc = error_set(ERR_DATA, "token %lld is %d, but the tokenizer has %lld ids",
                               (long long)(at + i), ids[i], (long long)vocab);
            else if (!used[ids[i]])
                used[ids[i]] = 1, different++;
        }
    }
    free(used);
    TRY(rc);
    Lengths l = {0};
    for (int64_t i = 0; i < corpus_documents(c); i++) {
        int64_t begin, end;
        TRY(corpus_document(c, i, &begin, &end));
        add_length(&l, end - begin);
    }
    fprintf(out,
            "corpus, whole: %lld tokens, %lld bytes of text (%.2f a token), %lld of %lld ids "
            "used, hash %016llx\n",
            (long long)n, (long long)corpus_bytes(c), (double)corpus_bytes(c) / (double)n,
            (long long)different, (long long)vocab, (unsigned long long)corpus_hash(c));
    print_lengths(out, "documents", &l, "tokens");
    return corpus_samples(out, c, tk, samples, colour);
}

int inspect_corpus(FILE *out, const char *path, int samples, bool colour) {
    char *name = xstrdup(path);
    Corpus *c = NULL;
    Tokenizer *tk = NULL;
    int rc = corpus_open(&c, &(StrList){&name, 1}, 0);
    if (rc >= 0) {
        size_t len;
        const char *json = corpus_tokenizer(c, &len);
        rc = tokenizer_parse(&tk, json, len, path);
    }
    if (rc >= 0) rc = corpus_report(out, c, tk, samples, colour);
    tokenizer_close(&tk);
    corpus_close(&c);
    free(name);
    return rc;
}

/* --- records ---------------------------------------------------------------------------------- */

int inspect_kind(const char *path, const DatasetOptions *o, int *kind) {
    JsonRecords *records;
    json_t *j = NULL;
    TRY(json_records_open(&records, path));
    int rc;
    while ((rc = json_records_next(records, &j)) == ERR_DATA || (rc > 0 && !json_is_object(j))) {
        if (o->on_bad == ON_BAD_STOP) break;
        json_decref(j);
    }
    json_records_close(&records);
    if (rc == 0) return error_set(ERR_DATA, "%s holds no records", path);
    TRY(rc);
    const char *chosen = dataset_field(o, FIELD_CHOSEN);
    const char *completion = dataset_field(o, FIELD_COMPLETION);
    const char *messages = dataset_field(o, FIELD_MESSAGES);
    const json_t *output = json_object_get(j, "output");
    bool ranked = json_object_get(j, chosen) || json_object_get(j, "completions") ||
                  json_object_get(j, "responses") || json_is_array(output);
    bool answered = json_object_get(j, completion) || output || json_object_get(j, messages) ||
                    json_object_get(j, "conversations");
    *kind = ranked                                                     ? DATASET_RANKED
            : answered && json_is_boolean(json_object_get(j, "label")) ? DATASET_LABELLED
            : answered                                                 ? DATASET_DEMOS
            : json_object_get(j, "text")                               ? INSPECT_TEXTS
                                                                       : DATASET_PROMPTS;
    json_decref(j);
    return 0;
}

static int texts_report(FILE *out, Texts *t, const DatasetOptions *o, int samples, bool colour) {
    const Tokenizer *tk = o->tokenizer;
    Lengths l = {0};
    IdList ids = {0};
    const char *text;
    size_t len;
    int64_t bad = 0;
    int rc;
    while ((rc = texts_next(t, &text, &len)) != 0) {
        if (rc == ERR_DATA && o->on_bad == ON_BAD_SKIP) {
            rc = record_skip(error_message(), &bad, o->max_bad, "document", "data.max_bad");
            if (rc == 0) continue;
        }
        if (rc < 0) break;
        ids.n = 0;
        rc = tokenizer_encode(tk, text, len, false, &ids);
        if (rc < 0) break;
        add_length(&l, ids.n);
        if (l.n > samples) continue;
        print_rule(out, colour, "text");
        rc = print_tokens(out, tk, ids.v, NULL, ids.n, colour);
        if (rc < 0) break;
    }
    if (rc >= 0) print_lengths(out, "texts", &l, unit(o));
    if (bad > 0) fprintf(out, "%lld malformed\n", (long long)bad);
    ids_free(&ids);
    return rc;
}

static int sample_item(FILE *out, const Dataset *d, int64_t i, const DatasetOptions *o,
                       bool colour) {
    for (int64_t s = d->first[i]; s < d->first[i + 1]; s++) {
        const Sequence *q = &d->seq[s];
        char rank[32] = "", title[128];
        if (d->rank) snprintf(rank, sizeof rank, ", answer of rank %d", d->rank[s]);
        snprintf(title, sizeof title, "record at %lld%s, %lld %s", (long long)d->line[i], rank,
                 (long long)q->n, unit(o));
        print_rule(out, colour, title);
        TRY(print_tokens(out, o->tokenizer, q->tokens, q->learn, q->n, colour));
    }
    return 0;
}

static int dataset_report(FILE *out, const Dataset *d, const DatasetOptions *o, int samples,
                          bool colour) {
    static const char *const names[] = {"demonstrations", "rankings", "prompts",
                                        "labelled answers"};
    Lengths whole = {0}, prompt = {0}, answer = {0};
    int64_t learned = 0, compared = 0; /* compared: two answers of a record */
    for (int64_t i = 0; i < d->n; i++) {
        for (int64_t s = d->first[i]; s < d->first[i + 1]; s++) {
            const Sequence *q = &d->seq[s];
            compared += s - d->first[i];
            add_length(&whole, q->n);
            if (d->kind != DATASET_PROMPTS) {
                add_length(&prompt, q->prompt);
                add_length(&answer, q->n - q->prompt);
            }
            for (int64_t t = 0; q->learn && t < q->n; t++) learned += q->learn[t];
        }
    }
    const char *of = unit(o);
    fprintf(out, "%s: %lld record%s, %lld %s", names[d->kind], (long long)d->n, TEXT_S(d->n),
            (long long)d->tokens, of);
    if (learned > 0)
        fprintf(out, ", %lld of them learned (%.1f %%)", (long long)learned,
                100 * (double)learned / (double)d->tokens);
    if (d->kind == DATASET_RANKED)
        fprintf(out, ", %lld pair%s, %lld tie%s", (long long)d->pairs, TEXT_S(d->pairs),
                (long long)(compared - d->pairs), TEXT_S(compared - d->pairs));
    fprintf(out, "\ntemplate %s; %lld malformed", template_name(o->tmpl), (long long)d->bad);
    if (o->context < NO_LIMIT)
        fprintf(out, ", %lld too long for %lld %s", (long long)d->too_long, (long long)o->context,
                of);
    fprintf(out, "; hash %016llx\n", (unsigned long long)d->hash);
    print_lengths(out, "sequences", &whole, of);
    print_lengths(out, "prompts", &prompt, of);
    print_lengths(out, "answers", &answer, of);
    for (int i = 0; i < samples && i < d->n; i++)
        TRY(sample_item(out, d, order_item(1, 0, i, d->n), o, colour));
    return 0;
}

int inspect_records(FILE *out, const char *path, int kind, const DatasetOptions *o, int samples,
                    bool colour) {
    if (kind < 0 && !texts_is_json(path)) kind = INSPECT_TEXTS;
    if (kind < 0) TRY(inspect_kind(path, o, &kind));
    if (kind == INSPECT_TEXTS) {
        Texts *t;
        TextOptions to = {0};
        TRY(texts_open(&t, path, &to));
        int rc = texts_report(out, t, o, samples, colour);
        texts_close(&t);
        return rc;
    }
    Dataset d;
    char *name = xstrdup(path);
    int rc = dataset_load(&d, (DatasetKind)kind, &(StrList){&name, 1}, o);
    free(name);
    TRY(rc);
    rc = dataset_report(out, &d, o, samples, colour);
    dataset_free(&d);
    return rc;
}
