/* Every op against the plainest possible code in double: the outputs, and the gradients against
 * finite differences of that code. Unlike test_gradcheck.c it holds the float build to float's own
 * precision: 1e-5 of the largest output, 1e-4 of the largest gradient. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/kernel.h"
#include "core/ops.h"

enum { MAX_IN = 4, MAX_PROBES = 60 };

/* An op under test: `run` gives its output, or a loss and no output; `plain` the same in double
 * from doubles, out [size of the output] or NULL. */
typedef struct Check {
    const char *name;
    int nin, shape[MAX_IN][2]; /* 1-d where the second is 0 */
    Tensor *(*run)(Tape *t, Tensor **in, double *loss);
    double (*plain)(double *const *in, double *out);
} Check;

static double weight(int64_t k) { return sin(1.7 * (double)k + 0.3); }

/* The loss of an op with an output: a fixed weighted sum of it. */
static double plain_loss(const Check *c, double *const *in, double *out, int64_t nout) {
    double loss = c->plain(in, out);
    for (int64_t k = 0; k < nout; k++) loss += weight(k) * out[k];
    return loss;
}

static double slope(const Check *c, double *const *in, double *at, double *out, int64_t nout) {
    const double h = 1e-4, x = *at;
    *at = x + h;
    double up = plain_loss(c, in, out, nout);
    *at = x - h;
    double down = plain_loss(c, in, out, nout);
    *at = x;
    return (up - down) / (2 * h);
}

static void check_level(const Check *c) {
    Arena persist = {0}, step = {0};
    Tape *t = tape_open(&step, true);
    GradCase inputs = {.arena = &persist};
    double *in[MAX_IN];
    for (int k = 0; k < c->nin; k++) {
        int64_t shape[2] = {c->shape[k][0], c->shape[k][1]};
        const Tensor *x = gradcheck_input(&inputs, shape[1] ? 2 : 1, shape);
        in[k] = malloc((size_t)tensor_size(x) * sizeof(double));
        for (int64_t i = 0; i < tensor_size(x); i++) in[k][i] = (double)x->data[i];
    }
    double loss = 0, largest = 0;
    Tensor *y = c->run(t, inputs.in, &loss);
    int64_t nout = y ? tensor_size(y) : 0;
    double *out = malloc((size_t)(nout + 1) * sizeof(double));
    double want_loss = plain_loss(c, in, out, nout);
    for (int64_t k = 0; k < nout; k++) largest = fmax(largest, fabs(out[k]));
    for (int64_t k = 0; k < nout; k++) {
        if (!(fabs((double)y->data[k] - out[k]) <= 1e-5 * largest))
            fail_msg("%s, %s: output %lld is %.9g, expected %.9g", c->name,
                     kernel_name(kernel_level), (long long)k, (double)y->data[k], out[k]);
        tape_grad(t, y)[k] += (real)weight(k);
    }
    if (!y) assert_true(fabs(loss - want_loss) <= 1e-5 * fabs(want_loss));
    tape_backward(t);

    for (int k = 0; k < c->nin; k++) {
        const Tensor *x = inputs.in[k];
        int64_t n = tensor_size(x);
        double top = 0;
        for (int64_t i = 0; i < n; i++) top = fmax(top, fabs((double)x->grad[i]));
        for (int64_t i = 0; i < n; i += n / MAX_PROBES + 1) {
            double want = slope(c, in, &in[k][i], out, nout);
            if (!(fabs((double)x->grad[i] - want) <= 1e-4 * top))
                fail_msg("%s, %s: gradient %lld of input %d is %.9g, expected %.9g", c->name,
                         kernel_name(kernel_level), (long long)i, k, (double)x->grad[i], want);
        }
    }
    for (int k = 0; k < c->nin; k++) free(in[k]);
    free(out);
    tape_close(&t);
    arena_free(&step);
    arena_free(&persist);
}

static void check(void **state) {
    for (KernelLevel level = KERNEL_BLAS; level <= kernel_supported(); level++) {
        kernel_level = level;
        check_level(*state);
    }
}

/* --- the packed sequences of all checks: 1, 70, 0 and 9 tokens -------------------------------- */

enum { N = 80, NSEQ = 4 };
static const int64_t start[NSEQ + 1] = {0, 1, 71, 71, 80};
static const Batch packing = {.n = N, .nseq = NSEQ, .start = start};

static int32_t token(int64_t i, int V) { return (int32_t)((i * 7 + i * i) % V); }

/* --- embed: wte [13,6], wpe [70,6] ------------------------------------------------------------ */

enum { EMB_V = 13, EMB_C = 6 };

static Tensor *embed_run(Tape *t, Tensor **in, double *loss) {
    static int32_t tokens[N];
    static Batch b;
    for (int64_t i = 0; i < N; i++) tokens[i] = token(i, EMB_V);
    b = packing;
    b.tokens = tokens;
    return op_embed(t, in[0], in[1], &b);
}

static double embed_plain(double *const *in, double *out) {
    for (int s = 0; s < NSEQ; s++)
        for (int64_t i = start[s]; i < start[s + 1]; i++)
            for (int c = 0; c < EMB_C; c++)
                out[i * EMB_C + c] =
                    in[0][token(i, EMB_V) * EMB_C + c] + in[1][(i - start[s]) * EMB_C + c];
    return 0;
}

/* --- linear: x [300,20], w [33,20], b [33] ---------------------------------------------------- */

enum { LIN_N = 300, LIN_K = 20, LIN_M = 33 };

static void linear_plain(double *const *in, double *out, Activation act) {
    for (int i = 0; i < LIN_N; i++)
        for (int j = 0; j < LIN_M; j++) {
            double z = in[2][j];
            for (int k = 0; k < LIN_K; k++) z += in[0][i * LIN_K + k] * in[1][j * LIN_K + k];
            if (act == ACT_GELU_TANH)
                z = 0.5 * z * (1 + tanh(sqrt(2 / M_PI) * (z + 0.044715 * z * z * z)));
            if (act == ACT_GELU_ERF) z = 0.5 * z * (1 + erf(z / sqrt(2)));
            out[i * LIN_M + j] = z;
        }
}

static Tensor *none_run(Tape *t, Tensor **in, double *loss) {
    return op_linear(t, in[0], in[1], in[2], ACT_NONE);
}
static Tensor *tanh_run(Tape *t, Tensor **in, double *loss) {
    return op_linear(t, in[0], in[1], in[2], ACT_GELU_TANH);
}
static Tensor *erf_run(Tape *t, Tensor **in, double *loss) {
    return op_linear(t, in[0], in[1], in[2], ACT_GELU_ERF);
}
static double none_plain(double *const *in, double *out) {
    linear_plain(in, out, ACT_NONE);
    return 0;
}
static double tanh_plain(double *const *in, double *out) {
    linear_plain(in, out, ACT_GELU_TANH);
    return 0;
}
static double erf_plain(double *const *in, double *out) {
    linear_plain(in, out, ACT_GELU_ERF);
    return 0;
}

/* --- layernorm: x, r [80,37], g, b [37]; y + sum, so that both outputs are seen --------------- */

enum { NORM_C = 37 };

static Tensor *layernorm_run(Tape *t, Tensor **in, double *loss) {
    Tensor *sum, *y = op_layernorm(t, in[0], in[1], in[2], in[3], 1e-5, &sum);
    return op_add(t, y, sum);
}

static double layernorm_plain(double *const *in, double *out) {
    for (int i = 0; i < N; i++) {
        double s[NORM_C], mean = 0, var = 0;
        for (int c = 0; c < NORM_C; c++) s[c] = in[0][i * NORM_C + c] + in[1][i * NORM_C + c];
        for (int c = 0; c < NORM_C; c++) mean += s[c] / NORM_C;
        for (int c = 0; c < NORM_C; c++) var += (s[c] - mean) * (s[c] - mean) / NORM_C;
        for (int c = 0; c < NORM_C; c++)
            out[i * NORM_C + c] = (s[c] - mean) / sqrt(var + 1e-5) * in[2][c] + in[3][c] + s[c];
    }
    return 0;
}

/* --- attention: qkv [80,3*40], 2 heads -------------------------------------------------------- */

enum { ATT_C = 40, ATT_H = 2, ATT_D = ATT_C / ATT_H };

static Tensor *attention_run(Tape *t, Tensor **in, double *loss) {
    return op_attention(t, in[0], &packing, ATT_H);
}

static double attention_plain(double *const *in, double *out) {
    for (int s = 0; s < NSEQ; s++)
        for (int h = 0; h < ATT_H; h++)
            for (int64_t i = start[s]; i < start[s + 1]; i++) {
                double p[N], sum = 0;
                const double *q = in[0] + i * 3 * ATT_C + h * ATT_D;
                for (int64_t j = start[s]; j <= i; j++) {
                    const double *k = in[0] + j * 3 * ATT_C + ATT_C + h * ATT_D;
                    double score = 0;
                    for (int c = 0; c < ATT_D; c++) score += q[c] * k[c];
                    sum += p[j] = exp(score / sqrt(ATT_D));
                }
                for (int c = 0; c < ATT_D; c++) {
                    double y = 0;
                    for (int64_t j = start[s]; j <= i; j++)
                        y += p[j] / sum * in[0][j * 3 * ATT_C + 2 * ATT_C + h * ATT_D + c];
                    out[i * ATT_C + h * ATT_D + c] = y;
                }
            }
    return 0;
}

/* --- dropout: x [80,10]; what is kept is read off a run on ones ------------------------------- */

enum { DROP_C = 10 };
static const RngKey drop_key = {.seed = 11, .purpose = RNG_DROPOUT, .step = 4};

static Tensor *dropout_run(Tape *t, Tensor **in, double *loss) {
    return op_dropout(t, in[0], 0.3, drop_key, NULL);
}

static double dropout_plain(double *const *in, double *out) {
    for (uint64_t i = 0; i < N; i++) {
        float u[DROP_C];
        rng_unit_fill(&drop_key, i, 0, u, DROP_C);
        for (int c = 0; c < DROP_C; c++)
            out[i * DROP_C + c] = u[c] >= 0.3f ? in[0][i * DROP_C + c] / 0.7 : 0;
    }
    return 0;
}

/* --- scalar head: x [80,21], w [1,21], b [1] -------------------------------------------------- */

enum { HEAD_C = 21 };

static Tensor *head_run(Tape *t, Tensor **in, double *loss) {
    return op_scalar_head(t, in[0], in[1], in[2]);
}

static double head_plain(double *const *in, double *out) {
    for (int i = 0; i < N; i++) {
        out[i] = in[2][0];
        for (int c = 0; c < HEAD_C; c++) out[i] += in[0][i * HEAD_C + c] * in[1][c];
    }
    return 0;
}

/* --- rows: x [80,21] -------------------------------------------------------------------------- */

enum { ROWS_M = 5 };
static const int64_t some_rows[ROWS_M] = {0, 3, 4, 71, 79};

static Tensor *rows_run(Tape *t, Tensor **in, double *loss) {
    return op_rows(t, in[0], some_rows, ROWS_M);
}

static double rows_plain(double *const *in, double *out) {
    for (int j = 0; j < ROWS_M; j++)
        memcpy(out + j * HEAD_C, in[0] + some_rows[j] * HEAD_C, HEAD_C * sizeof *out);
    return 0;
}

/* --- losses: x [80,8], wte [50,8]; logp and entropy are checked on the way -------------------- */

enum { LOSS_V = 50, LOSS_C = 8 };

static void plain_logp(double *const *in, int64_t i, double temperature, double *logp,
                       double *entropy) {
    double z[LOSS_V], sum = 0;
    for (int v = 0; v < LOSS_V; v++) {
        z[v] = 0;
        for (int c = 0; c < LOSS_C; c++) z[v] += in[0][i * LOSS_C + c] * in[1][v * LOSS_C + c];
        z[v] /= temperature;
        sum += exp(z[v]);
    }
    *logp = z[token(i, LOSS_V)] - log(sum);
    *entropy = 0;
    for (int v = 0; v < LOSS_V; v++) *entropy -= exp(z[v]) / sum * (z[v] - log(sum));
}

static double square_loss(void *ctx, int64_t i, double logp, double entropy, double *dlogp) {
    int64_t *next = ctx; /* calls come in token order */
    if (i < *next) fail_msg("token %lld was asked for after %lld", (long long)i, (long long)*next);
    *next = i + 1;
    *dlogp = 2 * (logp + 1);
    return (logp + 1) * (logp + 1);
}

static Tensor *token_loss_run(Tape *t, Tensor **in, double *loss) {
    int32_t targets[N];
    real logp[N], entropy[N], score_logp[N], score_entropy[N];
    double *plain_in[2];
    int64_t next = 0;
    for (int64_t i = 0; i < N; i++) targets[i] = token(i, LOSS_V);
    double zero =
        op_token_loss(t, in[0], in[1], targets, 0.8, NULL, NULL, score_logp, score_entropy);
    assert_true(zero == 0);
    *loss = op_token_loss(t, in[0], in[1], targets, 0.8, square_loss, &next, logp, entropy);
    for (int k = 0; k < 2; k++) {
        int64_t n = tensor_size(in[k]);
        plain_in[k] = malloc((size_t)n * sizeof(double));
        for (int64_t i = 0; i < n; i++) plain_in[k][i] = (double)in[k]->data[i];
    }
    for (int64_t i = 0; i < N; i++) {
        double want_logp = 0, want_entropy = 0;
        plain_logp(plain_in, i, 0.8, &want_logp, &want_entropy);
        assert_true(logp[i] == score_logp[i] && entropy[i] == score_entropy[i]);
        assert_true(fabs((double)logp[i] - want_logp) <= 2e-6 * (1 + fabs(want_logp)));
        assert_true(fabs((double)entropy[i] - want_entropy) <= 5e-6);
    }
    free(plain_in[0]);
    free(plain_in[1]);
    return NULL;
}

static double token_loss_plain(double *const *in, double *out) {
    double loss = 0;
    for (int64_t i = 0; i < N; i++) {
        double logp, entropy;
        plain_logp(in, i, 0.8, &logp, &entropy);
        loss += (logp + 1) * (logp + 1);
    }
    return loss;
}

static float loss_weight(int64_t i) { return i % 4 == 2 ? 0.0f : (float)(i % 5 + 1) * 0.01f; }

static Tensor *cross_entropy_run(Tape *t, Tensor **in, double *loss) {
    int32_t targets[N];
    float weights[N];
    real logp[N];
    for (int64_t i = 0; i < N; i++) {
        targets[i] = token(i, LOSS_V);
        weights[i] = loss_weight(i);
    }
    *loss = op_cross_entropy(t, in[0], in[1], targets, weights, logp);
    double sum = 0;
    for (int64_t i = 0; i < N; i++) {
        sum -= (double)weights[i] * (double)logp[i];
    }
    assert_true(fabs(sum - *loss) <= 1e-6 * fabs(sum));
    return NULL;
}

static double cross_entropy_plain(double *const *in, double *out) {
    double loss = 0;
    for (int64_t i = 0; i < N; i++) {
        double logp, entropy;
        plain_logp(in, i, 1, &logp, &entropy);
        loss -= (double)loss_weight(i) * logp;
    }
    return loss;
}

static const Check checks[] = {
    {"embed", 2, {{EMB_V, EMB_C}, {70, EMB_C}}, embed_run, embed_plain},
    {"linear", 3, {{LIN_N, LIN_K}, {LIN_M, LIN_K}, {LIN_M}}, none_run, none_plain},
    {"linear gelu tanh", 3, {{LIN_N, LIN_K}, {LIN_M, LIN_K}, {LIN_M}}, tanh_run, tanh_plain},
    {"linear gelu erf", 3, {{LIN_N, LIN_K}, {LIN_M, LIN_K}, {LIN_M}}, erf_run, erf_plain},
    {"layernorm",
     4,
     {{N, NORM_C}, {N, NORM_C}, {NORM_C}, {NORM_C}},
     layernorm_run,
     layernorm_plain},
    {"attention", 1, {{N, 3 * ATT_C}}, attention_run, attention_plain},
    {"dropout", 1, {{N, DROP_C}}, dropout_run, dropout_plain},
    {"scalar head", 3, {{N, HEAD_C}, {1, HEAD_C}, {1}}, head_run, head_plain},
    {"rows", 1, {{N, HEAD_C}}, rows_run, rows_plain},
    {"token loss", 2, {{N, LOSS_C}, {LOSS_V, LOSS_C}}, token_loss_run, token_loss_plain},
    {"cross entropy", 2, {{N, LOSS_C}, {LOSS_V, LOSS_C}}, cross_entropy_run, cross_entropy_plain},
};

int main(void) {
    enum { COUNT = sizeof checks / sizeof checks[0] };
    struct CMUnitTest tests[COUNT];
    core_init();
    for (int i = 0; i < COUNT; i++)
        tests[i] = (struct CMUnitTest){checks[i].name, check, NULL, NULL, (void *)&checks[i]};
    return _cmocka_run_group_tests("ops", tests, COUNT, NULL, NULL);
}
