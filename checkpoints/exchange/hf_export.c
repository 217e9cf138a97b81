/* hf_export.c: a checkpoint becomes a Hugging Face folder.
 *
 * ...ForSequenceClassification differs from our reward model in two ways. Its head has no bias:
 * with hidden = norm(x) and reward = w hidden + b, adding b w / |w|^2 to the bias of the last layer
 * norm makes w hidden alone give the same. And it scores the last token before the padding, so it
 * needs a padding token that no text contains (the end of text is a token that counts): the first
 * id that the tokenizer leaves free, with a row of zeros in the embedding.
 *
 * GPT2 has biases everywhere; a model without gets zeros, and "bias": false in config.json lets
 * hf_import leave them out again. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "checkpoints/exchange/hf_impl.h"
#include "checkpoints/exchange/load.h"
#include "checkpoints/exchange/safetensors.h"

typedef struct Export {
    Loaded model;
    const char *dir;
    GptConfig cfg; /* of the files: the model's, maybe with a row of the vocabulary more */
    int64_t pad;   /* -1: none */
    char pad_token[32];
    double fold; /* times the head's weights: added to the last layer norm's bias */
    StWriter *file;
    float *piece; /* [HF_PIECE] */
} Export;

/* --- tensors ---------------------------------------------------------------------------------- */

/* Element i of what the file holds for a piece of a parameter: 0 where the model has none. */
static float element(const Export *e, const Tensor *t, const ArchParam *p, const ArchPiece *q,
                     int64_t i) {
    const int64_t cols = p->ndim == 2 ? p->shape[1] : 1;
    const bool turned = q->order == ORDER_TRANSPOSED;
    const int64_t row = arch_row(&e->cfg, q, turned ? i % q->rows : i / cols);
    const int64_t at = (q->row + row) * cols + (turned ? i / q->rows : i % cols);
    /* not there: a bias, rows of wte, rows before the first position */
    return t && row >= 0 && at < tensor_size(t) ? (float)t->data[at] : 0;
}

static int write_piece(Export *e, const ArchParam *p, const ArchPiece *q) {
    Gpt *g = e->model.gpt;
    const Tensor *t = paramset_find(&g->params, p->name);
    const real *w = e->fold != 0 && strcmp(p->name, "norm_f.bias") == 0 ? g->head_w->data : NULL;
    const int64_t n = (q->rows + q->skip) * (p->ndim == 2 ? p->shape[1] : 1);
    for (int64_t from = 0; from < n; from += HF_PIECE) {
        const int64_t m = n - from < HF_PIECE ? n - from : HF_PIECE;
        for (int64_t i = 0; i < m; i++) {
            e->piece[i] = element(e, t, p, q, from + i);
            if (w) e->piece[i] += (float)(e->fold * (double)w[from + i]);
        }
        TRY(safetensors_write(e->file, e->piece, m));
    }
    return 0;
}

/* b / |w|^2. RMSNorm has no bias to take it up. */
static int fold_bias(Export *e) {
    const Gpt *g = e->model.gpt;
    double square = 0, b = (double)g->head_b->data[0];
    if (g->cfg.rms) {
        log_warn("%s: transformers' scores will all be %g higher: its head has no bias, and "
                 "RMSNorm none that could take ours",
                 e->dir, -b);
        return 0;
    }
    for (int64_t i = 0; i < g->cfg.width; i++)
        square += (double)g->head_w->data[i] * (double)g->head_w->data[i];
    if (b != 0 && square == 0)
        return error_set(ERR_DATA, "%s: the weights of its head are 0: every score is the same",
                         e->model.path);
    e->fold = b != 0 ? b / square : 0;
    return 0;
}

static int write_tensors(Export *e) {
    GptConfig full = e->cfg;
    if (full.family == FAMILY_GPT2) full.bias = BIAS_ALL;
    if (full.scalar_head) TRY(fold_bias(e));
    ArchPiece q[ARCH_PIECES];
    int n = 0, rc;
    for (ArchParam p = {0}; arch_next(&full, &p);) n += ARCH_PIECES;
    AUTOFREE StTensor *t = xcalloc((size_t)n, sizeof *t);
    n = 0;
    for (ArchParam p = {0}; arch_next(&full, &p);)
        for (int k = 0, m = arch_pieces(&full, &p, ARCH_HF, q); k < m; k++) {
            const int64_t rows = q[k].rows + q[k].skip;
            const bool turned = q[k].order == ORDER_TRANSPOSED;
            t[n++] = (StTensor){.name = xstrdup(q[k].name),
                                .ndim = p.ndim,
                                .shape = {turned ? p.shape[1] : rows, turned ? rows : p.shape[1]}};
        }
    AUTOFREE char *path = file_join(e->dir, "model.safetensors");
    e->piece = xmalloc(HF_PIECE * sizeof *e->piece);
    TRY_GOTO(done, safetensors_create(&e->file, path, t, n));
    for (ArchParam p = {0}; arch_next(&full, &p);)
        for (int k = 0, m = arch_pieces(&full, &p, ARCH_HF, q); k < m; k++)
            TRY_GOTO(done, write_piece(e, &p, &q[k]));
    rc = safetensors_commit(&e->file);
done:
    safetensors_abandon(&e->file);
    for (int i = 0; i < n; i++) free(t[i].name);
    free(e->piece);
    return rc;
}

/* --- the tokenizer ---------------------------------------------------------------------------- */

static int write_json(const Export *e, const char *name, json_t *j) {
    AUTOFREE char *path = file_join(e->dir, name);
    int rc = json_write_file(j, path);
    json_decref(j);
    return rc;
}

static json_t *word(const Export *e, int32_t id) {
    size_t len;
    const char *s = id < 0 ? NULL : tokenizer_token_bytes(e->model.tokenizer, id, &len);
    return s ? json_stringn(s, len) : json_null();
}

/* Our text, with the padding token appended where there is one. */
static int write_tokenizer_json(const Export *e) {
    AUTOFREE char *text = tokenizer_json(e->model.tokenizer),
                  *path = file_join(e->dir, "tokenizer.json");
    if (e->pad >= 0) {
        json_auto_t *j = NULL;
        TRY(json_parse(&j, text, strlen(text), "tokenizer.json", 1));
        json_array_append_new(json_object_get(j, "added_tokens"),
                              json_pack("{s:I, s:s, s:b, s:b, s:b, s:b, s:b}", "id",
                                        (json_int_t)e->pad, "content", e->pad_token, "single_word",
                                        0, "lstrip", 0, "rstrip", 0, "normalized", 0, "special",
                                        1));
        free(text);
        text = json_dumps(j, JSON_INDENT(2));
    }
    return file_write_durable(path, text, strlen(text));
}

static int write_tokenizer(const Export *e) {
    TRY(write_tokenizer_json(e));
    json_t *c = json_pack("{s:s, s:I, s:o, s:o, s:b, s:b}", "tokenizer_class",
                          "PreTrainedTokenizerFast", "model_max_length", (json_int_t)e->cfg.context,
                          "bos_token", word(e, e->model.eos), "eos_token", word(e, e->model.eos),
                          "clean_up_tokenization_spaces", 0, "add_prefix_space", 0);
    if (e->pad >= 0) json_object_set_new(c, "pad_token", json_string(e->pad_token));
    const char *jinja = tokenizer_chat_template(e->model.tokenizer);
    if (jinja) json_object_set_new(c, "chat_template", json_string(jinja));
    return write_json(e, "tokenizer_config.json", c);
}

static void choose_pad(Export *e) {
    const Tokenizer *t = e->model.tokenizer;
    e->pad = t ? tokenizer_vocab(t) : e->cfg.vocab;
    if (e->pad == e->cfg.vocab) e->cfg.vocab++;
    snprintf(e->pad_token, sizeof e->pad_token, "<|pad|>");
    for (int i = 1; t && tokenizer_id(t, e->pad_token) >= 0; i++)
        snprintf(e->pad_token, sizeof e->pad_token, "<|pad_%d|>", i);
}

/* --- config.json ------------------------------------------------------------------------------ */

static json_t *id_or_null(int64_t id) { return id < 0 ? json_null() : json_integer(id); }

static int write_config(const Export *e) {
    const Loaded *l = &e->model;
    const GptConfig *c = &e->cfg;
    const ArchFamilyInfo *f = &arch_family[c->family];
    json_t *j = hf_config_json(c), *ours;
    AUTOFREE char *class = xasprintf("%s%s", f->classes,
                                     c->scalar_head             ? "ForSequenceClassification"
                                     : c->family == FAMILY_GPT2 ? "LMHeadModel"
                                                                : "ForCausalLM");
    json_auto_t *more = json_pack("{s:s, s:[s], s:o, s:o, s:s}", "model_type", f->name,
                                  "architectures", class, "bos_token_id", id_or_null(l->eos),
                                  "eos_token_id", id_or_null(l->eos), "torch_dtype", "float32");
    if (c->family == FAMILY_GPT2)
        json_object_update_new(more,
                               json_pack("{s:I, s:f, s:f, s:f}", "n_ctx", (json_int_t)c->context,
                                         "resid_pdrop", 0.0, "embd_pdrop", 0.0, "attn_pdrop", 0.0));
    if (c->family == FAMILY_OPT)
        json_object_update_new(more, json_pack("{s:f, s:n}", "dropout", 0.0, "pad_token_id"));
    json_object_update(j, more);
    ours = json_pack("{s:s, s:s, s:I, s:o, s:s}", "checkpoint", l->id, "stage", l->stage, "step",
                     (json_int_t)l->step, "template", template_to_json(l->tmpl), "version",
                     RHETOR_VERSION);
    if (l->nstop > 0 && l->stop[0] != l->eos)
        json_object_set_new(ours, "stop", json_integer(l->stop[0]));
    json_object_set_new(j, "rhetor", ours);
    if (c->scalar_head) {
        json_object_set_new(j, "pad_token_id", json_integer(e->pad));
        json_object_set_new(j, "id2label", json_pack("{s:s}", "0", "reward"));
        json_object_set_new(j, "label2id", json_pack("{s:i}", "reward", 0));
        json_object_set_new(j, "problem_type", json_string("regression"));
    }
    return write_json(e, "config.json", j);
}

/* For transformers' generate: an answer ends with any of these. */
static int write_generation_config(const Export *e) {
    json_t *stop = json_array();
    for (int i = 0; i < e->model.nstop; i++)
        json_array_append_new(stop, json_integer(e->model.stop[i]));
    return write_json(
        e, "generation_config.json",
        json_pack("{s:o, s:o}", "bos_token_id", id_or_null(e->model.eos), "eos_token_id", stop));
}

/* --- the folder ------------------------------------------------------------------------------- */

static int check_folder(const char *dir) {
    char **names;
    int n = 0;
    if (file_exists(dir) && !file_is_dir(dir))
        return error_set(ERR_USAGE, "%s: is a file, expected a folder, new or empty", dir);
    if (file_is_dir(dir)) {
        TRY(file_list(dir, &names, &n));
        file_free_list(&names, n);
    }
    return n == 0 ? 0
                  : error_set(ERR_USAGE, "%s: holds %d files; choose a folder that is new or empty",
                              dir, n);
}

int hf_export(const char *path, const char *dir) {
    TRY(check_folder(dir));
    Export e = {.dir = dir, .pad = -1};
    int rc;
    TRY_GOTO(done, load_model(&e.model, path, "the model", LOAD_EITHER));
    e.cfg = e.model.cfg;
    const ArchField *unlike = arch_unlike(&e.cfg);
    if (unlike) {
        rc = error_set(ERR_CONFIG,
                       "%s: model.%s is %g; no Hugging Face model of the family %s has it so, and "
                       "transformers could not compute it",
                       e.model.path, unlike->name, arch_get(&e.cfg, unlike),
                       arch_family[e.cfg.family].name);
        goto done;
    }
    if (e.cfg.scalar_head) choose_pad(&e);
    TRY_GOTO(done, file_make_dirs(dir));
    TRY_GOTO(done, write_tensors(&e));
    if (e.model.tokenizer) TRY_GOTO(done, write_tokenizer(&e));
    if (e.model.nstop > 0 && e.pad < 0) TRY_GOTO(done, write_generation_config(&e));
    TRY_GOTO(done, write_config(&e)); /* last: with it the folder is a model */
done:
    load_free(&e.model);
    return rc < 0 ? rc : 0;
}
