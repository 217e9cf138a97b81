/* fuzz_safetensors.c: folders of Hugging Face models. An input that begins with '{' is an index
 * (when it speaks of a weight_map) or a config.json beside a good model; any other is a
 * model.safetensors beside a good config.json. What is good imports, and is read to its end. */
#include "tests/fuzz/fuzz.h"

#include <omp.h>

#include "checkpoints/exchange/hf.h"
#include "checkpoints/exchange/safetensors.h"

static const char config[] = "{\"model_type\": \"gpt2\", \"vocab_size\": 5, \"n_positions\": 4, "
                             "\"n_embd\": 2, \"n_layer\": 1, \"n_head\": 1}";

/* The bytes of a model of that config. */
static char *good_model(size_t *len) {
    const StTensor t[] = {
        {.name = "wte.weight", .ndim = 2, .shape = {5, 2}},
        {.name = "wpe.weight", .ndim = 2, .shape = {4, 2}},
        {.name = "h.0.ln_1.weight", .ndim = 1, .shape = {2}},
        {.name = "h.0.attn.c_attn.weight", .ndim = 2, .shape = {2, 6}},
        {.name = "h.0.attn.c_proj.weight", .ndim = 2, .shape = {2, 2}},
        {.name = "h.0.ln_2.weight", .ndim = 1, .shape = {2}},
        {.name = "h.0.mlp.c_fc.weight", .ndim = 2, .shape = {2, 8}},
        {.name = "h.0.mlp.c_proj.weight", .ndim = 2, .shape = {8, 2}},
        {.name = "ln_f.weight", .ndim = 1, .shape = {2}},
    };
    char *path = file_join(fuzz.folder, "good.safetensors"), *bytes = NULL;
    float x[128] = {1, 2, 3};
    StWriter *w;
    if (safetensors_create(&w, path, t, 9) < 0 || safetensors_write(w, x, 72) < 0 ||
        safetensors_commit(&w) < 0 || file_read(path, &bytes, len) < 0) {
        fprintf(stderr, "%s\n", error_message());
        _exit(1);
    }
    free(path);
    return bytes;
}

static void read_all(const char *path) {
    SafeTensors *s;
    if (safetensors_open(&s, path) < 0) return;
    int n;
    const StTensor *t = safetensors_list(s, &n);
    for (int i = 0; i < n; i++) {
        double *x = xmalloc((size_t)t[i].n * sizeof *x + 1);
        (void)!safetensors_read(s, &t[i], 0, t[i].n, x);
        free(x);
    }
    safetensors_close(&s);
}

static void one(const uint8_t *data, size_t len) {
    static char *good;
    static size_t good_len;
    if (!good) {
        good = good_model(&good_len);
        omp_set_num_threads(1);
    }
    bool json = len > 0 && data[0] == '{', index = json && memmem(data, len, "weight_map", 10);
    char *whole = file_join(fuzz.folder, "model.safetensors");
    unlink(whole);
    fuzz_file("config.json", json && !index ? (const void *)data : config,
              json && !index ? len : strlen(config));
    if (index)
        fuzz_file("model.safetensors.index.json", data, len);
    else
        read_all(fuzz_file("model.safetensors", json ? (const void *)good : data,
                           json ? good_len : len));
    char *out = file_join(fuzz.folder, "out.h5"), *manifest = file_join(fuzz.folder, "out.json");
    (void)!hf_import(fuzz.folder, out, NULL, NULL);
    unlink(out);
    unlink(manifest);
    free(whole);
    free(out);
    free(manifest);
}

FUZZ_MAIN(one, "\"dtype\"", "\"BF16\"", "\"F64\"", "\"I64\"", "\"shape\"", "\"data_offsets\"",
          "__metadata__", "\"wte.weight\"", "lm_head.weight", "\"good.safetensors\"", "null",
          "true", "[", "{", "18446744073709551616", "4294967296", "\"n_layer\"", "\"bias\":false")
