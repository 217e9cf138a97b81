/* Hugging Face's GPT-2, in and out: models that transformers saved and the log-probabilities it
 * gives (tests/golden/hf, made by hf_golden.py), exports read back, and folders that are not a
 * model. tests/peers/hf.py compares with transformers itself. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/json.h"
#include "checkpoints/checkpoint.h"
#include "checkpoints/exchange/hf.h"
#include "checkpoints/exchange/load.h"
#include "checkpoints/exchange/safetensors.h"
#include "tests/base/scratch.h"
#include "tests/data/tokens.h"
#include "tests/train/lab.h"

#define GOLDEN "tests/golden/hf/"

static Tokenizer *bytes;
static char *folder, *out; /* a folder for models, a checkpoint */

static void empty(const char *dir) {
    char **names;
    int n;
    if (!file_is_dir(dir)) return;
    OK(file_list(dir, &names, &n));
    for (int i = 0; i < n; i++) {
        char *path = file_join(dir, names[i]);
        unlink(path);
        free(path);
    }
    file_free_list(&names, n);
}

static int make(void **state) {
    if (scratch_make(NULL) != 0) return -1;
    OK(comm_open_alone(&comm));
    bytes = tokens_bytes();
    folder = scratch("model");
    out = scratch("out.h5");
    return 0;
}

static int clear(void **state) {
    empty(folder);
    free(folder);
    free(out);
    tokenizer_close(&bytes);
    comm_close(&comm);
    return scratch_remove(NULL);
}

static void forget_out(void) {
    char *manifest = scratch("out.json");
    unlink(out);
    unlink(manifest);
    free(manifest);
}

/* --- in --------------------------------------------------------------------------------------- */

/* The model in `dir`, imported, against what transformers computed for `name`. */
static void check_golden(const char *dir, const char *name) {
    json_t *expected;
    OK(json_read_file(&expected, GOLDEN "expected.json"));
    const json_t *ids = json_object_get(expected, "tokens");
    const int64_t n = (int64_t)json_array_size(ids) - 1, start[2] = {0, n};
    int32_t tokens[64];
    real logp[64];
    for (int64_t i = 0; i <= n; i++)
        tokens[i] = (int32_t)json_integer_value(json_array_get(ids, (size_t)i));
    Loaded l;
    Arena arena = {0};
    Tape *tape = tape_open(&arena, false);
    OK(hf_import(dir, out, NULL, NULL));
    OK(load_model(&l, out, "from.model", LOAD_EITHER));
    const GptConfig *c = &l.gpt->cfg;
    assert_true(c->vocab == 40 && c->context == 12 && c->width == 8 && c->layers == 2);
    assert_int_equal(c->heads, 2);
    assert_true(!c->scalar_head && c->norm_eps == 1e-5);
    assert_string_equal(l.stage, "import");
    const Batch b = {.n = n, .nseq = 1, .tokens = tokens, .targets = tokens + 1, .start = start};
    gpt_score(l.gpt, tape, &b, NULL, 1, logp, NULL);
    for (int64_t i = 0; i < n; i++) {
        const double want =
            json_number_value(json_array_get(json_object_get(expected, name), (size_t)i));
        if (!(fabs((double)logp[i] - want) < 1e-5))
            fail_msg("%s[%lld]: %.9g, expected %.9g", name, (long long)i, (double)logp[i], want);
    }
    FAILS(hf_import(dir, out, NULL, NULL), ERR_USAGE, out, "is there already");
    FAILS(load_model(&(Loaded){0}, out, "from.model", LOAD_LANGUAGE), ERR_CONFIG, "from.model",
          "without a tokenizer");
    load_free(&l);
    tape_close(&tape);
    arena_free(&arena);
    json_decref(expected);
}

static void test_golden(void **state) {
    static const char *const models[] = {"tied", "untied_gelu_bf16", "sharded_fp16",
                                         "bare_no_bias"};
    for (int k = 0; k < 4; k++) {
        char *dir = xasprintf(GOLDEN "%s", models[k]);
        Loaded l;
        check_golden(dir, models[k]);
        OK(load_model(&l, out, "from.model", LOAD_EITHER));
        assert_int_equal(l.cfg.untied, k == 1);
        assert_int_equal(l.cfg.mlp, k == 1 ? MLP_GELU_ERF : MLP_GELU_TANH);
        assert_int_equal(l.cfg.bias, k != 3);
        load_free(&l);
        forget_out();
        free(dir);
    }
}

static void write_text(const char *name, const char *text) {
    char *path = file_join(folder, name);
    OK(file_make_dirs(folder));
    scratch_text(path, text);
    free(path);
}

/* A copy of the golden model "tied" without the members of config.json that go by these names;
 * `more` instead. */
static void copy_golden(const char *const *without, const char *more) {
    char *bytes_of, *text, *path = file_join(folder, "model.safetensors");
    size_t len;
    json_t *j, *add;
    OK(file_make_dirs(folder));
    OK(file_read(GOLDEN "tied/model.safetensors", &bytes_of, &len));
    scratch_write(path, bytes_of, len);
    OK(json_read_file(&j, GOLDEN "tied/config.json"));
    for (; *without; without++) assert_int_equal(json_object_del(j, *without), 0);
    OK(json_parse(&add, more, strlen(more), "more", 1));
    json_object_update(j, add);
    text = json_dumps(j, 0);
    write_text("config.json", text);
    json_decref(j);
    json_decref(add);
    free(bytes_of);
    free(text);
    free(path);
}

/* The names that GPT2Config knows too. With the defaults instead (12 heads) this is no model. */
static void test_aliases(void **state) {
    static const char *const short_names[] = {"n_head", "n_embd", "n_layer", "n_positions", NULL};
    copy_golden(short_names, "{\"num_attention_heads\": 2, \"hidden_size\": 8, "
                             "\"num_hidden_layers\": 2, \"max_position_embeddings\": 12}");
    check_golden(folder, "tied");
    forget_out();
    copy_golden(short_names + 4, "{\"num_attention_heads\": 2}"); /* both, and they agree */
    check_golden(folder, "tied");
    forget_out();
    copy_golden(short_names + 4, "{\"num_attention_heads\": 4}");
    FAILS(hf_import(folder, out, NULL, NULL), ERR_DATA, folder,
          "\"num_attention_heads\" is 4, expected what \"n_head\" is");
    empty(folder);
}

/* A tied model of which the matrix that makes the logits was saved, not wte. */
static void test_only_lm_head(void **state) {
    copy_golden((const char *const[]){NULL}, "{}");
    char *path = file_join(folder, "model.safetensors"), *text;
    static const char from[] = "\"transformer.wte.weight\"", to[] = "\"lm_head.weight\"";
    size_t len;
    OK(file_read(path, &text, &len));
    char *at = memmem(text, len, from, strlen(from));
    assert_non_null(at);
    /* what follows moves up; the header is padded with spaces */
    int64_t header;
    memcpy(&header, text, sizeof header);
    char *const end = text + 8 + header, *const rest = at + strlen(from);
    memcpy(at, to, strlen(to));
    memmove(at + strlen(to), rest, (size_t)(end - rest));
    memset(end - (strlen(from) - strlen(to)), ' ', strlen(from) - strlen(to));
    scratch_write(path, text, len);
    check_golden(folder, "tied");
    forget_out();
    empty(folder);
    free(path);
    free(text);
}

/* The tokens that end a text: generation_config, config, the tokenizer's settings; kept by a run
 * that goes on from it, and exported again. */
static void test_stops(void **state) {
    static const struct {
        const char *generation, *config, *tokenizer;
        int n;
        int32_t stop[3];
    } w[] = {
        {NULL, "{}", NULL, 1, {0}}, /* nobody says: by name */
        {NULL, "{\"eos_token_id\": 7}", NULL, 1, {7}},
        {NULL, "{\"eos_token_id\": [7, 9]}", NULL, 2, {7, 9}},
        {"{\"eos_token_id\": 5}", "{\"eos_token_id\": 7}", NULL, 1, {5}},
        {"{\"eos_token_id\": [5, 33, 9]}", "{}", "{\"eos_token\": \"A\"}", 3, {33, 5, 9}},
        {"{\"eos_token_id\": null}", "{\"eos_token_id\": 7}", NULL, 1, {7}},
        {"{\"eos_token_id\": 300}", "{\"eos_token_id\": 7}", NULL, 1, {7}}, /* no such row */
        {"{}", "{}", "{\"eos_token\": {\"content\": \"A\"}}", 1, {33}},
    };
    for (size_t i = 0; i < sizeof w / sizeof w[0]; i++) {
        Gpt *g = random_gpt(
            (GptConfig){
                .vocab = 260, .context = 12, .layers = 1, .heads = 1, .width = 8, .bias = true},
            1);
        char *run = xasprintf("%s/stops%zu", scratch_folder, i);
        char *sft = xasprintf("%s/next%zu", scratch_folder, i);
        lab_save(run, STAGE_SFT, g, bytes, TEMPLATE_PLAIN, NULL);
        OK(hf_export(run, folder));
        char *path = file_join(folder, "config.json"), *text;
        json_t *j, *more;
        OK(json_read_file(&j, path));
        OK(json_parse(&more, w[i].config, strlen(w[i].config), "more", 1));
        json_object_del(j, "eos_token_id");
        json_object_update(j, more);
        text = json_dumps(j, 0);
        scratch_text(path, text);
        write_text("generation_config.json", w[i].generation ? w[i].generation : "{}");
        write_text("tokenizer_config.json", w[i].tokenizer ? w[i].tokenizer : "{}");
        Loaded l;
        OK(hf_import(folder, out, NULL, NULL));
        OK(load_model(&l, out, "from.model", LOAD_LANGUAGE));
        for (int again = 0; again < 3; again++) {
            assert_int_equal(l.nstop, w[i].n);
            assert_memory_equal(l.stop, w[i].stop, sizeof *l.stop * (size_t)w[i].n);
            assert_int_equal(tokenizer_eos(l.tokenizer), w[i].stop[0]);
            if (again == 2) break;
            forget_out();
            empty(folder);
            if (again == 0) lab_save(sft, STAGE_SFT, l.gpt, l.tokenizer, TEMPLATE_PLAIN, NULL);
            load_free(&l);
            OK(hf_export(sft, folder));
            if (again == 1) OK(hf_import(folder, out, NULL, NULL));
            OK(load_model(&l, again == 1 ? out : sft, "from.model", LOAD_LANGUAGE));
        }
        load_free(&l);
        forget_out();
        empty(folder);
        json_decref(j);
        json_decref(more);
        gpt_close(&g);
        free(text);
        free(path);
        free(run);
        free(sft);
    }
}

/* The weights of g in the folder, named as GPT2Model has them. */
static void write_others(const Gpt *g) {
    StTensor t[64];
    StWriter *w;
    int n = 0;
    OK(file_make_dirs(folder));
    ArchPiece q[ARCH_PIECES];
    for (ArchParam p = {0}; arch_next(&g->cfg, &p);) {
        assert_int_equal(arch_pieces(&g->cfg, &p, ARCH_HF, q), 1);
        const bool turned = q[0].order == ORDER_TRANSPOSED;
        t[n++] = (StTensor){.name = xstrdup(q[0].name + strlen("transformer.")),
                            .ndim = p.ndim,
                            .shape = {p.shape[turned], p.shape[!turned]}};
    }
    char *path = file_join(folder, "model.safetensors");
    OK(safetensors_create(&w, path, t, n));
    for (ArchParam p = {0}; arch_next(&g->cfg, &p);)
        for (int64_t i = 0; i < p.n; i++) {
            arch_pieces(&g->cfg, &p, ARCH_HF, q);
            const bool turned = q[0].order == ORDER_TRANSPOSED;
            const int64_t at = turned ? i % p.shape[0] * p.shape[1] + i / p.shape[0] : i;
            const float x = (float)g->params.v[p.index].tensor.data[at];
            OK(safetensors_write(w, &x, 1));
        }
    OK(safetensors_commit(&w));
    while (n > 0) free(t[--n].name);
    free(path);
}

/* Configurations that others wrote: for weights like theirs, and for their own where they are. */
static void test_others(void **state) {
    static const struct {
        const char *dir, *config;
        GptConfig cfg;
    } other[] = {
        {"../shared/data/weights/gpt_by_hand",
         "{\"model_type\": \"gpt2\", \"architectures\": [\"GPT2LMHeadModel\"], \"vocab_size\": 32, "
         "\"n_positions\": 8, \"n_ctx\": 8, \"n_embd\": 16, \"n_layer\": 2, \"n_head\": 2, "
         "\"activation_function\": \"gelu\", \"layer_norm_epsilon\": 1e-05, "
         "\"tie_word_embeddings\": true, \"bias\": false}",
         {.vocab = 32,
          .context = 8,
          .layers = 2,
          .heads = 2,
          .width = 16,
          .mlp = MLP_GELU_ERF,
          .norm_eps = 1e-5}},
        {"../shared/data/weights/lmbuddy_tiny_gpt2",
         "{\"activation_function\": \"gelu_new\", \"architectures\": [\"GPT2Model\"], "
         "\"attn_pdrop\": 0.1, \"bos_token_id\": 20, \"embd_pdrop\": 0.1, \"eos_token_id\": 20, "
         "\"layer_norm_epsilon\": 1e-05, \"model_type\": \"gpt2\", \"n_embd\": 2, \"n_head\": 1, "
         "\"n_inner\": null, \"n_layer\": 1, \"n_positions\": 1024, "
         "\"scale_attn_by_inverse_layer_idx\": false, \"scale_attn_weights\": true, "
         "\"summary_type\": \"cls_index\", \"use_cache\": true, \"vocab_size\": 21}",
         {.vocab = 21,
          .context = 1024,
          .layers = 1,
          .heads = 1,
          .width = 2,
          .bias = BIAS_ALL,
          .norm_eps = 1e-5}},
    };
    for (int i = 0; i < 2; i++) {
        Gpt *g = random_gpt(other[i].cfg, 1);
        for (int theirs = 0; theirs < 1 + file_is_dir(other[i].dir); theirs++) {
            Loaded l;
            if (!theirs) {
                write_others(g);
                write_text("config.json", other[i].config);
            }
            OK(hf_import(theirs ? other[i].dir : folder, out, NULL, NULL));
            OK(load_model(&l, out, "from.model", LOAD_EITHER));
            assert_null(arch_differ(&l.cfg, &other[i].cfg));
            if (!theirs)
                assert_memory_equal(l.gpt->params.data, g->params.data,
                                    sizeof(real) * (size_t)g->params.size);
            assert_int_equal(l.eos, i == 1 ? 20 : -1);
            load_free(&l);
            forget_out();
        }
        empty(folder);
        gpt_close(&g);
    }
}

/* --- out, and in again ------------------------------------------------------------------------ */

static Gpt *variant(int i) {
    return random_gpt((GptConfig){.vocab = i == 3 ? 260 : 257,
                                  .context = 16,
                                  .layers = 2,
                                  .heads = 2,
                                  .width = 24,
                                  .bias = i != 1,
                                  .mlp = i == 1 ? MLP_GELU_ERF : MLP_GELU_TANH,
                                  .untied = i == 2},
                      (uint64_t)i + 1);
}

static void test_round_trip(void **state) {
    Template roles;
    OK(template_roles(&(TemplateRoles){.system = "",
                                       .system_end = "\n",
                                       .user = "Q: ",
                                       .user_end = "\n",
                                       .assistant = "A: ",
                                       .assistant_end = ""},
                      &roles));
    for (int i = 0; i < 4; i++) {
        Gpt *g = variant(i);
        const Template tmpl = i == 3 ? roles : TEMPLATE_HH;
        Loaded l;
        char *run = xasprintf("%s/run%d", scratch_folder, i);
        lab_save(run, STAGE_SFT, g, bytes, tmpl, NULL);
        OK(hf_export(run, folder));
        OK(hf_import(folder, out, NULL, NULL));
        OK(load_model(&l, out, "from.model", LOAD_LANGUAGE));
        assert_int_equal(l.gpt->params.n, g->params.n);
        assert_memory_equal(l.gpt->params.data, g->params.data,
                            sizeof(real) * (size_t)g->params.size);
        json_t *have = arch_to_json(&l.gpt->cfg), *want = arch_to_json(&g->cfg);
        assert_true(json_equal(have, want));
        json_decref(have);
        json_decref(want);
        assert_int_equal(tokenizer_hash(l.tokenizer), tokenizer_hash(bytes));
        assert_int_equal(l.tmpl, tmpl);
        load_free(&l);
        FAILS(hf_export(run, folder), ERR_USAGE, folder, "new or empty");
        forget_out();
        OK(hf_import(folder, out, NULL, "alpaca"));
        OK(load_model(&l, out, "from.model", LOAD_TRUNK)); /* a reward model begins so */
        assert_int_equal(l.tmpl, TEMPLATE_ALPACA);
        load_free(&l);
        forget_out();
        FAILS(hf_import(folder, out, NULL, "klingon"), ERR_CONFIG, "klingon", "chatml");
        assert_false(file_exists(out));
        empty(folder);
        scratch_clear(run);
        free(run);
        gpt_close(&g);
    }
}

/* GPT2ForSequenceClassification's score is ours: their tensors in our model without a bias. */
static void test_reward_model(void **state) {
    for (int bias = 0; bias < 2; bias++) {
        GptConfig cfg = {.vocab = 257,
                         .context = 16,
                         .layers = 1,
                         .heads = 2,
                         .width = 16,
                         .bias = true,
                         .scalar_head = true};
        Gpt *theirs = random_gpt(cfg, 1);
        cfg.bias = bias;
        Gpt *g = random_gpt(cfg, 2);
        g->head_b->data[0] = (real)-1.75;
        char *run = scratch("rm"), *path = file_join(folder, "model.safetensors");
        lab_save(run, STAGE_REWARD, g, bytes, TEMPLATE_PLAIN, NULL);
        OK(hf_export(run, folder));

        for (int i = 0; i < theirs->params.n; i++) { /* the same trunk, biases 0 if it has none */
            Tensor *to = &theirs->params.v[i].tensor;
            const Tensor *from = paramset_find(&g->params, theirs->params.v[i].name);
            for (int64_t j = 0; j < tensor_size(to); j++) to->data[j] = from ? from->data[j] : 0;
        }
        SafeTensors *s;
        double x[16], pad[16];
        OK(safetensors_open(&s, path));
        OK(safetensors_read(s, safetensors_find(s, "score.weight"), 0, 16, x));
        for (int i = 0; i < 16; i++) assert_true(x[i] == (double)g->head_w->data[i]);
        OK(safetensors_read(s, safetensors_find(s, "transformer.ln_f.bias"), 0, 16, x));
        for (int i = 0; i < 16; i++) theirs->norm_f_b->data[i] = (real)x[i];
        theirs->head_b->data[0] = 0;
        const StTensor *wte = safetensors_find(s, "transformer.wte.weight");
        assert_true(wte->shape[0] == 258 && wte->shape[1] == 16);
        OK(safetensors_read(s, wte, 257 * 16, 16, pad));
        for (int i = 0; i < 16; i++) assert_true(pad[i] == 0);
        assert_null(safetensors_find(s, "lm_head.weight"));
        safetensors_close(&s);

        Arena arena = {0};
        Tape *tape = tape_open(&arena, false);
        const int32_t tokens[8] = {1, 2, 3, 250, 4, 5, 6, 256};
        const Batch b = {.n = 8, .nseq = 1, .tokens = tokens, .start = (int64_t[]){0, 8}};
        real want[8];
        memcpy(want, gpt_values(g, tape, &b, NULL)->data, sizeof want);
        const Tensor *have = gpt_values(theirs, tape, &b, NULL);
        for (int i = 0; i < 8; i++) assert_true(fabs((double)(have->data[i] - want[i])) < 1e-5);
        tape_close(&tape);
        arena_free(&arena);

        char *config_path = file_join(folder, "config.json"),
             *tokenizer_path = file_join(folder, "tokenizer.json");
        json_t *config, *tokenizer;
        OK(json_read_file(&config, config_path));
        OK(json_read_file(&tokenizer, tokenizer_path));
        assert_int_equal(json_integer_value(json_object_get(config, "pad_token_id")), 257);
        assert_int_equal(json_integer_value(json_object_get(config, "vocab_size")), 258);
        assert_int_equal(json_object_size(json_object_get(config, "id2label")), 1);
        const json_t *added = json_object_get(tokenizer, "added_tokens");
        const json_t *last = json_array_get(added, json_array_size(added) - 1);
        assert_int_equal(json_integer_value(json_object_get(last, "id")), 257);
        json_decref(config);
        json_decref(tokenizer);
        FAILS(hf_import(folder, out, NULL, NULL), ERR_DATA, config_path,
              "expected a language model");

        memset(g->head_w->data, 0, 16 * sizeof(real));
        empty(folder);
        scratch_clear(run);
        lab_save(run, STAGE_REWARD, g, bytes, TEMPLATE_PLAIN, NULL);
        FAILS(hf_export(run, folder), ERR_DATA, run, "weights of its head are 0");
        empty(folder);
        scratch_clear(run);
        free(config_path);
        free(tokenizer_path);
        free(run);
        free(path);
        gpt_close(&g);
        gpt_close(&theirs);
    }
}

/* --- what is no model ------------------------------------------------------------------------- */

static const char config[] = "{\"model_type\": \"gpt2\", \"vocab_size\": 5, \"n_positions\": 4, "
                             "\"n_embd\": 2, \"n_layer\": 1, "
                             "\"n_head\": 1}";

/* config with `more` put in before the end; jansson refuses a key given twice. */
static void write_config(const char *more) {
    char *text = xasprintf("%.*s, %s}", (int)strlen(config) - 1, config, more);
    write_text("config.json", text);
    free(text);
}

/* A model of that config; `without` is left out, `extra` added, `bad` has the shape [3] instead, or
 * with `value` one element is that. */
static void write_model(const char *without, const char *extra, const char *bad, float value) {
    StTensor t[20] = {
        {.name = "wte.weight", .ndim = 2, .shape = {5, 2}},
        {.name = "wpe.weight", .ndim = 2, .shape = {4, 2}},
        {.name = "h.0.ln_1.weight", .ndim = 1, .shape = {2}},
        {.name = "h.0.ln_1.bias", .ndim = 1, .shape = {2}},
        {.name = "h.0.attn.c_attn.weight", .ndim = 2, .shape = {2, 6}},
        {.name = "h.0.attn.c_attn.bias", .ndim = 1, .shape = {6}},
        {.name = "h.0.attn.c_proj.weight", .ndim = 2, .shape = {2, 2}},
        {.name = "h.0.attn.c_proj.bias", .ndim = 1, .shape = {2}},
        {.name = "h.0.ln_2.weight", .ndim = 1, .shape = {2}},
        {.name = "h.0.ln_2.bias", .ndim = 1, .shape = {2}},
        {.name = "h.0.mlp.c_fc.weight", .ndim = 2, .shape = {2, 8}},
        {.name = "h.0.mlp.c_fc.bias", .ndim = 1, .shape = {8}},
        {.name = "h.0.mlp.c_proj.weight", .ndim = 2, .shape = {8, 2}},
        {.name = "h.0.mlp.c_proj.bias", .ndim = 1, .shape = {2}},
        {.name = "ln_f.weight", .ndim = 1, .shape = {2}},
        {.name = "ln_f.bias", .ndim = 1, .shape = {2}},
        {.name = "filler", .ndim = 1, .shape = {100}}, /* more numbers than parameters */
    };
    int n = 17;
    if (!without && !extra && !bad) n = 16;
    if (extra) t[16].name = (char *)(uintptr_t)extra, t[16].shape[0] = 10;
    if (extra && strcmp(extra, "lm_head.weight") == 0)
        t[16].ndim = 2, t[16].shape[0] = 5, t[16].shape[1] = 2;
    for (int i = 0; i < n; i++) {
        if (without && strcmp(t[i].name, without) == 0) t[i--] = t[--n];
        if (bad && value == 0 && strcmp(t[i].name, bad) == 0) t[i].ndim = 1, t[i].shape[0] = 3;
    }
    OK(file_make_dirs(folder));
    char *path = file_join(folder, "model.safetensors");
    StWriter *w;
    OK(safetensors_create(&w, path, t, n));
    for (int i = 0; i < n; i++) {
        float x[100] = {0};
        int64_t count = t[i].shape[0] * (t[i].ndim == 2 ? t[i].shape[1] : 1);
        if (bad && strcmp(t[i].name, bad) == 0) x[1] = value;
        OK(safetensors_write(w, x, count));
    }
    OK(safetensors_commit(&w));
    free(path);
}

static void refused(const char *says) {
    FAILS(hf_import(folder, out, NULL, NULL), ERR_DATA, folder, says);
    assert_false(file_exists(out));
}

static void test_bad_config(void **state) {
    static const char *const bad[][2] = {
        {"{", "config.json:1"},
        {"[]", "config.json: not a JSON object"},
        {"{\"model_type\": \"mamba\"}",
         "\"model_type\" is \"mamba\", expected \"gpt2\", \"llama\""},
        {"{\"model_type\": 3}", "\"model_type\" is 3, expected"},
        {"{\"architectures\": [\"GPT2ForSequenceClassification\"]}", "expected a language model"},
        {"{\"vocab_size\": 0}", "\"vocab_size\" is 0, expected 1 to 2147483647"},
        {"{\"vocab_size\": \"5\"}", "\"vocab_size\" is \"5\", expected"},
        {"{\"n_layer\": 1.5}", "\"n_layer\" is 1.5, expected"},
        {"{\"n_layer\": 99999}", "\"n_layer\" is 99999, expected 1 to 4096"},
        {"{\"n_positions\": -1}", "\"n_positions\" is -1"},
        {"{\"n_embd\": 6, \"n_head\": 4}", "no multiple of \"n_head\" 4"},
        {"{\"n_inner\": 0}", "\"n_inner\" is 0, expected 1 to"},
        {"{\"layer_norm_epsilon\": 0}",
         "\"layer_norm_epsilon\" is 0, expected a number between 0 and 1"},
        {"{\"layer_norm_epsilon\": \"1e-5\"}", "\"layer_norm_epsilon\" is \"1e-5\", expected"},
        {"{\"activation_function\": \"silu\"}",
         "\"activation_function\" is \"silu\", expected gelu_new or gelu or"},
        {"{\"tie_word_embeddings\": 1}", "\"tie_word_embeddings\" is 1, expected true or false"},
        {"{\"scale_attn_weights\": false}", "\"scale_attn_weights\" is false, expected true"},
        {"{\"scale_attn_by_inverse_layer_idx\": true}", "expected false"},
        {"{\"rhetor\": {\"template\": 3}}", "neither a name nor an object"},
        {"{\"rhetor\": {\"stop\": 50257}}", "\"stop\" is no token"},
        {"{\"add_cross_attention\": true}", "\"add_cross_attention\" is true, expected false"},
    };
    FAILS(hf_import("no/where", out, NULL, NULL), ERR_IO, "no/where", "no such folder");
    char *file = scratch("model.gguf");
    scratch_text(file, "GGUF\3");
    FAILS(hf_import(file, out, NULL, NULL), ERR_DATA, file, "is a file, not a folder");
    scratch_text(file, "{}");
    FAILS(hf_import(file, out, NULL, NULL), ERR_DATA, file, "is a file, not a folder; expected");
    free(file);
    write_model(NULL, NULL, NULL, 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        write_text("config.json", bad[i][0]);
        refused(bad[i][1]);
    }
    empty(folder);
    assert_int_equal(hf_import(folder, out, NULL, NULL), ERR_IO); /* no config.json */
}

static void test_bad_tensors(void **state) {
    write_text("config.json", config);
    refused("neither model.safetensors nor model.safetensors.index.json");
    write_model("wte.weight", NULL, NULL, 0);
    refused("no tensor wte.weight, nor lm_head.weight that stands for it in a tied model");
    write_model("h.0.mlp.c_fc.weight", NULL, NULL, 0);
    refused("no tensor h.0.mlp.c_fc.weight");
    write_model("h.0.attn.c_proj.bias", NULL, NULL, 0);
    refused("no tensor h.0.attn.c_proj.bias");
    write_model(NULL, "h.1.ln_1.weight", NULL, 0);
    refused("h.1.ln_1.weight: is no tensor of the GPT2");
    write_model(NULL, "score.weight", NULL, 0);
    refused("score.weight: is no tensor");
    write_model(NULL, NULL, "h.0.attn.c_attn.weight", 0);
    refused("h.0.attn.c_attn.weight has the shape [3], expected [2, 6]");
    write_model(NULL, "h.0.attn.bias", "wpe.weight", (float)NAN);
    refused("wpe.weight: element 1 is");
    write_model(NULL, "h.0.attn.bias", "ln_f.bias", (float)INFINITY);
    refused("ln_f.bias: element 1 is inf");
    write_model(NULL, "lm_head.weight", "lm_head.weight", 3);
    refused("lm_head.weight: differs from the embedding");

    write_config("\"bias\": false");
    write_model(NULL, "h.0.attn.bias", "ln_f.bias", 2);
    refused("ln_f.bias: is not 0, but config.json says \"bias\": false");
    write_config("\"tie_word_embeddings\": false");
    write_model(NULL, "h.0.attn.bias", NULL, 0);
    refused("no tensor lm_head.weight, though config.json says that it is not tied");
    write_text("config.json", "{\"vocab_size\": 5, \"n_positions\": 4, \"n_embd\": 1048576, "
                              "\"n_layer\": 1, \"n_head\": 1}");
    refused("the tensors beside it have ");
    write_text("config.json", "{\"vocab_size\": 5, \"n_positions\": 4, \"n_embd\": 1048576, "
                              "\"n_layer\": 4096, \"n_head\": 1}");
    refused("no tensor h.1.ln_1.weight");

    write_text("config.json", config); /* and these are fine */
    write_model(NULL, "h.0.attn.masked_bias", NULL, 0);
    OK(hf_import(folder, out, NULL, NULL));
    forget_out();
    write_model(NULL, "lm_head.weight", NULL, 0);
    OK(hf_import(folder, out, NULL, NULL));
    forget_out();
    write_text("tokenizer.json", "{\"model\": {\"type\": \"WordPiece\"}}");
    refused("tokenizer.json");
    char *tokenizer = file_join(folder, "tokenizer.json");
    OK(tokenizer_save(bytes, tokenizer));
    refused("the tokenizer has 257 tokens, the model 5");
    free(tokenizer);
    char *no_suffix = scratch("model.ckpt");
    FAILS(hf_import(folder, no_suffix, NULL, NULL), ERR_DATA, folder, "257 tokens");
    empty(folder);
    write_text("config.json", config);
    write_model(NULL, NULL, NULL, 0);
    FAILS(hf_import(folder, no_suffix, NULL, NULL), ERR_USAGE, no_suffix, "ends with .h5");
    free(no_suffix);
    empty(folder);
}

static void test_bad_index(void **state) {
    static const char index[] = "model.safetensors.index.json";
    write_text("config.json", config);
    write_text(index, "{\"weight_map\": {\"wte.weight\": ");
    refused("model.safetensors.index.json:1");
    write_text(index, "{\"weight_map\": {}}");
    refused("no \"weight_map\"");
    write_text(index, "{\"weight_map\": {\"wte.weight\": 7}}");
    refused("wte.weight: expected the name of a file in this folder");
    write_text(index, "{\"weight_map\": {\"wte.weight\": \"../model.safetensors\"}}");
    refused("expected the name of a file in this folder");
    write_text(index, "{\"weight_map\": {\"wte.weight\": \"..\"}}");
    refused("expected the name of a file in this folder");
    write_text(index, "{\"weight_map\": {\"wte.weight\": \"nowhere.safetensors\"}}");
    FAILS(hf_import(folder, out, NULL, NULL), ERR_IO, "nowhere.safetensors", "No such file");
    write_model(NULL, NULL, NULL, 0);
    char *whole = file_join(folder, "model.safetensors"), *a = file_join(folder, "a.safetensors"),
         *b = file_join(folder, "b.safetensors");
    assert_int_equal(rename(whole, a), 0);
    write_text(index, "{\"weight_map\": {\"wte\": \"a.safetensors\"}}");
    refused("wte should be in a.safetensors, which has no such tensor");
    assert_int_equal(link(a, b), 0);
    write_text(index, "{\"weight_map\": {\"wte.weight\": \"a.safetensors\", "
                      "\"wpe.weight\": \"b.safetensors\"}}");
    refused("is also in ");
    write_text(index, "{\"weight_map\": {\"wte.weight\": \"a.safetensors\"}}");
    OK(hf_import(folder, out, NULL, NULL));
    forget_out();
    free(whole);
    free(a);
    free(b);
    empty(folder);
}

int main(void) {
    core_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),       cmocka_unit_test(test_others),
        cmocka_unit_test(test_aliases),      cmocka_unit_test(test_only_lm_head),
        cmocka_unit_test(test_stops),        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_reward_model), cmocka_unit_test(test_bad_config),
        cmocka_unit_test(test_bad_tensors),  cmocka_unit_test(test_bad_index),
    };
    return cmocka_run_group_tests(tests, make, clear);
}
