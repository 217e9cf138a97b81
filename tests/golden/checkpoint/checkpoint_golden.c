/* checkpoint_golden.c: made tests/golden/checkpoint/v1_*.h5, with the first Rhetor 0.1 (format 1),
 * which wrote raw chunks through HDF5's own fletcher32, and v2_*.h5 with a later one (format 2). It
 * is kept to say what is in them; a later Rhetor writes its own format: give those other names. In a tree of the version wanted, after make:
 *   gcc -std=gnu11 -D_GNU_SOURCE -I. -fopenmp tests/golden/checkpoint/checkpoint_golden.c \
 *       build/release/lib{checkpoints,dist,base}.a $(pkg-config --cflags --libs \
 *       yaml-0.1 jansson oniguruma libzstd libxxhash zlib hdf5-serial ompi-c) -lm */
#include <stdio.h>

#include "base/error.h"
#include "checkpoints/checkpoint.h"

int main(void) {
    static float w[40 * 30];
    static int64_t ids[7];
    for (int i = 0; i < 1200; i++) w[i] = (float)(i % 37) / 8 - 2;
    for (int i = 0; i < 7; i++) ids[i] = (int64_t)i * i - 3;
    const CkptArray a[] = {
        {.name = "params/h.0.weight", .type = H5_F32, .ndim = 2, .shape = {40, 30}, .data = w},
        {.name = "counters/ids", .type = H5_I64, .ndim = 1, .shape = {7}, .data = ids},
        {.name = "counters/none", .type = H5_I32, .ndim = 1, .shape = {0}, .data = ids}};
    json_t *meta = json_pack("{s:i}", "variant", 1);
    for (int zstd = 0; zstd < 2; zstd++) {
        const CkptContent c = {.stage = "sft",
                               .step = 7,
                               .arrays = a,
                               .narrays = 3,
                               .meta = meta,
                               .config = "run: {seed: 1}\n",
                               .tokenizer = "{}",
                               .compress = zstd};
        if (ckpt_save_file(zstd ? "v1_zstd.h5" : "v1_none.h5", &c) < 0) {
            fprintf(stderr, "%s\n", error_message());
            return 1;
        }
    }
    json_decref(meta);
    return 0;
}
