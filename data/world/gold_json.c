/* gold_json.c: the "gold" member of a record:
 * {"family":"qa","held":"","act":"answer","reads":true,"polarity":0,"ask":["ana","lives",""],"need":[["ana","lives",
 * "rome"]],"facts":[...],"ideal":"Ana lives in Rome."} */
#include "base/error.h"
#include "base/json.h"
#include "data/world/gold.h"

#include <stdio.h>
#include <string.h>

static json_t *claim_json(const Claim *c) {
    return json_pack("[s,s,s]", c->subject, c->relation, c->object);
}

static json_t *claims_json(const Claim *c, int n) {
    json_t *list = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(list, claim_json(&c[i]));
    return list;
}

json_t *gold_json(const Gold *g) {
    return json_pack("{s:s,s:s,s:s,s:b,s:i,s:o,s:o,s:o,s:s}", "family", g->family, "held", g->held,
                     "act", gold_act_names[g->act], "reads", g->reads, "polarity", g->polarity,
                     "ask", claim_json(&g->ask), "need", claims_json(g->need, g->nneed), "facts",
                     claims_json(g->facts, g->nfacts), "ideal", g->ideal);
}

static int read_claim(Claim *c, const json_t *v, const char *where, const char *key) {
    char *const to[] = {c->subject, c->relation, c->object};
    for (size_t i = 0; i < 3; i++) {
        const char *word = json_string_value(json_array_get(v, i));
        if (!word || json_array_size(v) != 3 || strlen(word) >= GOLD_WORD)
            return error_set(ERR_DATA,
                             "%s: \"gold\": a claim of \"%s\" is not a list of three strings "
                             "shorter than %d bytes",
                             where, key, GOLD_WORD);
        strcpy(to[i], word);
    }
    return 0;
}

static int read_claims(Claim *c, int *n, int max, const json_t *gold, const char *where,
                       const char *key) {
    const json_t *list = json_object_get(gold, key);
    if (!json_is_array(list) || json_array_size(list) > (size_t)max)
        return error_set(ERR_DATA, "%s: \"gold\": expected \"%s\", a list of at most %d claims",
                         where, key, max);
    *n = (int)json_array_size(list);
    for (int i = 0; i < *n; i++)
        TRY(read_claim(&c[i], json_array_get(list, (size_t)i), where, key));
    return 0;
}

static int read_text(char *to, size_t size, const json_t *gold, const char *where,
                     const char *key) {
    const char *text = json_string_value(json_object_get(gold, key));
    if (!text || strlen(text) >= size)
        return error_set(ERR_DATA, "%s: \"gold\": expected \"%s\", a string shorter than %zu bytes",
                         where, key, size);
    strcpy(to, text);
    return 0;
}

int gold_read(Gold *g, const json_t *value, const char *where) {
    memset(g, 0, sizeof *g);
    if (!json_is_object(value))
        return error_set(ERR_DATA,
                         "%s: no \"gold\" object; only records made by rhetor-data synth have a "
                         "gold reward",
                         where);
    char act[GOLD_WORD];
    if (json_object_get(value, "held"))
        TRY(read_text(g->held, sizeof g->held, value, where, "held"));
    g->reads = json_is_true(json_object_get(value, "reads"));
    TRY(read_text(g->family, sizeof g->family, value, where, "family"));
    TRY(read_text(g->ideal, sizeof g->ideal, value, where, "ideal"));
    TRY(read_text(act, sizeof act, value, where, "act"));
    for (g->act = 0; g->act < ACT_COUNT && strcmp(act, gold_act_names[g->act]);) g->act++;
    if (g->act == ACT_COUNT)
        return error_set(ERR_DATA,
                         "%s: \"gold\": \"act\" is \"%s\", expected answer, rewrite, unknown or "
                         "refuse",
                         where, act);
    json_int_t polarity = json_integer_value(json_object_get(value, "polarity"));
    g->polarity = (polarity > 0) - (polarity < 0);
    TRY(read_claim(&g->ask, json_object_get(value, "ask"), where, "ask"));
    TRY(read_claims(g->need, &g->nneed, GOLD_NEED, value, where, "need"));
    TRY(read_claims(g->facts, &g->nfacts, GOLD_FACTS, value, where, "facts"));
    if (g->act == ACT_ANSWER && !g->nneed)
        return error_set(ERR_DATA, "%s: \"gold\": \"need\" is empty in an answer", where);
    return 0;
}
