/* fuzz_gguf.c: GGUF files. What opens is read to its end; what imports must export and import again. */
#include "tests/fuzz/fuzz.h"

#include <omp.h>

#include "checkpoints/exchange/gguf_model.h"

static void read_all(const char *path) {
    Gguf *g;
    if (gguf_open(&g, path) < 0) return;
    int n;
    const GgufTensor *t = gguf_list(g, &n);
    for (int i = 0; i < n; i++) {
        float *x = xmalloc((size_t)t[i].n * sizeof *x + 1);
        (void)!gguf_read(g, &t[i], 0, t[i].n, x);
        free(x);
    }
    gguf_close(&g);
}

static void one(const uint8_t *data, size_t len) {
    omp_set_num_threads(1);
    char *out = file_join(fuzz.folder, "out.h5"), *manifest = file_join(fuzz.folder, "out.json"),
         *again = file_join(fuzz.folder, "again.gguf");
    char *path = xstrdup(fuzz_file("x.gguf", data, len));
    read_all(path);
    if (gguf_import(path, out, NULL, NULL) == 0 && gguf_export(out, again, GGUF_F32) == 0) {
        unlink(out);
        unlink(manifest);
        CHECK(gguf_import(again, out, NULL, NULL) == 0, "%s", error_message());
    }
    unlink(out);
    unlink(manifest);
    unlink(again);
    free(path);
    free(out);
    free(manifest);
    free(again);
}

FUZZ_MAIN(one, "GGUF", "general.architecture", "llama", "gpt2", "qwen2", "general.alignment",
          "llama.block_count", "llama.attention.head_count_kv", "tokenizer.ggml.pre", "smollm",
          "tokenizer.ggml.scores", "rope_freqs.weight", "output.weight", "token_embd.weight",
          "\xff\xff\xff\xff\xff\xff\xff\x7f", "\x09", "\x08")
