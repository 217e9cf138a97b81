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

/* The families of models. Each is a line of arch.c's table: how it sets the switches below, and what
 * its parameters are called in Hugging Face's and GGUF's files. */
typedef enum ArchFamily {
    FAMILY_GPT2,
    FAMILY_LLAMA,
    FAMILY_QWEN2,
    FAMILY_QWEN3,
    FAMILY_GPT_NEOX,
    FAMILY_OPT,
    FAMILIES
} ArchFamily;
typedef enum ArchMlp { MLP_GELU_TANH, MLP_GELU_ERF, MLP_RELU, MLP_SWIGLU } ArchMlp;
typedef enum ArchBias { BIAS_NONE, BIAS_ALL, BIAS_QKV } ArchBias;

/* X(C type, field, lowest, highest, since)
 * The order is that of the checkpoint's description. Integers may be the bounds themselves, reals
 * lie between; an int is one of a list of words (arch_words). since: ALWAYS, or LATER where older
 * checkpoints lack the field and mean 0. Hugging Face's names for them: hf_config.c.
 *     kv_heads      heads of keys and values, each seen by heads / kv_heads; 0: heads
 *     head          columns of a head; 0: width / heads
 *     ffn           columns between the mlp's matrices; 0: 4 width, of SwiGLU 8/3 width, rounded up
 *                   to a multiple of 32
 *     bias          biases in linear layers and layer norms
 *     scalar_head   reward or value model: head.weight [1,C], head.bias [1]
 *     untied        lm_head.weight [V,C] makes the logits, not wte
 *     rms           RMSNorm, not LayerNorm
 *     parallel      x + attention(norm1(x)) + mlp(norm2(x)), not one after the other
 *     qk_norm       RMSNorm of each head's q and k
 *     rope          rotary positions, not learned ones; the fields rope_* count with it only
 *     rope_columns  of a head that are rotated; 0: all
 *     rope_factor   Llama 3's stretching of the frequencies: RopeConfig; 0: none */
/* clang-format off */
#define ARCH_FIELDS(X)                                      \
    X(int64_t, vocab,         1,  INT32_MAX,   ALWAYS)      \
    X(int64_t, context,       1,  1 << 24,     ALWAYS)      \
    X(int64_t, layers,        1,  4096,        ALWAYS)      \
    X(int64_t, heads,         1,  1 << 20,     ALWAYS)      \
    X(int64_t, width,         1,  1 << 20,     ALWAYS)      \
    X(int,     bias,          0,  BIAS_QKV,    ALWAYS)      \
    X(bool,    scalar_head,   0,  1,           ALWAYS)      \
    X(int,     mlp,           0,  MLP_SWIGLU,  ALWAYS)      \
    X(bool,    untied,        0,  1,           LATER)       \
    X(double,  norm_eps,      0,  1,           ALWAYS)      \
    X(int,     family,        0,  FAMILIES-1,  LATER)       \
    X(int64_t, kv_heads,      0,  1 << 20,     LATER)       \
    X(int64_t, head,          0,  1 << 20,     LATER)       \
    X(int64_t, ffn,           0,  1 << 24,     LATER)       \
    X(bool,    rms,           0,  1,           LATER)       \
    X(bool,    parallel,      0,  1,           LATER)       \
    X(bool,    qk_norm,       0,  1,           LATER)       \
    X(bool,    rope,          0,  1,           LATER)       \
    X(int64_t, rope_columns,  0,  1 << 20,     LATER)       \
    X(double,  rope_theta,    1,  1e12,        LATER)       \
    X(double,  rope_factor,   -1, 1e6,         LATER)       \
    X(double,  rope_low,      -1, 1e6,         LATER)       \
    X(double,  rope_high,     -1, 1e6,         LATER)       \
    X(int64_t, rope_original, 0,  1 << 24,     LATER)
/* clang-format on */

typedef struct GptConfig {
#define X(type, field, ...) type field;
    ARCH_FIELDS(X)
#undef X
} GptConfig;

/* --- fields ----------------------------------------------------------------------------------- */

typedef enum ArchType { ARCH_COUNT, ARCH_FLAG, ARCH_REAL, ARCH_WORD } ArchType;

typedef struct ArchField {
    const char *name;
    ArchType type;
    size_t at; /* in GptConfig */
    double lowest, highest;
    bool later;
} ArchField;

extern const ArchField arch_fields[];
extern const int arch_nfields;

/* The words of an ARCH_WORD, in order of its values; NULL after the last. */
const char *const *arch_words(const ArchField *f);

/* Where 0 stands for something, arch_get has what it stands for. */
double arch_get(const GptConfig *c, const ArchField *f);
void arch_set(GptConfig *c, const ArchField *f, double v);
int64_t arch_kv_heads(const GptConfig *c);
int64_t arch_head(const GptConfig *c);
int64_t arch_ffn(const GptConfig *c);
int64_t arch_qkv(const GptConfig *c); /* columns of q, k and v: (heads + 2 kv_heads) head */

int arch_check(const GptConfig *c); /* ERR_CONFIG names the field */
/* The model that model.* describes; ERR_CONFIG, by config_bad. */
int arch_of_config(GptConfig *out, const Config *c, int64_t vocab);
/* The first field in which two models differ, a scalar head aside; NULL: none. */
const ArchField *arch_differ(const GptConfig *a, const GptConfig *b);

/* The member "model" of a checkpoint's description; a new reference. */
json_t *arch_to_json(const GptConfig *c);
int arch_from_json(GptConfig *c, const json_t *j); /* ERR_DATA names the field */
/* "2 layers, width 64, 4 heads, ..."; malloc'd */
char *arch_text(const GptConfig *c);

/* --- parameters ------------------------------------------------------------------------------- */

/* A parameter of a model: `for (ArchParam p = {0}; arch_next(&cfg, &p);)` goes through all of them,
 * in the order in which they lie in the flat buffer. */
typedef struct ArchParam {
    char name[PARAM_NAME_MAX];
    int index, layer; /* layer -1: of no block */
    int ndim;
    int64_t shape[2], n;
    bool decay;                    /* matrices, and only they */
    int matrices;                  /* as in Param, with first_rows: queries, keys, values are 3 */
    int64_t first_rows;            /* ... */
    bool residual;                 /* its product is added to the residual stream */
    bool gain;                     /* of a norm: begins as 1 */
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

/* --- families and files ----------------------------------------------------------------------- */

typedef struct ArchFamilyInfo {
    const char *name;    /* also Hugging Face's model_type */
    const char *classes; /* transformers': "Llama" of LlamaForCausalLM */
    const char *gguf;    /* general.architecture; NULL: there is none */
    const char *prefix;  /* of names in Hugging Face's files, unless the trunk was saved alone */
    int hf_names, gguf_names;
    const char *free; /* the switches that its models may have otherwise */
    GptConfig is;     /* the switches as the family has them */
} ArchFamilyInfo;
extern const ArchFamilyInfo arch_family[FAMILIES];

/* The first switch that no file of the model's family can have so; NULL: it is one of them. */
const ArchField *arch_unlike(const GptConfig *c);

/* How a parameter lies in files: in one tensor or several, one below the other, its rows in this
 * order.
 *     ORDER_TRANSPOSED  Hugging Face's GPT-2: Conv1D keeps [in,out]
 *     ORDER_PER_HEAD    GPT-NeoX: rows of q, k and v of the first head, of the second, ...
 *     ORDER_PAIRS       GGUF's llama: rows j and j + d/2 of each head of q and k, which are rotated
 *                       together, follow each other */
typedef enum ArchFormat { ARCH_HF, ARCH_GGUF } ArchFormat;
typedef enum ArchOrder { ORDER_ROWS, ORDER_TRANSPOSED, ORDER_PER_HEAD, ORDER_PAIRS } ArchOrder;
enum { ARCH_NAME_MAX = 128, ARCH_PIECES = 3 };
typedef struct ArchPiece {
    char name[ARCH_NAME_MAX];
    int64_t row, rows; /* of the parameter (elements of a vector) */
    int64_t skip;      /* rows of the file's tensor before them: OPT's positions */
    ArchOrder order;
} ArchPiece;

/* Returns how many pieces there are; 0: files of this format do not have the parameter. */
int arch_pieces(const GptConfig *c, const ArchParam *p, ArchFormat format,
                ArchPiece piece[ARCH_PIECES]);
/* The row of the parameter, counted from piece->row, that row r of the file's tensor holds (column r
 * where it is transposed); negative: none. */
int64_t arch_row(const GptConfig *c, const ArchPiece *piece, int64_t r);

#endif
