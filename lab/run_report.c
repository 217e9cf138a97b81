/* run_report.c: the report of one run's or pipeline's folder. See lab_report.h. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "lab/lab_report.h"
#include "lab/page.h"

enum { SAMPLES = 6000 }; /* bytes of samples.txt that are shown, its end */

/* --- curves ----------------------------------------------------------------------------------- */
static int read_metrics(const char *path, json_t **out) {
    JsonRecords *f;
    json_t *v;
    TRY(json_records_open(&f, path));
    *out = json_array();
    int rc;
    while ((rc = json_records_next(f, &v)) > 0) json_array_append_new(*out, v);
    json_records_close(&f);
    if (rc < 0) json_decref(*out);
    return rc;
}

static double x_of(const json_t *row, size_t i) {
    const json_t *step = json_object_get(row, "step");
    return step ? json_number_value(step) : (double)i;
}

/* The curve of one metric, where it has two points or more. */
static bool put_curve(Text *t, const json_t *rows, const char *key) {
    Chart c = {.x = xstrdup("step"), .y = xstrdup(key), .small = true, .n = 1};
    c.line = xcalloc(1, sizeof *c.line);
    c.line->name = xstrdup("");
    c.line->point = xcalloc(json_array_size(rows) + 1, sizeof *c.line->point);
    const json_t *row;
    size_t i;
    json_array_foreach(rows, i, row) {
        const json_t *v = json_object_get(row, key);
        const double nan = (double)NAN;
        if (json_is_number(v))
            c.line->point[c.line->n++] =
                (ChartPoint){.x = x_of(row, i), .y = json_number_value(v), .low = nan, .high = nan};
    }
    const bool good = c.line->n > 1;
    if (good) svg_chart(t, &c);
    svg_free(&c);
    return good;
}

static int put_curves(Text *t, const char *path) {
    json_auto_t *rows = NULL, *keys = json_object();
    TRY(read_metrics(path, &rows));
    const json_t *row;
    size_t i;
    const char *key;
    json_t *v;
    json_array_foreach(rows, i, row) json_object_foreach(
        (json_t *)(uintptr_t)row, key, v) if (strcmp(key, "step") != 0 && json_is_number(v))
        json_object_set(keys, key, json_true());
    text_put(t, "<div class=\"grid2\">");
    json_object_foreach(keys, key, v) put_curve(t, rows, key);
    text_put(t, "</div>\n");
    return 0;
}

/* --- a stage ---------------------------------------------------------------------------------- */
static int put_samples(Text *t, const char *path) {
    AUTOFREE char *text = NULL;
    size_t n;
    TRY(file_read(path, &text, &n));
    const char *from = text + (n > SAMPLES ? n - SAMPLES : 0), *line = strchr(from, '\n');
    if (from > text && line) from = line + 1;
    text_put(t, "<h3>Samples%s</h3>\n<pre>", from > text ? ", the last ones" : "");
    svg_escape(t, from);
    text_put(t, "</pre>\n");
    return 0;
}

static void put_status(Text *t, const char *dir) {
    AUTOFREE char *path = file_join(dir, "status.json");
    json_auto_t *j = NULL;
    const char *state = "", *reason = "";
    int64_t step = 0, steps = 0;
    if (!file_exists(path) || json_read_file(&j, path) < 0) return;
    if (json_get_str(j, "state", &state) < 0 || json_get_i64(j, "step", &step) < 0) return;
    json_get_i64(j, "steps", &steps);
    json_get_str(j, "reason", &reason);
    text_put(t, "<p class=\"source\">");
    svg_escape(t, state);
    text_put(t, ", step %" PRId64 " of %" PRId64 "%s", step, steps, *reason ? ": " : "");
    svg_escape(t, reason);
    text_put(t, "</p>\n");
}

static bool is_stage(const char *dir) {
    AUTOFREE char *path = file_join(dir, "metrics.jsonl");
    return file_exists(path);
}

static int put_stage(Text *t, const char *dir) {
    AUTOFREE char *metrics = file_join(dir, "metrics.jsonl"),
                  *samples = file_join(dir, "samples.txt");
    text_put(t, "<section><h2>");
    svg_escape(t, file_basename(dir));
    text_put(t, "</h2>\n");
    put_status(t, dir);
    TRY(put_curves(t, metrics));
    if (file_exists(samples)) TRY(put_samples(t, samples));
    text_put(t, "</section>\n");
    return 0;
}

/* --- tables ----------------------------------------------------------------------------------- */
/* The list of objects in a JSON file such as table.json: itself, or its first member that is one. */
static const json_t *rows_of(const json_t *j) {
    const char *key;
    json_t *v;
    if (json_is_array(j)) return j;
    json_object_foreach((json_t *)(uintptr_t)j, key,
                        v) if (json_is_array(v) && json_is_object(json_array_get(v, 0))) return v;
    return NULL;
}

static void put_table(Text *t, const char *name, const json_t *rows) {
    const char *head[24], *key;
    json_t *v, *row;
    size_t i;
    int n = 0;
    json_object_foreach(json_array_get(rows, 0), key,
                        v) if (n < 24 && !json_is_array(v) && !json_is_object(v)) head[n++] = key;
    text_put(t, "<section><h2>");
    svg_escape(t, name);
    text_put(t, "</h2>\n");
    page_table(t, head, n);
    json_array_foreach(rows, i, row) {
        const char *cell[24];
        char number[24][32];
        for (int k = 0; k < n; k++) {
            const json_t *at = json_object_get(row, head[k]);
            cell[k] = json_is_number(at)   ? svg_number(json_number_value(at), number[k])
                      : json_is_string(at) ? json_string_value(at)
                      : json_is_true(at)   ? "true"
                      : json_is_false(at)  ? "false"
                                           : "-";
        }
        page_row(t, cell, n);
    }
    page_table_end(t);
    text_put(t, "</section>\n");
}

/* --- the page --------------------------------------------------------------------------------- */
/* Where the stage of a folder's name stands in a pipeline: ppo-ptx is a ppo. */
static int order_of(const char *name) {
    int best = STAGES;
    for (int i = STAGE_NONE + 1; i < STAGES; i++) {
        const char *stage = config_stage_name(i);
        if (strncmp(name, stage, strlen(stage)) == 0) best = i;
    }
    return best;
}

static int by_stage(const void *a, const void *b) {
    const char *x = *(char *const *)a, *y = *(char *const *)b;
    return order_of(x) != order_of(y) ? order_of(x) - order_of(y) : strcmp(x, y);
}

static int put_tables(Text *t, const char *run, char **name, int n) {
    for (int i = 0; i < n; i++) {
        AUTOFREE char *inside = file_join(run, name[i]);
        const char *dot = strrchr(name[i], '.');
        json_auto_t *j = NULL;
        if (!dot || strcmp(dot, ".json") != 0 || strcmp(name[i], "tokenizer.json") == 0 ||
            file_size(inside) > 10 << 20)
            continue;
        const json_t *rows = json_read_file(&j, inside) >= 0 ? rows_of(j) : NULL;
        if (rows) put_table(t, name[i], rows);
    }
    return 0;
}

int report_run(const char *run) {
    char **name = NULL;
    int n = 0, stages = 0, rc = file_list(run, &name, &n);
    Text t = {0};
    if (rc < 0) return rc;
    AUTOFREE char *path = file_join(run, "report.html"), *whole = realpath(run, NULL);
    qsort(name, (size_t)n, sizeof *name, by_stage);
    page_begin(&t, "Rhetor · run", whole ? file_basename(whole) : run);
    rc = put_tables(&t, run, name, n);
    if (rc >= 0 && is_stage(run)) {
        rc = put_stage(&t, run);
        stages++;
    }
    for (int i = 0; i < n && rc >= 0; i++) {
        AUTOFREE char *inside = file_join(run, name[i]);
        if (!file_is_dir(inside) || !is_stage(inside) || strstr(name[i], ".old-")) continue;
        rc = put_stage(&t, inside);
        stages++;
    }
    file_free_list(&name, n);
    if (rc >= 0 && stages == 0)
        rc = error_set(
            ERR_DATA, "%s: no metrics.jsonl here or one folder below; expected the folder of a run",
            run);
    if (rc >= 0) rc = page_end(&t, path);
    if (rc >= 0) printf("the report: %s\n", path);
    free(t.s);
    return rc < 0 ? rc : 0;
}
