/* hf_config.c: a model's configuration as Hugging Face keeps it: config.json and
 * generation_config.json. Names, aliases, ranges and defaults are those of ARCH_FIELDS. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "checkpoints/exchange/hf_impl.h"

const json_t *hf_config_get(const HfConfig *c, const char *key) {
    const json_t *v = json_object_get(c->json, key);
    return json_is_null(v) ? NULL : v;
}

/* "config.json: "n_layer" is 1.5, expected 1 to 4096" */
static int bad(const HfConfig *c, const char *key, const json_t *v, const char *expected) {
    AUTOFREE char *found = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
    return error_set(ERR_DATA, "%s: \"%s\" is %.60s, expected %s", c->path, key, found, expected);
}

/* Variants of the architecture that we do not have. */
static int check_variants(const HfConfig *c) {
    static const struct {
        const char *key, *may[2], *expected;
    } fixed[] = {
        {"model_type", {"\"gpt2\""}, "\"gpt2\""},
        {"architectures",
         {"[\"GPT2LMHeadModel\"]", "[\"GPT2Model\"]"},
         "a language model, GPT2LMHeadModel"},
        {"scale_attn_weights", {"true"}, "true"},
        {"scale_attn_by_inverse_layer_idx", {"false"}, "false"},
        {"add_cross_attention", {"false"}, "false"},
    };
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++) {
        const json_t *v = hf_config_get(c, fixed[i].key);
        AUTOFREE char *found = v ? json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
        bool right = !found;
        for (int k = 0; k < 2 && fixed[i].may[k] && !right; k++)
            right = strcmp(found, fixed[i].may[k]) == 0;
        if (!right) return bad(c, fixed[i].key, v, fixed[i].expected);
    }
    return 0;
}

/* --- the fields of the table ------------------------------------------------------------------ */

/* The value of a field and the name that it goes by; aliases must agree. *v NULL: not given. */
static int find_field(const HfConfig *c, const ArchField *f, const json_t **v, const char **name) {
    *v = NULL;
    for (int i = 0; i < ARCH_NAMES && f->hf[i]; i++) {
        const json_t *w = hf_config_get(c, f->hf[i]);
        if (*v && w && !json_equal(*v, w)) {
            char *expected =
                xasprintf("what \"%s\" is, which means the same; remove the wrong one", *name);
            int rc = bad(c, f->hf[i], w, expected);
            free(expected);
            return rc;
        }
        if (w) *v = w, *name = f->hf[i];
    }
    return 0;
}

/* How values that are words here, or the other way round, stand in config.json; the first of a value
 * is written. */
static const struct Word {
    const char *field, *word;
    int value;
} hf_words[] = {
    {"mlp", "gelu_new", MLP_GELU_TANH},
    {"mlp", "gelu", MLP_GELU_ERF},
    {"mlp", "gelu_python", MLP_GELU_ERF},
    {"mlp", "gelu_fast", MLP_GELU_TANH},
    {"mlp", "gelu_pytorch_tanh", MLP_GELU_TANH},
    {"mlp", "relu", MLP_RELU},
    {"bias", "true", BIAS_ALL},
    {"bias", "false", BIAS_NONE},
    {"untied", "true", false},
    {"untied", "false", true},
};
#define HF_WORDS (hf_words + sizeof hf_words / sizeof *hf_words)

static int read_word(HfConfig *c, const ArchField *f, const char *name, const json_t *v) {
    const char *text =
        json_is_boolean(v) ? (json_is_true(v) ? "true" : "false") : json_string_value(v);
    Text known = {0};
    for (const struct Word *w = hf_words; w < HF_WORDS; w++) {
        if (strcmp(w->field, f->name) != 0) continue;
        if (text && strcmp(text, w->word) == 0) {
            arch_set(&c->cfg, f, w->value);
            free(text_take(&known));
            return 0;
        }
        text_put(&known, "%s%s", known.n ? " or " : "", w->word);
    }
    AUTOFREE char *expected = text_take(&known);
    return bad(c, name, v, expected);
}

static int read_field(HfConfig *c, const ArchField *f) {
    const json_t *v;
    const char *name;
    TRY(find_field(c, f, &v, &name));
    if (!v) {
        arch_set(&c->cfg, f, f->fallback);
        return 0;
    }
    if (f->type == ARCH_FLAG || f->type == ARCH_WORD) return read_word(c, f, name, v);
    const double x = json_number_value(v);
    const bool right = f->type == ARCH_COUNT
                           ? json_is_integer(v) && x >= f->lowest && x <= f->highest
                           : json_is_number(v) && x > f->lowest && x < f->highest;
    if (right) {
        arch_set(&c->cfg, f, x);
        return 0;
    }
    AUTOFREE char *expected = f->type == ARCH_COUNT
                                  ? xasprintf("%.10g to %.10g", f->lowest, f->highest)
                                  : xasprintf("a number between %g and %g", f->lowest, f->highest);
    return bad(c, name, v, expected);
}

int hf_config_read(HfConfig *c, const char *dir) {
    *c = (HfConfig){.dir = dir, .path = file_join(dir, "config.json")};
    TRY(json_read_file(&c->json, c->path));
    if (!json_is_object(c->json)) return error_set(ERR_DATA, "%s: not a JSON object", c->path);
    TRY(check_variants(c));
    for (int i = 0; i < arch_nfields; i++) TRY(read_field(c, &arch_fields[i]));
    const json_t *inner = hf_config_get(c, "n_inner");
    const int64_t width = c->cfg.width;
    if (width % c->cfg.heads)
        return error_set(ERR_DATA,
                         "%s: \"n_embd\" %" PRId64 " is no multiple of \"n_head\" %" PRId64,
                         c->path, width, c->cfg.heads);
    if (!inner || (json_is_integer(inner) && json_integer_value(inner) == 4 * width)) return 0;
    AUTOFREE char *expected = xasprintf("4 n_embd: %" PRId64, 4 * width);
    return bad(c, "n_inner", inner, expected);
}

void hf_config_free(HfConfig *c) {
    json_decref(c->json);
    free(c->path);
}

json_t *hf_config_json(const GptConfig *c) {
    json_t *j = json_object();
    for (int i = 0; i < arch_nfields; i++) {
        const ArchField *f = &arch_fields[i];
        const double v = arch_get(c, f);
        if (!*f->hf[0]) continue;
        json_t *value = f->type == ARCH_COUNT ? json_integer((json_int_t)v) : json_real(v);
        if (f->type == ARCH_FLAG || f->type == ARCH_WORD) {
            const struct Word *w = hf_words;
            while (strcmp(w->field, f->name) != 0 || w->value != (int)v) w++;
            json_decref(value);
            value = strcmp(w->word, "true") == 0    ? json_true()
                    : strcmp(w->word, "false") == 0 ? json_false()
                                                    : json_string(w->word);
        }
        json_object_set_new(j, f->hf[0], value);
    }
    return j;
}

/* --- the tokens that end a text --------------------------------------------------------------- */

static void add_stop(IdList *out, int32_t id) {
    for (int64_t i = 0; i < out->n; i++)
        if (out->v[i] == id) return;
    ids_push(out, id);
}

/* eos_token_id: an id or a list of them. */
static int read_ids(const HfConfig *c, const char *path, const json_t *v, IdList *out) {
    const bool list = json_is_array(v);
    for (size_t i = 0; i < (list ? json_array_size(v) : 1); i++) {
        const json_t *id = list ? json_array_get(v, i) : v;
        if (!json_is_integer(id))
            return error_set(ERR_DATA, "%s: \"eos_token_id\" is neither an id nor a list of ids",
                             path);
        if (json_integer_value(id) >= 0 && json_integer_value(id) < c->cfg.vocab)
            add_stop(out, (int32_t)json_integer_value(id));
        else
            log_warn("%s: \"eos_token_id\" %" PRId64 " is none of the model's %" PRId64
                     " rows; it is left out",
                     path, (int64_t)json_integer_value(id), c->cfg.vocab);
    }
    return 0;
}

int hf_config_stops(const HfConfig *c, const Tokenizer *t, IdList *out) {
    AUTOFREE char *path = file_join(c->dir, "generation_config.json");
    json_auto_t *generation = NULL;
    int64_t nown = 0;
    const int32_t *own = t ? tokenizer_stops(t, &nown) : NULL;
    int rc = file_exists(path) ? json_read_file(&generation, path) : 0;
    const json_t *v = json_object_get(generation, "eos_token_id");
    IdList ids = {0};
    if (rc == 0 && v && !json_is_null(v)) rc = read_ids(c, path, v, &ids);
    v = hf_config_get(c, "eos_token_id");
    if (rc == 0 && ids.n == 0 && v) rc = read_ids(c, c->path, v, &ids);
    for (int64_t k = 0; k < nown; k++)
        for (int64_t i = 0; i < ids.n || (ids.n == 0 && i == 0); i++)
            if (ids.n == 0 || ids.v[i] == own[k]) add_stop(out, own[k]);
    for (int64_t i = 0; i < ids.n; i++) add_stop(out, ids.v[i]);
    ids_free(&ids);
    return rc;
}
