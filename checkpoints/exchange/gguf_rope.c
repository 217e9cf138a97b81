/* gguf_rope.c: see gguf_rope.h. */
#include "checkpoints/exchange/gguf_rope.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

/* As core/op_rope.c has the frequencies. */
void gguf_rope_factors(const GptConfig *c, float *out) {
    const int64_t m = (c->rope_columns ? c->rope_columns : arch_head(c)) / 2;
    for (int64_t j = 0; j < m; j++) {
        const double f = pow(c->rope_theta, -(double)j / (double)m);
        const double waves = (double)c->rope_original * f / (2 * M_PI);
        double keep = (waves - c->rope_low) / (c->rope_high - c->rope_low);
        keep = keep < 0 ? 0 : keep > 1 ? 1 : keep;
        out[j] = (float)(1 / (keep + (1 - keep) / c->rope_factor));
    }
}

/* llama.cpp's converter counts in floats. */
static bool makes(const GptConfig *c, const float *factor, int64_t n) {
    AUTOFREE float *x = xmalloc((size_t)n * sizeof *x);
    gguf_rope_factors(c, x);
    bool same = true;
    for (int64_t j = 0; j < n; j++) same &= fabsf(x[j] - factor[j]) <= 2e-4f * factor[j];
    return same;
}

int gguf_rope_read(GptConfig *c, const float *factor, int64_t n, const json_t *ours) {
    double most = 1;
    bool finite = n == (c->rope_columns ? c->rope_columns : arch_head(c)) / 2;
    for (int64_t j = 0; j < n; j++) {
        finite &= isfinite(factor[j]) && factor[j] >= 1;
        most = fmax(most, (double)factor[j]);
    }
    if (!finite) return error_set(ERR_DATA, "expected a divisor of at least 1 for each frequency");
    if (most == 1) return 0;
    GptConfig try = *c;
    json_auto_t *said = ours ? json_loads(json_string_value(ours), 0, NULL) : NULL;
    if (said &&
        json_unpack(said, "{s:F, s:F, s:F, s:I}", "factor", &try.rope_factor, "low", &try.rope_low,
                    "high", &try.rope_high, "original", &try.rope_original) == 0 &&
        try.rope_factor > 1 && try.rope_high > try.rope_low && makes(&try, factor, n)) {
        *c = try;
        return 0;
    }
    try.rope_factor = most;
    try.rope_low = 1;
    try.rope_high = 4;
    for (try.rope_original = 16; try.rope_original <= 1 << 20; try.rope_original *= 2)
        if (makes(&try, factor, n)) {
            *c = try;
            return 0;
        }
    return error_set(ERR_DATA,
                     "its divisors are not Llama 3's (factor %g, low 1, high 4 and an "
                     "original context that is a power of two)",
                     most);
}
