/* The tables of model/arch.h: what the walk over the parameters hands out, and the fields. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "tests/model/random_gpt.h"

static const GptConfig base = {
    .vocab = 11, .context = 6, .layers = 2, .heads = 2, .width = 4, .bias = true, .norm_eps = 1e-5};

/* Names as published: Hugging Face's ...ForCausalLM, gguf-py's constants. */
static void test_names(void **state) {
    static const struct {
        ArchFamily family;
        const char *name, *hf, *gguf; /* of several pieces: the last one's */
        int64_t row, rows;
        ArchOrder hf_order, gguf_order;
    } want[] = {
        {0, "wte.weight", "transformer.wte.weight", "token_embd.weight", 0, 11, 0, 0},
        {0, "wpe.weight", "transformer.wpe.weight", "position_embd.weight", 0, 6, 0, 0},
        {0, "h.0.norm1.bias", "transformer.h.0.ln_1.bias", "blk.0.attn_norm.bias", 0, 4, 0, 0},
        {0, "h.0.attn.qkv.weight", "transformer.h.0.attn.c_attn.weight", "blk.0.attn_qkv.weight", 0,
         12, ORDER_TRANSPOSED, 0},
        {0, "h.1.attn.qkv.bias", "transformer.h.1.attn.c_attn.bias", "blk.1.attn_qkv.bias", 0, 12,
         0, 0},
        {0, "h.1.mlp.proj.weight", "transformer.h.1.mlp.c_proj.weight", "blk.1.ffn_down.weight", 0,
         4, ORDER_TRANSPOSED, 0},
        {0, "lm_head.weight", "lm_head.weight", "output.weight", 0, 11, 0, 0},
        {FAMILY_LLAMA, "wte.weight", "model.embed_tokens.weight", "token_embd.weight", 0, 11, 0, 0},
        {FAMILY_LLAMA, "h.1.attn.qkv.weight", "model.layers.1.self_attn.v_proj.weight",
         "blk.1.attn_v.weight", 6, 2, 0, 0},
        {FAMILY_LLAMA, "h.0.mlp.fc.weight", "model.layers.0.mlp.up_proj.weight",
         "blk.0.ffn_up.weight", 7, 7, 0, 0},
        {FAMILY_LLAMA, "h.0.norm2.weight", "model.layers.0.post_attention_layernorm.weight",
         "blk.0.ffn_norm.weight", 0, 4, 0, 0},
        {FAMILY_LLAMA, "norm_f.weight", "model.norm.weight", "output_norm.weight", 0, 4, 0, 0},
        {FAMILY_QWEN2, "h.0.attn.qkv.bias", "model.layers.0.self_attn.v_proj.bias",
         "blk.0.attn_v.bias", 6, 2, 0, 0},
        {FAMILY_QWEN3, "h.0.attn.k_norm.weight", "model.layers.0.self_attn.k_norm.weight",
         "blk.0.attn_k_norm.weight", 0, 4, 0, 0},
        {FAMILY_GPT_NEOX, "h.0.attn.qkv.bias", "gpt_neox.layers.0.attention.query_key_value.bias",
         "blk.0.attn_qkv.bias", 0, 12, ORDER_PER_HEAD, 0},
        {FAMILY_GPT_NEOX, "lm_head.weight", "embed_out.weight", "output.weight", 0, 11, 0, 0},
        {FAMILY_OPT, "wpe.weight", "model.decoder.embed_positions.weight", NULL, 0, 6, 0, 0},
        {FAMILY_OPT, "h.0.norm2.bias", "model.decoder.layers.0.final_layer_norm.bias", NULL, 0, 4,
         0, 0},
        {FAMILY_OPT, "h.0.attn.qkv.weight", "model.decoder.layers.0.self_attn.v_proj.weight", NULL,
         8, 4, 0, 0},
    };
    size_t met = 0;
    for (int family = 0; family < FAMILIES; family++) {
        GptConfig cfg = family_of(base, (ArchFamily)family);
        cfg.untied = true, cfg.ffn = 7;
        int n = 0;
        for (ArchParam p = {0}; arch_next(&cfg, &p); n++) {
            assert_int_equal(p.index, n);
            for (size_t k = 0; k < sizeof want / sizeof want[0]; k++) {
                if ((int)want[k].family != family || strcmp(want[k].name, p.name) != 0) continue;
                ArchPiece q[ARCH_PIECES], *last;
                const int pieces = arch_pieces(&cfg, &p, ARCH_HF, q);
                assert_true(pieces > 0);
                last = &q[pieces - 1];
                assert_string_equal(last->name, want[k].hf);
                assert_int_equal(last->order, want[k].hf_order);
                assert_int_equal(last->row, want[k].row);
                assert_int_equal(last->rows, want[k].rows);
                assert_int_equal(last->row + last->rows, p.shape[0]);
                assert_int_equal(last->skip, family == FAMILY_OPT && strstr(p.name, "wpe") ? 2 : 0);
                met++;
                const int gguf = arch_pieces(&cfg, &p, ARCH_GGUF, q);
                assert_int_equal(gguf > 0, want[k].gguf != NULL);
                if (gguf == 0) continue;
                assert_string_equal(q[gguf - 1].name, want[k].gguf);
                assert_int_equal(q[gguf - 1].order, want[k].gguf_order);
                assert_int_equal(q[0].order,
                                 strcmp(q[0].name, "blk.1.attn_q.weight") == 0 ? ORDER_PAIRS : 0);
            }
        }
        if (family == 0) assert_int_equal(n, 29);
    }
    assert_int_equal(met, sizeof want / sizeof want[0]);
}

/* The rows of a file are those of the parameter, each once. */
static void test_orders(void **state) {
    const GptConfig cfg = {.heads = 3, .width = 24};
    static const int64_t per_head[] = {0, 1, 2, 3, 4, 5, 6, 7, 24, 25, 26, 27, 28, 29, 30, 31, 48},
                         pairs[] = {0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15, 16};
    const ArchPiece neox = {.order = ORDER_PER_HEAD}, llama = {.order = ORDER_PAIRS},
                    opt = {.skip = 2};
    for (int64_t r = 0; r < 17; r++) {
        assert_int_equal(arch_row(&cfg, &neox, r), per_head[r]);
        assert_int_equal(arch_row(&cfg, &llama, r), pairs[r]);
        assert_int_equal(arch_row(&cfg, &opt, r), r - 2);
    }
    assert_int_equal(arch_row(&cfg, &neox, 71), 71);
    assert_int_equal(arch_row(&cfg, &neox, 24), 8); /* the second head's first row of q */
}

/* The walk, the set without memory and an open model agree, for all that may be there or not. */
static void test_sets(void **state) {
    for (int i = 0; i < 6 + FAMILIES; i++) {
        GptConfig cfg = i < 6 ? base : family_of(base, (ArchFamily)(i - 6));
        if (i < 6) cfg.bias = i & 1, cfg.scalar_head = i & 2, cfg.untied = i & 4;
        cfg.layers = 1 + i % 3;
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
            const int part = p.layer >= 0                   ? p.layer + 1
                             : p.index < (cfg.rope ? 1 : 2) ? 0
                                                            : ps.nparts - 1;
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
        GptConfig a = family_of(base, FAMILY_LLAMA), b, other;
        a.head = 2, a.ffn = 8; /* else they follow others */
        const double old = arch_get(&a, f);
        other = a;
        arch_set(&a, f,
                 f->type == ARCH_REAL                           ? 0.25
                 : f->type == ARCH_FLAG || f->type == ARCH_WORD ? old == 0
                                                                : old + 1);
        if (strcmp(f->name, "rope") == 0) a = base, a.rope = true;
        json_t *j = arch_to_json(&a);
        assert_int_equal(arch_from_json(&b, j), 0);
        assert_null(arch_differ(&a, &b));
        assert_int_equal(a.scalar_head, b.scalar_head);
        if (strcmp(f->name, "rope") == 0) other = a, other.rope = false;
        assert_ptr_equal(arch_differ(&a, &other), strcmp(f->name, "scalar_head") == 0 ? NULL : f);
        json_object_set_new(j, f->name, json_string("x"));
        assert_int_equal(arch_from_json(&b, j), ERR_DATA);
        assert_non_null(strstr(error_message(), f->name));
        json_decref(j);
    }
}

/* A description of version 0.1. */
static void test_old_description(void **state) {
    json_t *j = json_pack("{s:i, s:i, s:i, s:i, s:i, s:b, s:b, s:b, s:f}", "vocab", 11, "context",
                          6, "layers", 2, "heads", 2, "width", 4, "bias", 1, "scalar_head", 0,
                          "gelu_erf", 1, "norm_eps", 1e-5);
    GptConfig c, want = base;
    assert_int_equal(arch_from_json(&c, j), 0);
    want.mlp = MLP_GELU_ERF;
    assert_null(arch_differ(&c, &want));
    json_object_set_new(j, "bias", json_false());
    assert_int_equal(arch_from_json(&c, j), 0);
    assert_int_equal(c.bias, BIAS_NONE);
    json_object_del(j, "gelu_erf");
    assert_int_equal(arch_from_json(&c, j), ERR_DATA);
    json_decref(j);
}

static void test_check(void **state) {
    static const struct {
        const char *field, *says;
        double value;
    } wrong[] = {
        {"kv_heads", "kv_heads is 3, expected a divisor", 3},
        {"rope_columns", "of a head's 2 columns", 1},
        {"rope_columns", "of a head's 2 columns", 4},
        {"rope_theta", "rope_theta is 0", 0},
        {"rope_high", "low below high", 1},
        {"rope_original", "rope_original 0", 0},
        {"rope_factor", "rope_factor is -2", -2},
        {"family", "family is 6", FAMILIES},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        GptConfig c = family_of(base, FAMILY_LLAMA);
        assert_int_equal(arch_check(&c), 0);
        for (int k = 0; k < arch_nfields; k++)
            if (strcmp(arch_fields[k].name, wrong[i].field) == 0)
                arch_set(&c, &arch_fields[k], wrong[i].value);
        assert_int_equal(arch_check(&c), ERR_CONFIG);
        if (!strstr(error_message(), wrong[i].says))
            fail_msg("\"%s\", expected \"%s\"", error_message(), wrong[i].says);
    }
    GptConfig c = base;
    c.width = 5;
    assert_int_equal(arch_check(&c), ERR_CONFIG);
    c.head = 3;
    assert_int_equal(arch_check(&c), 0);
}

/* What model.* makes of a family, and of a switch by itself. */
static void test_settings(void **state) {
    static const char *const set[] = {"model.family=llama", "model.heads=6", "model.width=96",
                                      "model.kv_heads=2", "model.tied=false"};
    Config c;
    GptConfig g;
    assert_int_equal(config_load(&c, STAGE_PRETRAIN, NULL, set, 5), 0);
    assert_int_equal(arch_of_config(&g, &c, 300), 0);
    assert_true(g.rms && g.rope && g.untied && !g.bias && !g.parallel && !g.qk_norm);
    assert_int_equal(g.mlp, MLP_SWIGLU);
    assert_int_equal(arch_ffn(&g), 256);
    assert_int_equal(arch_qkv(&g), 160);
    assert_int_equal(g.rope_columns, 16);
    assert_true(g.rope_theta == 1e4 && g.norm_eps == 1e-5);
    config_free(&c);

    static const char *const odd[] = {"model.rope_fraction=0.1", "model.positions=rope"};
    assert_int_equal(config_load(&c, STAGE_PRETRAIN, NULL, odd, 2), 0);
    assert_int_equal(arch_of_config(&g, &c, 300), ERR_CONFIG);
    assert_non_null(strstr(error_message(), "rotated in pairs"));
    config_free(&c);

    assert_int_equal(config_load(&c, STAGE_PRETRAIN, NULL, NULL, 0), 0);
    assert_int_equal(arch_of_config(&g, &c, 300), 0);
    const GptConfig gpt2 = {.vocab = 300,
                            .context = 128,
                            .layers = 4,
                            .heads = 4,
                            .width = 128,
                            .bias = BIAS_ALL,
                            .norm_eps = 1e-5};
    assert_null(arch_differ(&g, &gpt2));
    config_free(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),           cmocka_unit_test(test_sets),
        cmocka_unit_test(test_orders),          cmocka_unit_test(test_fields),
        cmocka_unit_test(test_old_description), cmocka_unit_test(test_check),
        cmocka_unit_test(test_settings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
