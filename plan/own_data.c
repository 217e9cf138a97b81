/* own_data.c: what a folder holds to train on. See own_data.h. */
#include "plan/own_data.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "data/record.h"
#include "data/texts.h"

enum { DEEPEST = 8 };

static void add(char ***list, int *n, char *text) {
    *list = xrealloc(*list, (size_t)(*n + 1) * sizeof **list);
    (*list)[(*n)++] = text;
}

/* --- a file ----------------------------------------------------------------------------------- */
static int read_texts(OwnGroup *g, const char *path) {
    const TextOptions o = {0};
    Texts *t;
    const char *text;
    size_t len;
    int rc;
    TRY(texts_open(&t, path, &o));
    while ((rc = texts_next(t, &text, &len)) > 0) {
        g->bytes += (int64_t)len;
        g->n++;
    }
    texts_close(&t);
    return rc;
}

static void count(OwnGroup *g, const Record *r) {
    int64_t prompt = 0, longest = 0;
    bool empty = false;
    for (int i = 0; i < r->nprompt; i++) prompt += (int64_t)strlen(r->prompt[i].content);
    for (int i = 0; i < r->nanswer; i++) {
        const int64_t n = (int64_t)strlen(r->answer[i]);
        g->answer_bytes += n;
        longest = n > longest ? n : longest;
        empty = empty || n == 0;
    }
    g->answers += r->nanswer;
    g->prompt_bytes += prompt;
    g->bytes += prompt + longest;
    g->empty += empty;
    if (g->n == g->cap) {
        g->cap = g->cap ? 2 * g->cap : 1024;
        g->length = xrealloc(g->length, (size_t)g->cap * sizeof *g->length);
    }
    g->length[g->n++] = prompt + longest;
}

/* Every record of the file, as one of this kind. */
static int read_records(OwnGroup *g, DatasetKind kind, const char *path) {
    const DatasetOptions o = {.context = INT32_MAX};
    JsonRecords *records;
    json_t *j;
    int rc;
    TRY(json_records_open(&records, path));
    while ((rc = json_records_next(records, &j)) != 0) {
        Record r;
        if (rc > 0 && record_parse(&r, kind, j, &o) >= 0) {
            count(g, &r);
            record_free(&r);
        } else if (rc > 0 || rc == ERR_DATA)
            g->bad++;
        else
            break;
    }
    json_records_close(&records);
    if (rc == 0 && g->n == 0)
        rc = error_set(ERR_DATA, "no record of it is known: %s", error_message());
    return rc;
}

static void join(OwnGroup *to, OwnGroup *g, const char *path) {
    if (g->n > 0 && g->length) {
        to->length = xrealloc(to->length, (size_t)(to->n + g->n) * sizeof *to->length);
        memcpy(to->length + to->n, g->length, (size_t)g->n * sizeof *to->length);
        to->cap = to->n + g->n;
    }
    to->n += g->n;
    to->bad += g->bad;
    to->empty += g->empty;
    to->bytes += g->bytes;
    to->prompt_bytes += g->prompt_bytes;
    to->answers += g->answers;
    to->answer_bytes += g->answer_bytes;
    add(&to->file, &to->nfile, xstrdup(path));
}

static bool is_text(const char *path) {
    static const char *const ends[] = {".txt", ".text", ".md", ".gz", ".zst"};
    const size_t n = strlen(path);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (n > strlen(ends[i]) && strcmp(path + n - strlen(ends[i]), ends[i]) == 0) return true;
    return false;
}

static void take_file(OwnData *d, const char *path) {
    const DatasetOptions o = {.on_bad = ON_BAD_SKIP, .max_bad = INT64_MAX, .context = INT32_MAX};
    OwnGroup g = {0};
    int kind = INSPECT_TEXTS, rc = 0;
    if (texts_is_json(path))
        rc = inspect_kind(path, &o, &kind);
    else if (!is_text(path))
        rc = error_set(ERR_DATA, "neither text (.txt, .md) nor records (.jsonl, .json)");
    if (rc >= 0 && kind == DATASET_PROMPTS) { /* an answer may have a name that is not looked for */
        rc = read_records(&g, DATASET_DEMOS, path);
        if (rc >= 0 && g.bad <= g.n)
            kind = DATASET_DEMOS;
        else {
            free(g.length);
            g = (OwnGroup){0};
            rc = read_records(&g, DATASET_PROMPTS, path);
        }
    } else if (rc >= 0)
        rc = kind == INSPECT_TEXTS ? read_texts(&g, path)
                                   : read_records(&g, (DatasetKind)kind, path);
    if (rc >= 0)
        join(&d->group[kind], &g, path);
    else {
        const char *said = error_message(),
                   *colon = strncmp(said, path, strlen(path)) == 0 ? "" : ": ";
        add(&d->left, &d->nleft, xasprintf("%s%s%s", *colon ? path : "", colon, said));
    }
    free(g.length);
}

/* --- folders ---------------------------------------------------------------------------------- */
static int walk(OwnData *d, const char *folder, int depth) {
    char **names, *marks = file_join(folder, ".pipeline");
    int n, rc = 0;
    const bool run = file_exists(marks); /* of a pipeline: made from data, not data */
    free(marks);
    if (run || depth > DEEPEST) return 0;
    TRY(file_list(folder, &names, &n));
    for (int i = 0; i < n && rc >= 0; i++) {
        if (names[i][0] == '.') continue;
        char *path = file_join(folder, names[i]);
        if (file_is_dir(path))
            rc = walk(d, path, depth + 1);
        else
            take_file(d, path);
        free(path);
    }
    file_free_list(&names, n);
    return rc;
}

int own_data_read(OwnData *out, const char *folder) {
    *out = (OwnData){0};
    if (!file_is_dir(folder))
        return error_set(ERR_CONFIG,
                         "%s: no such folder; --data DIR names the one with your texts "
                         "and records",
                         folder);
    char *absolute = realpath(folder, NULL);
    int rc = walk(out, absolute ? absolute : folder, 0);
    free(absolute);
    if (rc >= 0 && out->group[INSPECT_TEXTS].bytes == 0)
        rc = error_set(ERR_DATA,
                       "%s: no text to pretrain on; expected .txt files or records with \"text\" "
                       "(.jsonl), also .gz and .zst",
                       folder);
    return rc;
}

void own_data_free(OwnData *d) {
    for (int k = 0; k < OWN_KINDS; k++) {
        file_free_list(&d->group[k].file, d->group[k].nfile);
        free(d->group[k].length);
    }
    file_free_list(&d->left, d->nleft);
    *d = (OwnData){0};
}

static int by_size(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

int64_t own_data_quantile(OwnGroup *g, double share) {
    if (g->n == 0) return 0;
    qsort(g->length, (size_t)g->n, sizeof *g->length, by_size);
    return g->length[(int64_t)(share * (double)(g->n - 1))];
}
