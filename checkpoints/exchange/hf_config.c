/* hf_config.c: a model's configuration as Hugging Face keeps it: config.json and
 * generation_config.json. A field or family that is new is a line or two of the tables below; its
 * range is that of ARCH_FIELDS. */
#include <inttypes.h>
#include <math.h>
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

enum {
    GPT2 = 1 << FAMILY_GPT2,
    LLAMA = 1 << FAMILY_LLAMA,
    QWEN2 = 1 << FAMILY_QWEN2,
    QWEN3 = 1 << FAMILY_QWEN3,
    NEOX = 1 << FAMILY_GPT_NEOX,
    OPT = 1 << FAMILY_OPT,
    QWEN = QWEN2 | QWEN3,
    LLAMAS = LLAMA | QWEN,
    OTHERS = LLAMAS | NEOX | OPT,
    ALL = GPT2 | OTHERS,
};

/* --- what we do not have ---------------------------------------------------------------------- */

/* Fields that must have this value where they are given; "" : must not be given. */
static const struct {
    int families;
    const char *key, *must;
} fixed[] = {
    {GPT2, "scale_attn_weights", "true"},   {GPT2, "scale_attn_by_inverse_layer_idx", "false"},
    {GPT2, "add_cross_attention", "false"}, {LLAMAS, "attention_bias", "false"},
    {LLAMA, "mlp_bias", "false"},           {NEOX, "attention_bias", "true"},
    {OPT, "do_layer_norm_before", "true"},  {OPT, "_remove_final_layer_norm", "false"},
    {OPT, "enable_bias", "true"},           {OPT, "layer_norm_elementwise_affine", "true"},
    {ALL, "is_encoder_decoder", "false"},   {ALL, "quantization_config", ""},
    {ALL, "compression_config", ""},
};

static int check_architecture(HfConfig *c) {
    const json_t *given = hf_config_get(c, "model_type");
    const char *type = given ? json_string_value(given) : "gpt2"; /* as the earliest have it */
    int f = 0;
    while (f < FAMILIES && !(type && strcmp(type, arch_family[f].name) == 0)) f++;
    if (f == FAMILIES) {
        Text known = {0};
        for (int k = 0; k < FAMILIES; k++)
            text_put(&known, "%s\"%s\"",
                     k == 0             ? ""
                     : k + 1 < FAMILIES ? ", "
                                        : " or ",
                     arch_family[k].name);
        AUTOFREE char *expected = text_take(&known);
        return bad(c, "model_type", given, expected);
    }
    c->cfg = arch_family[f].is;
    c->cfg.family = f;
    const json_t *list = hf_config_get(c, "architectures");
    const char *class = json_string_value(json_array_get(list, 0));
    AUTOFREE char *lm = xasprintf(f == FAMILY_GPT2 ? "%sLMHeadModel" : "%sForCausalLM",
                                  arch_family[f].classes),
                  *trunk = xasprintf("%sModel", arch_family[f].classes);
    if (!list || (json_array_size(list) == 1 && class &&
                  (strcmp(class, lm) == 0 || strcmp(class, trunk) == 0)))
        return 0;
    AUTOFREE char *expected = xasprintf("a language model, %s", lm);
    return bad(c, "architectures", list, expected);
}

static int check_variants(const HfConfig *c) {
    const int family = 1 << c->cfg.family;
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++) {
        const json_t *v = hf_config_get(c, fixed[i].key);
        if (!v || !(fixed[i].families & family)) continue;
        AUTOFREE char *found = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
        if (strcmp(found, fixed[i].must) != 0)
            return bad(c, fixed[i].key, v,
                       *fixed[i].must ? fixed[i].must : "none: weights that are numbers");
    }
    return 0;
}

/* Qwen's sliding window: fine where it is off, or as long as the context. */
static int check_window(const HfConfig *c) {
    if (!(1 << c->cfg.family & QWEN)) return 0;
    const json_t *window = hf_config_get(c, "sliding_window"),
                 *use = hf_config_get(c, "use_sliding_window"),
                 *from = hf_config_get(c, "max_window_layers"),
                 *types = hf_config_get(c, "layer_types"), *type;
    const bool wide = json_is_integer(window) && json_integer_value(window) >= c->cfg.context;
    size_t i;
    json_array_foreach((json_t *)(uintptr_t)types, i, type) {
        const char *name = json_string_value(type);
        if (!name || (strcmp(name, "full_attention") != 0 && !wide))
            return bad(c, "layer_types", type, "\"full_attention\" in all layers");
    }
    const int64_t layers = from ? json_integer_value(from) : 28;
    if (types || wide || !window || layers >= c->cfg.layers || !use || json_is_false(use)) return 0;
    return bad(c, "use_sliding_window", use, "false: attention without a window");
}

/* --- the fields of the table ------------------------------------------------------------------ */

/* Names of the architecture's fields. The first line of a family is the one we write, others are
 * aliases. Where config.json leaves a field out, transformers means `missing`. */
enum { REQUIRED = -1 };
static const struct Key {
    int families;
    const char *field, *name;
    double missing;
} keys[] = {
    {GPT2, "vocab", "vocab_size", 50257},
    {OTHERS, "vocab", "vocab_size", REQUIRED},
    {GPT2, "context", "n_positions", 1024},
    {GPT2, "context", "max_position_embeddings", 1024},
    {OTHERS, "context", "max_position_embeddings", REQUIRED},
    {GPT2, "layers", "n_layer", 12},
    {GPT2, "layers", "num_hidden_layers", 12},
    {OTHERS, "layers", "num_hidden_layers", REQUIRED},
    {GPT2, "heads", "n_head", 12},
    {GPT2, "heads", "num_attention_heads", 12},
    {OTHERS, "heads", "num_attention_heads", REQUIRED},
    {GPT2, "width", "n_embd", 768},
    {GPT2, "width", "hidden_size", 768},
    {OTHERS, "width", "hidden_size", REQUIRED},
    {GPT2, "ffn", "n_inner", 0},
    {LLAMAS | NEOX, "ffn", "intermediate_size", REQUIRED},
    {OPT, "ffn", "ffn_dim", REQUIRED},
    {LLAMA, "kv_heads", "num_key_value_heads", 0},
    {QWEN, "kv_heads", "num_key_value_heads", 32},
    {LLAMA | QWEN2, "head", "head_dim", 0},
    {QWEN3, "head", "head_dim", 128},
    {GPT2, "bias", "bias", BIAS_ALL},
    {GPT2, "mlp", "activation_function", MLP_GELU_TANH},
    {OPT, "mlp", "activation_function", MLP_RELU},
    {NEOX, "mlp", "hidden_act", MLP_GELU_ERF},
    {LLAMAS, "mlp", "hidden_act", MLP_SWIGLU},
    {GPT2 | OPT, "untied", "tie_word_embeddings", false},
    {LLAMAS | NEOX, "untied", "tie_word_embeddings", true},
    {GPT2, "norm_eps", "layer_norm_epsilon", 1e-5},
    {LLAMAS, "norm_eps", "rms_norm_eps", 1e-6},
    {NEOX, "norm_eps", "layer_norm_eps", 1e-5},
    {NEOX, "parallel", "use_parallel_residual", true},
};
#define KEYS_END (keys + sizeof keys / sizeof *keys)

static const struct Key *next_key(const struct Key *k, const char *field, int family) {
    while (k < KEYS_END && !(k->families & 1 << family && strcmp(k->field, field) == 0)) k++;
    return k < KEYS_END ? k : NULL;
}

/* The value of a field and the name that it goes by; aliases must agree. *v NULL: not given. */
static int find_field(const HfConfig *c, const struct Key *k, const json_t **v, const char **name) {
    *v = NULL;
    for (; k; k = next_key(k + 1, k->field, c->cfg.family)) {
        const json_t *w = hf_config_get(c, k->name);
        if (*v && w && !json_equal(*v, w)) {
            AUTOFREE char *expected =
                xasprintf("what \"%s\" is, which means the same; remove the wrong one", *name);
            return bad(c, k->name, w, expected);
        }
        if (w) *v = w, *name = k->name;
    }
    return 0;
}

/* How values that are words here, or the other way round, stand in config.json; the first of a value
 * is written. */
static const struct Word {
    int families;
    const char *field, *word;
    int value;
} hf_words[] = {
    {GPT2 | NEOX | OPT, "mlp", "gelu_new", MLP_GELU_TANH},
    {GPT2 | NEOX | OPT, "mlp", "gelu", MLP_GELU_ERF},
    {GPT2 | NEOX | OPT, "mlp", "gelu_python", MLP_GELU_ERF},
    {GPT2 | NEOX | OPT, "mlp", "gelu_fast", MLP_GELU_TANH},
    {GPT2 | NEOX | OPT, "mlp", "gelu_pytorch_tanh", MLP_GELU_TANH},
    {GPT2 | NEOX | OPT, "mlp", "relu", MLP_RELU},
    {LLAMAS, "mlp", "silu", MLP_SWIGLU},
    {LLAMAS, "mlp", "swish", MLP_SWIGLU},
    {GPT2, "bias", "true", BIAS_ALL},
    {GPT2, "bias", "false", BIAS_NONE},
    {ALL, "untied", "true", false},
    {ALL, "untied", "false", true},
    {NEOX, "parallel", "true", true},
    {NEOX, "parallel", "false", false},
};
#define WORDS_END (hf_words + sizeof hf_words / sizeof *hf_words)

static int read_word(HfConfig *c, const ArchField *f, const char *name, const json_t *v) {
    const char *text =
        json_is_boolean(v) ? (json_is_true(v) ? "true" : "false") : json_string_value(v);
    Text known = {0};
    for (const struct Word *w = hf_words; w < WORDS_END; w++) {
        if (!(w->families & 1 << c->cfg.family) || strcmp(w->field, f->name) != 0) continue;
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

/* A number in the range of the field. */
static int read_number(HfConfig *c, const ArchField *f, const char *name, const json_t *v) {
    const double x = json_number_value(v), lowest = fmax(f->lowest, 1);
    const bool right = f->type == ARCH_COUNT ? json_is_integer(v) && x >= lowest && x <= f->highest
                                             : json_is_number(v) && x > f->lowest && x < f->highest;
    if (right) {
        arch_set(&c->cfg, f, x);
        return 0;
    }
    AUTOFREE char *expected = f->type == ARCH_COUNT
                                  ? xasprintf("%.10g to %.10g", lowest, f->highest)
                                  : xasprintf("a number between %g and %g", f->lowest, f->highest);
    return bad(c, name, v, expected);
}

static int read_field(HfConfig *c, const ArchField *f) {
    const struct Key *k = next_key(keys, f->name, c->cfg.family);
    const json_t *v;
    const char *name;
    if (!k) return 0; /* as the family has it */
    TRY(find_field(c, k, &v, &name));
    if (!v && k->missing == REQUIRED)
        return error_set(ERR_DATA, "%s: \"%s\" is missing", c->path, k->name);
    /* null is another thing than left out: num_key_value_heads, head_dim */
    if (!v) {
        const bool null = json_is_null(json_object_get(c->json, k->name)) && f->lowest == 0 &&
                          f->type == ARCH_COUNT;
        arch_set(&c->cfg, f, null ? 0 : k->missing);
        return 0;
    }
    return f->type == ARCH_FLAG || f->type == ARCH_WORD ? read_word(c, f, name, v)
                                                        : read_number(c, f, name, v);
}

/* --- rotary positions ------------------------------------------------------------------------- */

static const ArchField *field_named(const char *name) {
    const ArchField *f = arch_fields;
    while (strcmp(f->name, name) != 0) f++;
    return f;
}

/* A member of the rope's object, into a field. */
static int read_rope_number(HfConfig *c, const json_t *rope, const char *key, const char *field) {
    const json_t *v = json_object_get(rope, key);
    if (!v)
        return error_set(ERR_DATA, "%s: \"%s\" of the rotary positions is missing", c->path, key);
    return read_number(c, field_named(field), key, v);
}

/* What older configurations have beside rope_scaling, newer ones in rope_parameters; where both are
 * given, they must agree. */
static int rope_value(const HfConfig *c, const json_t *rope, const char *key, const char *outer,
                      const json_t **v) {
    const json_t *in = json_object_get(rope, key), *out = outer ? hf_config_get(c, outer) : NULL;
    *v = in && !json_is_null(in) ? in : out;
    if (in && out && json_is_number(in) && json_number_value(in) != json_number_value(out)) {
        AUTOFREE char *expected = xasprintf("what the rotary positions' \"%s\" is", key);
        return bad(c, outer, out, expected);
    }
    return 0;
}

static int read_rope(HfConfig *c) {
    if (!c->cfg.rope) return 0;
    const bool neox = c->cfg.family == FAMILY_GPT_NEOX;
    const json_t *old = hf_config_get(c, "rope_scaling"),
                 *new = hf_config_get(c, "rope_parameters");
    const json_t *rope = old ? old : new, *v, *part;
    const char *name = old ? "rope_scaling" : "rope_parameters";
    if (rope && !json_is_object(rope)) return bad(c, name, rope, "an object");
    const char *key;
    json_t *member;
    json_object_foreach((json_t *)(uintptr_t)rope, key,
                        member) if (json_is_object(member)) return bad(c, name, rope,
                                                                       "the same in all layers");
    if (old && new) {
        const char *const same[] = {"factor", "rope_type"};
        for (int i = 0; i < 2; i++) {
            const json_t *a = json_object_get(old, same[i]), *b = json_object_get(new, same[i]);
            if (a && b && !json_equal(a, b))
                return bad(c, "rope_parameters", new, "rope_scaling's");
        }
    }
    TRY(rope_value(c, rope, "rope_theta", neox ? "rotary_emb_base" : "rope_theta", &v));
    if (!v && new) v = json_object_get(new, "rope_theta");
    c->cfg.rope_theta = 1e4;
    if (v) TRY(read_number(c, field_named("rope_theta"), "rope_theta", v));

    TRY(rope_value(c, rope, "partial_rotary_factor", neox ? "rotary_pct" : "partial_rotary_factor",
                   &part));
    if (!part && new) part = json_object_get(new, "partial_rotary_factor");
    const double share = part ? json_number_value(part) : neox ? 0.25 : 1;
    if (!(share > 0 && share <= 1) || (!neox && share != 1))
        return bad(c, "partial_rotary_factor", part, neox ? "above 0, to 1" : "1");
    const int64_t d = arch_head(&c->cfg), columns = (int64_t)((double)d * share);
    if (columns < 2 || columns % 2)
        return error_set(ERR_DATA,
                         "%s: %g of a head's %" PRId64 " columns are %" PRId64
                         ", expected an even number: they are rotated in pairs",
                         c->path, share, d, columns);
    c->cfg.rope_columns = columns;

    const json_t *type = json_object_get(rope, "rope_type");
    if (!type) type = json_object_get(rope, "type");
    const char *is = type ? json_string_value(type) : "default";
    if (is && strcmp(is, "default") == 0) return 0;
    if (!is || strcmp(is, "llama3") != 0) return bad(c, "rope_type", type, "default or llama3");
    TRY(read_rope_number(c, rope, "factor", "rope_factor"));
    TRY(read_rope_number(c, rope, "low_freq_factor", "rope_low"));
    TRY(read_rope_number(c, rope, "high_freq_factor", "rope_high"));
    return read_rope_number(c, rope, "original_max_position_embeddings", "rope_original");
}

/* A share whose product with d, cut to an integer as Python does it, is `columns`. */
static double share_of(int64_t columns, int64_t d) {
    double share = (double)columns / (double)d;
    while ((int64_t)((double)d * share) < columns) share = nextafter(share, 2);
    return share;
}

/* As transformers 5 has it, and as older versions have it. */
static void write_rope(const GptConfig *c, json_t *j) {
    if (!c->rope) return;
    const bool neox = c->family == FAMILY_GPT_NEOX;
    const int64_t d = arch_head(c), columns = c->rope_columns ? c->rope_columns : d;
    json_t *rope = json_pack("{s:s}", "rope_type", c->rope_factor != 0 ? "llama3" : "default");
    if (c->rope_factor != 0)
        json_object_update_new(rope, json_pack("{s:f, s:f, s:f, s:I}", "factor", c->rope_factor,
                                               "low_freq_factor", c->rope_low, "high_freq_factor",
                                               c->rope_high, "original_max_position_embeddings",
                                               (json_int_t)c->rope_original));
    json_object_set_new(j, "rope_scaling",
                        c->rope_factor != 0 ? json_deep_copy(rope) : json_null());
    json_object_set_new(rope, "rope_theta", json_real(c->rope_theta));
    json_object_set_new(j, neox ? "rotary_emb_base" : "rope_theta", json_real(c->rope_theta));
    if (neox) {
        json_object_set_new(rope, "partial_rotary_factor", json_real(share_of(columns, d)));
        json_object_set_new(j, "rotary_pct", json_real(share_of(columns, d)));
    }
    json_object_set_new(j, "rope_parameters", rope);
}

/* --- the file --------------------------------------------------------------------------------- */

int hf_config_read(HfConfig *c, const char *dir) {
    *c = (HfConfig){.dir = dir, .path = file_join(dir, "config.json")};
    TRY(json_read_file(&c->json, c->path));
    if (!json_is_object(c->json)) return error_set(ERR_DATA, "%s: not a JSON object", c->path);
    TRY(check_architecture(c));
    TRY(check_variants(c));
    for (int i = 0; i < arch_nfields; i++) TRY(read_field(c, &arch_fields[i]));
    if (c->cfg.heads && !c->cfg.head && c->cfg.width % c->cfg.heads)
        return error_set(ERR_DATA, "%s: \"%s\" %" PRId64 " is no multiple of \"%s\" %" PRId64,
                         c->path, next_key(keys, "width", c->cfg.family)->name, c->cfg.width,
                         next_key(keys, "heads", c->cfg.family)->name, c->cfg.heads);
    if (c->cfg.heads % arch_kv_heads(&c->cfg))
        return error_set(ERR_DATA,
                         "%s: \"num_attention_heads\" %" PRId64
                         " is no multiple of \"num_key_value_heads\" %" PRId64,
                         c->path, c->cfg.heads, c->cfg.kv_heads);
    const json_t *inner = hf_config_get(c, "word_embed_proj_dim");
    if (c->cfg.family == FAMILY_OPT && inner && json_integer_value(inner) != c->cfg.width)
        return bad(c, "word_embed_proj_dim", inner, "hidden_size");
    TRY(read_rope(c));
    TRY(check_window(c));
    int rc = arch_check(&c->cfg);
    return rc < 0 ? error_wrap(ERR_DATA, "%s", c->path) : 0;
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
        const struct Key *k = next_key(keys, f->name, c->family);
        if (!k) continue;
        json_t *value = f->type == ARCH_COUNT ? json_integer((json_int_t)v) : json_real(v);
        if (f->type == ARCH_FLAG || f->type == ARCH_WORD) {
            const struct Word *w = hf_words;
            while (!(w->families & 1 << c->family) || strcmp(w->field, f->name) != 0 ||
                   w->value != (int)v)
                w++;
            json_decref(value);
            value = strcmp(w->word, "true") == 0    ? json_true()
                    : strcmp(w->word, "false") == 0 ? json_false()
                                                    : json_string(w->word);
        }
        json_object_set_new(j, k->name, value);
    }
    write_rope(c, j);
    if (c->family == FAMILY_OPT)
        json_object_set_new(j, "word_embed_proj_dim", json_integer((json_int_t)c->width));
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
