/* rater.c: raters with opinions. See rater.h. */
#include "data/world/rater.h"

#include "base/error.h"
#include "base/json.h"
#include "data/world/world.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static int read_rater(Rater *r, const json_t *v, const char *where) {
    *r = (Rater){.helpful = 3, .honest = 1.5, .harmless = 1, .concise = 1};
    const struct {
        const char *key;
        double *to, least;
    } numbers[] = {{"helpful", &r->helpful, -100},   {"honest", &r->honest, -100},
                   {"harmless", &r->harmless, -100}, {"concise", &r->concise, -100},
                   {"words", &r->words, -100},       {"noise", &r->noise, 0},
                   {"grain", &r->grain, 0}};
    const char *name = json_string_value(json_object_get(v, "name")), *key;
    json_t *value;
    if (!name || !*name || strlen(name) >= sizeof r->name)
        return error_set(ERR_DATA, "%s: a rater has a \"name\" of fewer than %d bytes", where,
                         GOLD_WORD);
    strcpy(r->name, name);
    json_object_foreach((json_t *)(uintptr_t)v, key, value) {
        size_t i = 0, n = sizeof numbers / sizeof *numbers;
        if (strcmp(key, "name") == 0) continue;
        while (i < n && strcmp(key, numbers[i].key) != 0) i++;
        if (i == n)
            return error_set(ERR_DATA,
                             "%s: \"%s\" is nothing that a rater has; expected name, helpful, "
                             "honest, harmless, concise, words, noise, grain",
                             where, key);
        const double x = json_is_number(value) ? json_number_value(value) : 1e9;
        if (!(x >= numbers[i].least && x <= 100))
            return error_set(ERR_DATA, "%s: \"%s\": expected a number from %g to 100", where, key,
                             numbers[i].least);
        *numbers[i].to = x;
    }
    return 0;
}

int raters_read(Raters *r, const char *path, const char *only) {
    *r = (Raters){0};
    JsonRecords *file;
    json_t *record;
    TRY(json_records_open(&file, path));
    int rc;
    while ((rc = json_records_next(file, &record)) > 0) {
        AUTOFREE char *where = xasprintf("%s:%lld", path, (long long)json_records_line(file));
        Rater one;
        rc = read_rater(&one, record, where);
        json_decref(record);
        if (rc < 0) break;
        if (only && strcmp(only, one.name) != 0) continue;
        r->v = xrealloc(r->v, (size_t)(r->n + 1) * sizeof *r->v);
        r->v[r->n++] = one;
    }
    json_records_close(&file);
    if (rc >= 0 && r->n == 0)
        rc = only ? error_set(ERR_DATA, "%s: no rater \"%s\"", path, only)
                  : error_set(ERR_DATA, "%s: no rater", path);
    if (rc < 0) raters_free(r);
    return rc < 0 ? rc : 0;
}

void raters_free(Raters *r) {
    free(r->v);
    *r = (Raters){0};
}

const Rater *raters_of(const Raters *r, uint64_t seed, uint64_t record) {
    Dice d = dice_make(seed, "rater", record, 0);
    return &r->v[dice_int(&d, r->n)];
}

double rater_score(const Rater *r, const GoldParts *p, const char *completion) {
    int words = 0;
    for (const char *c = completion; *c; words++) {
        c += strspn(c, " \n");
        c += strcspn(c, " \n");
    }
    return r->helpful * p->helpful - 1 + r->honest * p->honest + r->harmless * p->harmless +
           r->concise * p->concise + r->words * words;
}

void rater_rank(const Rater *r, const double *score, const int *same, int k, uint64_t seed,
                uint64_t record, int *rank) {
    const GoldNoise noise = {
        .sd = r->noise, .seed = XXH64(r->name, strlen(r->name), seed), .grain = r->grain};
    gold_rank(score, same, k, noise, record, rank);
}

void raters_agree(const Raters *r, const double *score, const int *same, int k, uint64_t seed,
                  uint64_t record, Agreement *a) {
    AUTOFREE int *rank = xmalloc((size_t)(r->n * k + 1) * sizeof *rank);
    for (int i = 0; i < r->n; i++)
        rater_rank(&r->v[i], score + i * k, same, k, seed, record, rank + i * k);
    for (int i = 0; i < r->n; i++)
        for (int j = 0; j < i; j++)
            for (int x = 0; x < k; x++)
                for (int y = 0; y < x; y++) {
                    const int one = rank[i * k + x] - rank[i * k + y],
                              other = rank[j * k + x] - rank[j * k + y];
                    a->pairs += one && other;
                    a->alike += one && other && (one > 0) == (other > 0);
                }
}
