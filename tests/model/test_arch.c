/* The tables of model/arch.h: what the walk over the parameters hands out, and the fields. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "model/gpt.h"

static const GptConfig base = {
    .vocab = 11, .context = 6, .layers = 2, .heads = 2, .width = 4, .bias = true, .norm_eps = 1e-5};

/* Names as published: Hugging Face's GPT2LMHeadModel, gguf-py's constants. */
static void test_names(void **state) {
    static const struct {
        int index;
        const char *name, *hf, *gguf;
        int64_t shape[2];
        bool transposed;
    } want[] = {
        {0, "wte.weight", "transformer.wte.weight", "token_embd.weight", {11, 4}, false},
        {1, "wpe.weight", "transformer.wpe.weight", "position_embd.weight", {6, 4}, false},
        {3, "h.0.norm1.bias", "transformer.h.0.ln_1.bias", "blk.0.attn_norm.bias", {4, 0}, false},
        {4,
         "h.0.attn.qkv.weight",
         "transformer.h.0.attn.c_attn.weight",
         "blk.0.attn_qkv.weight",
         {12, 4},
         true},
        {5,
         "h.0.attn.qkv.bias",
         "transformer.h.0.attn.c_attn.bias",
         "blk.0.attn_qkv.bias",
         {12, 0},
         false},
        {18,
         "h.1.attn.proj.weight",
         "transformer.h.1.attn.c_proj.weight",
         "blk.1.attn_output.weight",
         {4, 4},
         true},
        {24,
         "h.1.mlp.proj.weight",
         "transformer.h.1.mlp.c_proj.weight",
         "blk.1.ffn_down.weight",
         {4, 16},
         true},
        {27, "norm_f.bias", "transformer.ln_f.bias", "output_norm.bias", {4, 0}, false},
        {28, "lm_head.weight", "lm_head.weight", "output.weight", {11, 4}, false},
    };
    GptConfig cfg = base;
    cfg.untied = true;
    size_t k = 0;
    int n = 0;
    for (ArchParam p = {0}; arch_next(&cfg, &p); n++) {
        assert_int_equal(p.index, n);
        if (k == sizeof want / sizeof want[0] || want[k].index != n) continue;
        assert_string_equal(p.name, want[k].name);
        assert_string_equal(p.hf, want[k].hf);
        assert_string_equal(p.gguf, want[k].gguf);
        assert_memory_equal(p.shape, want[k].shape, sizeof p.shape);
        assert_int_equal(p.transposed, want[k].transposed);
        assert_int_equal(p.decay, want[k].shape[1] != 0);
        k++;
    }
    assert_int_equal(k, sizeof want / sizeof want[0]);
    assert_int_equal(n, 29);
}

/* The walk, the set without memory and an open model agree, for all that may be there or not. */
static void test_sets(void **state) {
    for (int i = 0; i < 6; i++) {
        GptConfig cfg = base;
        cfg.bias = i & 1, cfg.scalar_head = i & 2, cfg.untied = i & 4, cfg.layers = 1 + i % 3;
        ParamSet ps = {0};
        Gpt *g;
        arch_params(&cfg, &ps);
        assert_null(ps.data);
        assert_int_equal(gpt_open(&g, &cfg, false), 0);
        assert_int_equal(ps.n, g->params.n);
        assert_int_equal(ps.size, g->params.size);
        assert_int_equal(ps.count, arch_count(&cfg));
        assert_int_equal(ps.nparts, cfg.layers + 2);
        assert_int_equal(ps.part[0].throughout, !cfg.untied && !cfg.scalar_head);
        for (ArchParam p = {0}; arch_next(&cfg, &p);) {
            assert_string_equal(p.name, g->params.v[p.index].name);
            assert_int_equal(p.n, tensor_size(&g->params.v[p.index].tensor));
            const int part = p.layer >= 0 ? p.layer + 1 : p.index < 2 ? 0 : ps.nparts - 1;
            assert_true(p.index >= ps.part[part].first);
            if (part + 1 < ps.nparts) assert_true(p.index < ps.part[part + 1].first);
        }
        assert_ptr_equal(g->block[cfg.layers - 1].fc2_w->data,
                         paramset_find(&g->params, cfg.layers == 1   ? "h.0.mlp.proj.weight"
                                                   : cfg.layers == 2 ? "h.1.mlp.proj.weight"
                                                                     : "h.2.mlp.proj.weight")
                             ->data);
        paramset_free(&ps);
        gpt_close(&g);
    }
}

/* Whatever field differs is found, and survives the description. */
static void test_fields(void **state) {
    for (int i = 0; i < arch_nfields; i++) {
        const ArchField *f = &arch_fields[i];
        GptConfig a = base, b;
        arch_set(&a, f, f->type == ARCH_REAL ? 0.25 : f->type == ARCH_FLAG ? !arch_get(&a, f) : 1);
        json_t *j = arch_to_json(&a);
        assert_int_equal(arch_from_json(&b, j), 0);
        assert_memory_equal(&a, &b, offsetof(GptConfig, norm_eps));
        assert_true(a.norm_eps == b.norm_eps);
        assert_ptr_equal(arch_differ(&a, &base), strcmp(f->name, "scalar_head") == 0 ? NULL : f);
        json_object_set_new(j, f->name, json_string("x"));
        assert_int_equal(arch_from_json(&b, j), ERR_DATA);
        assert_non_null(strstr(error_message(), f->name));
        json_decref(j);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_sets),
        cmocka_unit_test(test_fields),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
