/* Models of every family to GGUF and back: the same bits, tokenizer, template and ends of answers;
 * what the file cannot say is refused, and so is what it says that Rhetor does not have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "checkpoints/exchange/gguf_model.h"
#include "checkpoints/exchange/half.h"
#include "checkpoints/exchange/load.h"
#include "tests/base/scratch.h"
#include "tests/data/tokens.h"
#include "tests/train/lab.h"

static Tokenizer *bytes;
static char *file, *again, *out;

static int make(void **state) {
    assert_int_equal(scratch_make(NULL), 0);
    OK(comm_open_alone(&comm));
    bytes = tokens_bytes();
    file = scratch("m.gguf");
    again = scratch("again.gguf");
    out = scratch("out.h5");
    return 0;
}

static int clear(void **state) {
    free(file);
    free(again);
    free(out);
    tokenizer_close(&bytes);
    comm_close(&comm);
    return scratch_remove(NULL);
}

static GptConfig config(ArchFamily family) {
    const GptConfig size = {
        .vocab = 260, .context = 64, .layers = 2, .heads = 4, .width = 32, .ffn = 64};
    GptConfig c = family_of(size, family);
    if (c.rope && c.rope_columns == 0) c.rope_columns = arch_head(&c);
    return c;
}

static void import_anew(const char *path) {
    AUTOFREE char *manifest = scratch("out.json");
    OK(file_remove(out));
    OK(file_remove(manifest));
    OK(gguf_import(path, out, NULL, NULL));
}

/* The same numbers; of a type of fewer bits, rounded to it. */
static void assert_same(const Gpt *a, const Gpt *b, GgufType type) {
    assert_int_equal(a->params.n, b->params.n);
    for (int i = 0; i < a->params.n; i++) {
        const Tensor *x = &a->params.v[i].tensor, *y = &b->params.v[i].tensor;
        assert_int_equal(tensor_size(x), tensor_size(y));
        for (int64_t j = 0; j < tensor_size(x); j++) {
            const float want = type == GGUF_BF16 && x->ndim == 2
                                   ? bfloat_read(bfloat_write((float)x->data[j]))
                                   : (float)x->data[j];
            if ((float)y->data[j] != want) fail_msg("%s[%d]", a->params.v[i].name, (int)j);
        }
    }
}

static void test_families(void **state) {
    int families = 0;
    for (int f = 0; f < FAMILIES; f++) {
        if (!arch_family[f].gguf) continue;
        families++;
        GptConfig cfg = config((ArchFamily)f);
        Gpt *g = random_gpt(cfg, (uint64_t)f + 1);
        AUTOFREE char *name = xasprintf("run%d", f), *dir = scratch(name);
        lab_save(dir, STAGE_SFT, g, bytes, TEMPLATE_ALPACA, NULL);
        static const GgufType types[] = {GGUF_F32, GGUF_BF16, GGUF_Q8_0};
        for (int k = 0; k < 3; k++) {
            Loaded l;
            OK(file_remove(file));
            OK(file_remove(again));
            OK(gguf_export(dir, file, types[k]));
            import_anew(file);
            OK(load_model(&l, out, "the model", LOAD_LANGUAGE));
            const ArchField *differ = arch_differ(&l.cfg, &cfg);
            if (differ) fail_msg("%s: %s", arch_family[f].name, differ->name);
            if (types[k] != GGUF_Q8_0) assert_same(g, l.gpt, types[k]);
            assert_int_equal(l.tmpl, TEMPLATE_ALPACA);
            assert_int_equal(l.eos, tokenizer_eos(bytes));
            assert_int_equal(tokenizer_hash(l.tokenizer), tokenizer_hash(bytes));
            load_free(&l);
            OK(gguf_export(out, again, types[k])); /* and the values are the file's from now on */
            Gguf *a, *b;
            int n;
            OK(gguf_open(&a, file));
            OK(gguf_open(&b, again));
            const GgufTensor *t = gguf_list(a, &n);
            for (int i = 0; i < n; i++) {
                AUTOFREE float *x = xmalloc((size_t)t[i].n * sizeof *x),
                               *y = xmalloc((size_t)t[i].n * sizeof *y);
                OK(gguf_read(a, &t[i], 0, t[i].n, x));
                OK(gguf_read(b, gguf_find(b, t[i].name), 0, t[i].n, y));
                assert_memory_equal(x, y, (size_t)t[i].n * sizeof *x);
            }
            gguf_close(&a);
            gguf_close(&b);
        }
        gpt_close(&g);
    }
    assert_int_equal(families, 5);
}

/* Rows of q and k lie in pairs in files of llama, and only there. */
static void test_order(void **state) {
    static const ArchFamily families[] = {FAMILY_LLAMA, FAMILY_QWEN2};
    for (int k = 0; k < 2; k++) {
        Gpt *g = random_gpt(config(families[k]), 7);
        AUTOFREE char *dir = scratch(k ? "order2" : "order1");
        lab_save(dir, STAGE_SFT, g, bytes, TEMPLATE_PLAIN, NULL);
        OK(file_remove(file));
        OK(gguf_export(dir, file, GGUF_F32));
        Gguf *f;
        float x[32];
        OK(gguf_open(&f, file));
        OK(gguf_read(f, gguf_find(f, "blk.1.attn_k.weight"), 3 * 32, 32,
                     x)); /* row 3, heads of 8 */
        const Tensor *t = paramset_find(&g->params, "h.1.attn.qkv.weight");
        const int64_t row = 32 + (k ? 3 : 3 % 2 * 4 + 3 / 2);
        for (int i = 0; i < 32; i++) assert_true(x[i] == (float)t->data[row * 32 + i]);
        gguf_close(&f);
        gpt_close(&g);
    }
}

/* A model of llama with a pair of metadata or a tensor more or less. */
static void refuse(const char *key, json_t *value, const char *drop, const char *says) {
    Gguf *g;
    int n, m = 0;
    GgufTensor t[64];
    OK(gguf_open(&g, file));
    const GgufTensor *v = gguf_list(g, &n);
    json_t *meta = json_deep_copy(gguf_meta(g));
    if (key && value) json_object_set_new(meta, key, value);
    if (key && !value) json_object_del(meta, key);
    for (int i = 0; i < n; i++)
        if (!drop || strcmp(v[i].name, drop) != 0) t[m++] = v[i];
    if (drop && m == n)
        t[m++] = (GgufTensor){.name = (char *)(uintptr_t)drop, .ndim = 1, .shape = {4}, .n = 4};
    OK(file_remove(again));
    GgufWriter *w;
    OK(gguf_create(&w, again, meta, t, m));
    for (int i = 0; i < m; i++) {
        AUTOFREE float *x = xcalloc((size_t)t[i].n, sizeof *x);
        const bool zeros = (!key && !drop) || !gguf_find(g, t[i].name);
        if (!zeros) OK(gguf_read(g, gguf_find(g, t[i].name), 0, t[i].n, x));
        OK(gguf_write(w, x, t[i].n));
    }
    OK(gguf_commit(&w));
    if (says)
        FAILS(gguf_import(again, out, NULL, NULL), ERR_DATA, again, says);
    else
        import_anew(again);
    json_decref(meta);
    gguf_close(&g);
}

static void test_refused(void **state) {
    Gpt *g = random_gpt(config(FAMILY_LLAMA), 9);
    AUTOFREE char *dir = scratch("llama");
    lab_save(dir, STAGE_SFT, g, bytes, TEMPLATE_PLAIN, NULL);
    gpt_close(&g);
    OK(file_remove(file));
    OK(gguf_export(dir, file, GGUF_F32));
    FAILS(gguf_export(dir, file, GGUF_F32), ERR_USAGE, file, "choose a new name");
    refuse("general.architecture", json_string("mamba"), NULL, "expected one of gpt2, llama");
    refuse("general.architecture", NULL, NULL, "(none)");
    refuse("llama.expert_count", json_integer(8), NULL, "llama.expert_count is set");
    refuse("llama.rope.scaling.type", json_string("yarn"), NULL, "rope.scaling.type is set");
    refuse("llama.attention.sliding_window", json_integer(512), NULL, "sliding_window is set");
    refuse("llama.block_count", NULL, NULL, "block_count is not there");
    refuse("llama.block_count", json_integer(3), NULL, "no tensor blk.2.attn_norm.weight");
    refuse("llama.block_count", json_integer(1), NULL, "is none of a llama");
    refuse("llama.block_count", json_integer(1000000), NULL, "layers");
    refuse("llama.embedding_length", json_integer(64), NULL, "shape");
    refuse("llama.attention.head_count", json_integer(3), NULL, "divisor");
    refuse("llama.attention.layer_norm_rms_epsilon", NULL, NULL, "epsilon is not there");
    refuse("tokenizer.ggml.pre", json_string("none"), NULL, "not known");
    refuse("rhetor.template", json_string("\"none\""), NULL, "no chat template \"none\"");
    refuse("rhetor.template", NULL, NULL, NULL);
    refuse("tokenizer.chat_template", json_string("{{ x }}"), NULL, NULL);
    refuse(NULL, NULL, "blk.1.ffn_gate.weight", "no tensor blk.1.ffn_gate.weight");
    refuse(NULL, NULL, "token_embd.weight", "no matrix token_embd.weight");
    refuse(NULL, NULL, "blk.0.attn_q.bias", "blk.0.attn_q.bias is none of a llama");
    refuse(NULL, NULL, NULL, "rope_freqs.weight"); /* zeros divide nothing */

    /* a text that is none of the known templates, in a file that is not ours */
    Gguf *f;
    int n;
    OK(gguf_open(&f, file));
    json_t *meta = json_deep_copy(gguf_meta(f));
    json_object_del(meta, "rhetor.template");
    json_object_set_new(meta, "tokenizer.chat_template", json_string("{{ x }}"));
    const GgufTensor *t = gguf_list(f, &n);
    GgufWriter *w;
    OK(file_remove(again));
    OK(gguf_create(&w, again, meta, t, n));
    for (int i = 0; i < n; i++) {
        AUTOFREE float *x = xmalloc((size_t)t[i].n * sizeof *x);
        OK(gguf_read(f, &t[i], 0, t[i].n, x));
        OK(gguf_write(w, x, t[i].n));
    }
    OK(gguf_commit(&w));
    gguf_close(&f);
    json_decref(meta);
    FAILS(gguf_import(again, scratch_folder, NULL, NULL), ERR_DATA, again, "say which it is");
    FAILS(gguf_import(again, scratch_folder, NULL, "nope"), ERR_CONFIG, again, "there are plain");
    AUTOFREE char *named = scratch("named.h5");
    OK(gguf_import(again, named, NULL, "alpaca"));

    Gpt *rm = lab_model(true, 3);
    AUTOFREE char *rm_dir = scratch("rm");
    lab_save(rm_dir, STAGE_REWARD, rm, bytes, TEMPLATE_PLAIN, NULL);
    gpt_close(&rm);
    OK(file_remove(again));
    FAILS(gguf_export(rm_dir, again, GGUF_F32), ERR_DATA, rm_dir, "reward model");
    Gpt *opt = random_gpt(config(FAMILY_OPT), 9);
    AUTOFREE char *opt_dir = scratch("opt");
    lab_save(opt_dir, STAGE_SFT, opt, bytes, TEMPLATE_PLAIN, NULL);
    gpt_close(&opt);
    FAILS(gguf_export(opt_dir, again, GGUF_F32), ERR_DATA, opt_dir, "family opt");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_families),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, make, clear);
}
