/* results.c: the numbers of all cells, as flat records. See lab.h. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "lab/lab.h"

/* As a criterion writes it: letters, digits and _ . / are kept, others become _. */
static char *field_name(const char *prefix, const char *key) {
    char *name = xasprintf("%s%s", prefix, key);
    for (char *c = name; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("_./", *c)) *c = '_';
    return name;
}

/* A text that is a number is one: names of checkpoints by their steps. */
static json_t *plain_value(json_t *v) {
    char *end;
    const char *text = json_string_value(v);
    const double number = text ? strtod(text, &end) : 0;
    return text && *text && !*end && isfinite(number) ? json_real(number) : json_incref(v);
}

/* Members that are numbers, texts, true or false; those of objects as "outer.inner". */
static void flatten(json_t *to, const char *prefix, const json_t *from) {
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)from, key, v) {
        AUTOFREE char *name = field_name(prefix, key);
        if (json_is_object(v)) {
            AUTOFREE char *longer = xasprintf("%s.", name);
            flatten(to, longer, v);
        } else if (!json_is_array(v) && !json_is_null(v))
            json_object_set_new(to, name, plain_value(v));
    }
}

/* Only what `take` names, by the names that it gives; NULL: the row lacks one of them. */
static json_t *taken(const LabMeasure *m, json_t *all) {
    if (m->take.n == 0) return json_incref(all);
    json_t *some = json_object();
    for (int i = 0; i < m->take.n; i++) {
        const char *equals = strchr(m->take.v[i], '=');
        AUTOFREE char *name = xasprintf("%.*s", (int)(equals - m->take.v[i]), m->take.v[i]);
        AUTOFREE char *from = field_name("", equals + 1);
        json_t *v = json_object_get(all, from);
        if (!v) {
            json_decref(some);
            return NULL;
        }
        json_object_set(some, name, v);
    }
    return some;
}

static void add_row(const LabFile *lab, int cell, const LabMeasure *m, const json_t *row,
                    const char *key, json_t *out) {
    json_auto_t *all = json_object();
    if (json_is_object(row))
        flatten(all, "", row);
    else
        json_object_set(all, "value", (json_t *)(uintptr_t)row);
    json_t *r = taken(m, all);
    if (!r) return;
    if (key) json_object_set_new(r, "key", json_string(key));
    json_object_set_new(r, "measure", json_string(m->name));
    for (int f = 0; f < lab->nfactor; f++) {
        const char *level = matrix_level(lab, cell, f)->name;
        char *end;
        const double number = strtod(level, &end);
        json_object_set_new(r, lab->factor[f].name,
                            *level && !*end ? json_real(number) : json_string(level));
    }
    json_array_append_new(out, r);
}

/* The rows of a JSON value: those of a list, the members of an object (named by "key"), itself. */
static int add_rows(const LabFile *lab, int cell, const LabMeasure *m, const json_t *v,
                    const char *path, json_t *out) {
    const json_t *rows = m->rows ? json_object_get(v, m->rows) : v, *one;
    size_t i;
    const char *key;
    if (!rows)
        return error_set(ERR_DATA, "%s: measure %s: %s has no \"%s\"", lab->path, m->name, path,
                         m->rows);
    if (json_is_array(rows)) {
        json_array_foreach(rows, i, one) add_row(lab, cell, m, one, NULL, out);
    } else if (m->rows && json_is_object(rows)) {
        json_t *member;
        json_object_foreach((json_t *)(uintptr_t)rows, key, member)
            add_row(lab, cell, m, member, key, out);
    } else
        add_row(lab, cell, m, rows, NULL, out);
    return 0;
}

static int read_measure(const LabFile *lab, int cell, const LabMeasure *m, const char *path,
                        json_t *out) {
    const char *dot = strrchr(path, '.');
    if (!dot || strcmp(dot, ".jsonl") != 0) {
        json_auto_t *v = NULL;
        TRY(json_read_file(&v, path));
        return add_rows(lab, cell, m, v, path, out);
    }
    JsonRecords *f;
    json_t *v;
    TRY(json_records_open(&f, path));
    int rc;
    while ((rc = json_records_next(f, &v)) > 0) {
        add_row(lab, cell, m, v, NULL, out);
        json_decref(v);
    }
    json_records_close(&f);
    return rc;
}

int results_collect(LabGraph *g, int lab, json_t **out, int *missing) {
    *out = json_array();
    *missing = 0;
    int rc = 0;
    steps_look(g);
    for (int i = 0; i < g->ncell && rc >= 0; i++) {
        const LabCell *c = &g->cell[i];
        if (c->lab != lab) continue;
        for (int m = 0; m < g->lab[lab].nmeasure && rc >= 0; m++) {
            AUTOFREE char *path = steps_measured(g, c, m);
            if (g->step[c->measured[m]].state != LAB_DONE)
                ++*missing;
            else
                rc = read_measure(&g->lab[lab], c->index, &g->lab[lab].measure[m], path, *out);
        }
    }
    if (rc < 0) json_decref(*out);
    return rc;
}

/* OUT/NAME/cells/CELL/ has links to all that the cell's steps make, so that it looks like a run's
 * folder. */
static int link_cells(const LabGraph *g, int lab) {
    for (int i = 0; i < g->ncell; i++) {
        const LabCell *c = &g->cell[i];
        if (c->lab != lab) continue;
        AUTOFREE char *name = matrix_name(&g->lab[lab], c->index),
                      *folder = xasprintf("%s/%s/cells/%s", g->out, g->lab[lab].name, name);
        TRY(file_make_dirs(folder));
        for (int k = 0; k < c->nproduct; k++) {
            AUTOFREE char *path = file_join(folder, c->product[k].name),
                          *to = xasprintf("../../../steps/%s/%s",
                                          file_basename(g->step[c->product[k].step].folder),
                                          c->product[k].name);
            TRY(file_remove(path)); /* of an earlier matrix */
            if (symlink(to, path) != 0) return file_error(path, "symlink");
        }
    }
    return 0;
}

/* A line a record, its members in alphabetical order; the lines in the order of cells, measures and
 * rows. */
int results_write(const LabGraph *g, int lab, const json_t *records) {
    AUTOFREE char *folder = file_join(g->out, g->lab[lab].name),
                  *path = file_join(folder, "results.jsonl");
    Text t = {0};
    const json_t *r;
    size_t i;
    TRY(file_make_dirs(folder));
    TRY(link_cells(g, lab));
    json_array_foreach(records, i, r) {
        char *line = json_dumps(r, JSON_SORT_KEYS | JSON_COMPACT | JSON_REAL_PRECISION(15));
        text_put(&t, "%s\n", line);
        free(line);
    }
    AUTOFREE char *text = text_take(&t);
    return file_write_durable(path, text, strlen(text));
}
