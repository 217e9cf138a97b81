/* The families of models against Hugging Face's transformers (tests/golden/families): import, the
 * log-probability of every token, gradients, AdamW; export and import again; what is refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "checkpoints/exchange/hf.h"
#include "checkpoints/exchange/load.h"
#include "core/kernel.h"
#include "optim/optim.h"
#include "tests/base/scratch.h"
#include "tests/exchange/golden.h"

#define FOLDER "tests/golden/families/"
static const double LIMIT = 2e-5;

static const struct {
    const char *name;
    ArchFamily family;
    bool gradients;
} models[] = {
    {"llama3", FAMILY_LLAMA, true},      {"llama_old", FAMILY_LLAMA, false},
    {"llama_bare", FAMILY_LLAMA, false}, {"qwen2", FAMILY_QWEN2, false},
    {"qwen3", FAMILY_QWEN3, true},       {"qwen3_untied", FAMILY_QWEN3, false},
    {"neox", FAMILY_GPT_NEOX, true},     {"neox_serial", FAMILY_GPT_NEOX, false},
    {"opt", FAMILY_OPT, true},           {"gpt2_inner", FAMILY_GPT2, false},
};
enum { MODELS = sizeof models / sizeof models[0], T_MAX = 128 };

/* A text of the golden file: every token but the first is a target. */
typedef struct Golden {
    json_t *j;
    int32_t tokens[T_MAX];
    int64_t start[2];
    Batch b;
} Golden;

static void golden_read(Golden *g, const char *name) {
    char path[200];
    snprintf(path, sizeof path, FOLDER "%s.json", name);
    OK(json_read_file(&g->j, path));
    const json_t *tokens = json_object_get(g->j, "tokens");
    const int64_t n = (int64_t)json_array_size(tokens) - 1;
    for (int64_t i = 0; i <= n; i++)
        g->tokens[i] = (int32_t)json_integer_value(json_array_get(tokens, (size_t)i));
    g->start[0] = 0, g->start[1] = n;
    g->b = (Batch){
        .n = n, .nseq = 1, .tokens = g->tokens, .targets = g->tokens + 1, .start = g->start};
}

static void load(Loaded *l, const char *dir, const char *out) {
    OK(hf_import(dir, out, NULL, NULL));
    OK(load_model(l, out, "from.model", LOAD_EITHER));
}

/* The largest difference of a log-probability. */
static double gap_of(Gpt *g, const Golden *golden) {
    Arena arena = {0};
    Tape *t = tape_open(&arena, false);
    real logp[T_MAX];
    double gap = 0;
    gpt_score(g, t, &golden->b, NULL, 1, logp, NULL);
    for (int64_t i = 0; i < golden->b.n; i++) {
        const json_t *want = json_array_get(json_object_get(golden->j, "logp"), (size_t)i);
        gap = fmax(gap, fabs((double)logp[i] - json_number_value(want)));
    }
    tape_close(&t);
    arena_free(&arena);
    return gap;
}

static void test_log_probabilities(void **state) {
    for (int i = 0; i < MODELS; i++) {
        char *dir = xasprintf(FOLDER "%s", models[i].name), *out = scratch("model.h5");
        char *exported = scratch("exported"), *again = scratch("again.h5");
        Loaded l, m;
        Golden golden;
        golden_read(&golden, models[i].name);
        load(&l, dir, out);
        assert_int_equal(l.cfg.family, models[i].family);
        const double gap = gap_of(l.gpt, &golden);
        print_message("%-14s %4lld parameters, log-probabilities differ by %.1e at most\n",
                      models[i].name, (long long)l.gpt->params.count, gap);
        assert_true(gap <= LIMIT);

        OK(hf_export(out, exported));
        load(&m, exported, again);
        assert_null(arch_differ(&l.cfg, &m.cfg));
        assert_int_equal(l.cfg.family, m.cfg.family);
        assert_memory_equal(l.gpt->params.data, m.gpt->params.data,
                            (size_t)l.gpt->params.size * sizeof(real));
        load_free(&l), load_free(&m);
        json_decref(golden.j);
        free(dir), free(out), free(exported), free(again);
        scratch_remove(NULL);
        scratch_make(NULL);
    }
}

static double mean_loss(Gpt *g, Tape *t, const Golden *golden) {
    float weight[T_MAX];
    Batch b = golden->b;
    for (int64_t i = 0; i < b.n; i++) weight[i] = 1 / (float)b.n;
    b.weight = weight;
    paramset_zero_grad(&g->params);
    const double loss = gpt_loss(g, t, &b, NULL, NULL);
    tape_backward(t);
    tape_reset(t);
    return loss;
}

/* |ours - theirs| / |theirs| of each tensor of the file. */
static void compare_gradients(const Gpt *g, const char *name) {
    char *path = xasprintf(FOLDER "%s_grad.safetensors", name);
    SafeTensors *st = golden_file(path);
    for (ArchParam p = {0}; arch_next(&g->cfg, &p);) {
        ArchPiece q[ARCH_PIECES];
        const int n = arch_pieces(&g->cfg, &p, ARCH_HF, q);
        assert_true(n > 0);
        for (int k = 0; k < n; k++) {
            int64_t size, rows, cols;
            double *want = golden_get(st, q[k].name, &size, &rows, &cols), gap = 0, norm = 0;
            const int64_t width = p.ndim == 2 ? p.shape[1] : 1;
            assert_int_equal(size, (q[k].rows + q[k].skip) * width);
            for (int64_t i = 0; i < size; i++) {
                const int64_t row = arch_row(&g->cfg, &q[k], i / width);
                const real *grad = g->params.v[p.index].tensor.grad;
                if (row < 0) continue;
                gap += pow((double)grad[(q[k].row + row) * width + i % width] - want[i], 2);
                norm += want[i] * want[i];
            }
            /* a bias of keys has none: rounding is all that is there */
            if (!(sqrt(gap) <= 2e-5 * sqrt(norm) + 1e-7))
                fail_msg("%s: %s: gradients differ by %.2g of %.2g", name, q[k].name, sqrt(gap),
                         sqrt(norm));
            free(want);
        }
    }
    safetensors_close(&st);
    free(path);
}

static void test_gradients(void **state) {
    for (int i = 0; i < MODELS; i++) {
        if (!models[i].gradients) continue;
        char *dir = xasprintf(FOLDER "%s", models[i].name), *out = scratch("model.h5");
        Loaded l;
        Gpt *g;
        Golden golden;
        golden_read(&golden, models[i].name);
        load(&l, dir, out);
        assert_int_equal(gpt_open(&g, &l.cfg, true), 0);
        OK(gpt_copy(g, l.gpt));
        Arena arena = {0};
        Tape *t = tape_open(&arena, true);
        AdamW adam;
        adamw_init(&adam, &g->params, NULL, 0.9, 0.95, 1e-8, 0);
        for (size_t step = 0; step < 4; step++) {
            const json_t *losses = json_object_get(golden.j, "losses");
            const double want = json_number_value(json_array_get(losses, step));
            const double loss = mean_loss(g, t, &golden);
            if (!(fabs(loss - want) <= 1e-5 * (double)(1 + 4 * step)))
                fail_msg("%s: loss %.8g after %zu steps of AdamW, expected %.8g", models[i].name,
                         loss, step, want);
            if (step == 0) compare_gradients(g, models[i].name);
            adamw_update(&adam, &g->params, 1e-2, 1);
        }
        adamw_free(&adam);
        tape_close(&t);
        arena_free(&arena);
        gpt_close(&g);
        load_free(&l);
        json_decref(golden.j);
        free(dir), free(out);
        scratch_remove(NULL);
        scratch_make(NULL);
    }
}

/* --- what is refused, by name ----------------------------------------------------------------- */

static void link_tensors(const char *model, const char *dir) {
    char *from = xasprintf(FOLDER "%s", model), **names;
    int n;
    OK(file_list(from, &names, &n));
    for (int i = 0; i < n; i++) {
        if (strcmp(names[i], "config.json") == 0) continue;
        char *path = file_join(from, names[i]), *real_path = realpath(path, NULL);
        char *to = file_join(dir, names[i]);
        assert_int_equal(symlink(real_path, to), 0);
        free(path), free(real_path), free(to);
    }
    file_free_list(&names, n);
    free(from);
}

/* config.json of a model with `change` in it: a JSON object whose nulls take members away. */
static void refused(const char *model, const char *change, const char *says) {
    char *dir = scratch("changed"), *config = file_join(dir, "config.json");
    char *from = xasprintf(FOLDER "%s/config.json", model), *out = scratch("no.h5");
    json_t *j, *more, *v;
    const char *key;
    OK(json_read_file(&j, from));
    OK(json_parse(&more, change, strlen(change), "change", 1));
    json_object_foreach(more, key, v) {
        if (json_is_null(v))
            json_object_del(j, key);
        else
            json_object_set(j, key, v);
    }
    OK(file_make_dirs(dir));
    OK(json_write_file(j, config));
    link_tensors(model, dir);
    const int rc = hf_import(dir, out, NULL, NULL);
    if (rc != ERR_DATA || !strstr(error_message(), says))
        fail_msg("%s with %s: \"%s\", expected \"%s\"", model, change, error_message(), says);
    assert_false(file_exists(out));
    json_decref(j), json_decref(more);
    scratch_clear(dir);
    free(dir), free(config), free(from), free(out);
}

static void test_refused(void **state) {
    refused("llama3", "{\"attention_bias\": true}", "\"attention_bias\" is true, expected false");
    refused("llama3", "{\"mlp_bias\": true}", "\"mlp_bias\" is true, expected false");
    refused("llama3", "{\"hidden_act\": \"gelu\"}", "\"hidden_act\" is \"gelu\", expected silu");
    refused("llama3", "{\"model_type\": \"mixtral\"}", "\"model_type\" is \"mixtral\", expected");
    refused("llama3", "{\"quantization_config\": {\"bits\": 4}}", "\"quantization_config\" is");
    refused("llama3", "{\"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 4}}",
            "\"rope_type\" is \"yarn\", expected default or llama3");
    refused("llama3", "{\"rope_parameters\": null, \"rope_scaling\": {\"type\": \"linear\"}}",
            "\"rope_type\" is \"linear\"");
    refused("llama3", "{\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 4}}",
            "\"rope_parameters\" is");
    refused("llama3", "{\"rope_theta\": 7}", "\"rope_theta\" is 7, expected");
    refused("llama3", "{\"rope_parameters\": {\"rope_type\": \"llama3\", \"factor\": 8}}",
            "\"low_freq_factor\" of the rotary positions is missing");
    refused("llama3", "{\"rope_parameters\": {\"full_attention\": {}}}", "the same in all layers");
    refused("llama3", "{\"rope_parameters\": {\"partial_rotary_factor\": 0.5}}",
            "\"partial_rotary_factor\" is 0.5, expected 1");
    refused("llama3", "{\"num_key_value_heads\": 4}", "no multiple of \"num_key_value_heads\" 4");
    refused("llama3", "{\"num_key_value_heads\": 0}", "\"num_key_value_heads\" is 0, expected 1");
    refused("llama3", "{\"num_key_value_heads\": null}", "describes a model of 16560");
    refused("llama3", "{\"head_dim\": null}", "expected [24, 24]");
    refused("llama3", "{\"hidden_size\": null}", "\"hidden_size\" is missing");
    refused("llama3", "{\"intermediate_size\": null}", "\"intermediate_size\" is missing");
    refused("llama3", "{\"tie_word_embeddings\": null}", "not tied to the embedding");
    refused("llama_old", "{\"tie_word_embeddings\": true}", "differs from the embedding");
    refused("llama_old", "{\"model_type\": \"qwen2\", \"architectures\": [\"Qwen2ForCausalLM\"]}",
            "no tensor model.layers.0.self_attn.q_proj.bias");
    refused("qwen2", "{\"model_type\": \"llama\", \"architectures\": [\"LlamaForCausalLM\"]}",
            "k_proj.bias: is no tensor of the Llama");
    refused("qwen2", "{\"num_key_value_heads\": null}",
            "no multiple of \"num_key_value_heads\" 32");
    refused("qwen2", "{\"layer_types\": [\"full_attention\", \"sliding_attention\"]}",
            "\"layer_types\" is \"sliding_attention\"");
    refused("qwen2",
            "{\"layer_types\": null, \"use_sliding_window\": true, \"max_window_layers\": 1}",
            "\"use_sliding_window\" is true");
    refused("qwen3", "{\"attention_bias\": true}", "\"attention_bias\" is true");
    refused("qwen3", "{\"head_dim\": null}", "describes a model of 57008");
    refused("qwen3", "{\"architectures\": [\"Qwen3ForSequenceClassification\"]}",
            "expected a language model, Qwen3ForCausalLM");
    refused("neox", "{\"attention_bias\": false}", "\"attention_bias\" is false, expected true");
    refused("neox", "{\"rope_parameters\": {\"partial_rotary_factor\": 0.2}}", "rotated in pairs");
    refused("neox", "{\"hidden_act\": \"quick_gelu\"}", "\"hidden_act\" is \"quick_gelu\"");
    refused("opt", "{\"word_embed_proj_dim\": 12}", "\"word_embed_proj_dim\" is 12");
    refused("opt", "{\"do_layer_norm_before\": false}", "\"do_layer_norm_before\" is false");
    refused("opt", "{\"enable_bias\": false}", "\"enable_bias\" is false");
    refused("opt", "{\"_remove_final_layer_norm\": true}", "\"_remove_final_layer_norm\" is true");
    refused("opt", "{\"max_position_embeddings\": 60}", "[66, 24], expected [62, 24]");
}

/* Switches that no file of the family can say. */
static void test_unlike(void **state) {
    for (int f = 0; f < FAMILIES; f++) {
        GptConfig c = arch_family[f].is;
        c.family = f, c.vocab = 20, c.context = 8, c.layers = 1, c.heads = 2, c.width = 8;
        assert_null(arch_unlike(&c));
        c.parallel = !c.parallel;
        assert_int_equal(arch_unlike(&c) != NULL, f != FAMILY_GPT_NEOX);
        c.parallel = !c.parallel, c.mlp = c.mlp == MLP_SWIGLU ? MLP_RELU : MLP_SWIGLU;
        assert_string_equal(arch_unlike(&c)->name, "mlp");
        c.mlp = arch_family[f].is.mlp, c.head = 6;
        assert_int_equal(arch_unlike(&c) != NULL,
                         f == FAMILY_GPT2 || f == FAMILY_GPT_NEOX || f == FAMILY_OPT);
        c.head = 0, c.rope = !c.rope, c.rope_theta = 10;
        assert_string_equal(arch_unlike(&c)->name, "rope");
    }
}

int main(void) {
    core_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_log_probabilities, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(test_gradients, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(test_refused, scratch_make, scratch_remove),
        cmocka_unit_test(test_unlike),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
