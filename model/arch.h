/* arch.h: what a model is: one list of the fields of its configuration (here) and one of its
 * parameters (arch.c). The description in a checkpoint, Hugging Face's files, the model's memory,
 * its counts and sizes follow from these two; a new field or parameter is a line. */
#ifndef MODEL_ARCH_H
#define MODEL_ARCH_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/config.h"
#include "core/param.h"

/* X(C type, field, lowest, highest, since, fallback, names in Hugging Face's config.json...)
 * The order is that of the checkpoint's description. Integers may be the bounds themselves, reals
 * lie between. since: ALWAYS, or LATER where older checkpoints lack the field and mean 0. fallback:
 * what GPT2Config means where it is left out. The first name is the one we write, the others are
 * its aliases; "": config.json does not say. arch.c has the words that stand for some values.
 *     bias         biases in linear layers and layer norms
 *     scalar_head  reward or value model: head.weight [1,C], head.bias [1]
 *     gelu_erf     exact GELU instead of the tanh form (imported models)
 *     untied       lm_head.weight [V,C] makes the logits, not wte (imported models) */
/* clang-format off */
#define ARCH_FIELDS(X)                                                                         \
    X(int64_t, vocab,       1, INT32_MAX, ALWAYS, 50257, "vocab_size")                         \
    X(int64_t, context,     1, 1 << 24,   ALWAYS, 1024,  "n_positions", "max_position_embeddings") \
    X(int64_t, layers,      1, 4096,      ALWAYS, 12,    "n_layer", "num_hidden_layers")       \
    X(int64_t, heads,       1, 1 << 20,   ALWAYS, 12,    "n_head", "num_attention_heads")      \
    X(int64_t, width,       1, 1 << 20,   ALWAYS, 768,   "n_embd", "hidden_size")              \
    X(bool,    bias,        0, 1,         ALWAYS, true,  "bias")                               \
    X(bool,    scalar_head, 0, 1,         ALWAYS, false, "")                                   \
    X(bool,    gelu_erf,    0, 1,         ALWAYS, false, "activation_function")                \
    X(bool,    untied,      0, 1,         LATER,  false, "tie_word_embeddings")                \
    X(double,  norm_eps,    0, 1,         ALWAYS, 1e-5,  "layer_norm_epsilon")
/* clang-format on */

typedef struct GptConfig {
#define X(type, field, ...) type field;
    ARCH_FIELDS(X)
#undef X
} GptConfig;

/* --- fields ----------------------------------------------------------------------------------- */

typedef enum ArchType { ARCH_COUNT, ARCH_FLAG, ARCH_REAL } ArchType;
enum { ARCH_NAMES = 4, ARCH_WORDS = 6 };

typedef struct ArchField {
    const char *name;
    ArchType type;
    size_t at; /* in GptConfig */
    double lowest, highest, fallback;
    bool later;
    const char *hf[ARCH_NAMES]; /* NULL after the last */
} ArchField;

extern const ArchField arch_fields[];
extern const int arch_nfields;

/* How a value stands in config.json: a string, or true and false. NULL after the last. */
typedef struct ArchWord {
    const char *word;
    bool value;
} ArchWord;
const ArchWord *arch_words(const ArchField *f); /* of a flag; the first of each value is written */

double arch_get(const GptConfig *c, const ArchField *f);
void arch_set(GptConfig *c, const ArchField *f, double v);

/* What the settings model.* ask for. */
GptConfig arch_of_config(const Config *c, int64_t vocab);
int arch_check(const GptConfig *c); /* ERR_CONFIG names the field */
/* Name of the first field in which two models differ, a scalar head aside; NULL: none. */
const ArchField *arch_differ(const GptConfig *a, const GptConfig *b);

/* The member "model" of a checkpoint's description; a new reference. */
json_t *arch_to_json(const GptConfig *c);
int arch_from_json(GptConfig *c, const json_t *j); /* ERR_DATA names the field */
/* "2 layers, width 64, 4 heads, ..."; malloc'd */
char *arch_text(const GptConfig *c);

/* --- parameters ------------------------------------------------------------------------------- */

enum { ARCH_NAME_MAX = 128 };

/* A parameter of a model: `for (ArchParam p = {0}; arch_next(&cfg, &p);)` goes through all of them,
 * in the order in which they lie in the flat buffer. */
typedef struct ArchParam {
    char name[PARAM_NAME_MAX];
    char hf[ARCH_NAME_MAX], gguf[ARCH_NAME_MAX]; /* "" where there is none */
    int index, layer;                            /* layer -1: of no block */
    int ndim;
    int64_t shape[2], n;
    bool transposed;               /* in Hugging Face's file: Conv1D keeps [in,out] */
    bool decay;                    /* matrices, and only they */
    int matrices;                  /* as in Param: those of a layer; queries, keys, values are 3 */
    bool residual;                 /* its product is added to the residual stream */
    bool gain;                     /* of a layer norm: begins as 1 */
    bool multiplies;               /* each token once: not a table of rows */
    size_t slot;                   /* of its Tensor * in Gpt, or (layer >= 0) in GptBlock */
    int row, next_row, next_layer; /* where the walk is */
    bool next_bias;
} ArchParam;

bool arch_next(const GptConfig *c, ArchParam *p);

/* Adds all of them to an empty set, the embeddings as its part 0, layer l as part 1 + l, what
 * follows as the last. Until paramset_alloc that takes no memory for them: sizes and parts of a
 * model that nobody opens. */
void arch_params(const GptConfig *c, ParamSet *ps);
int64_t arch_count(const GptConfig *c); /* numbers in all parameters */

#endif
