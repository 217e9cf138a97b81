/* bench_decode.c: sampling. Prefill is a call of decode() that makes one token a prompt; decoding
 * begins when the last sequence has its first token, so it holds neither the prompts nor the
 * packing of the weights. See bench.h. */
#include <stdlib.h>

#include "base/error.h"
#include "core/rng.h"
#include "model/decode.h"
#include "tools/bench/bench.h"

/* Weights larger than this do not stay in a cache and are read in every pass. */
static const double CACHE_MAX = 64e6;

typedef struct DecodeLab {
    Gpt *gpt;
    int32_t *tokens;
    int64_t *start;
    DecodeOptions o;
    Arena packed;                 /* kept from call to call */
    int64_t *made;                /* [B] tokens of each response */
    int64_t begun, total, before; /* responses, tokens; tokens when decoding began */
    double decoding;              /* when it did */
} DecodeLab;

static int on_token(void *ctx, int64_t prompt, int32_t token) {
    DecodeLab *l = ctx;
    l->total++;
    if (l->made[prompt]++ == 0) {
        l->begun++;
        l->before = l->total;
        l->decoding = bench_seconds();
    }
    return 0;
}

static double weight_bytes(const GptConfig *g) {
    const double C = (double)g->width;
    const double bytes = (12 * (double)g->layers * C * C + (double)g->vocab * C) * sizeof(real);
    return bytes > CACHE_MAX ? bytes : 0;
}

static int lab_open(BenchWork *w, DecodeLab **out) {
    const Case *c = w->c;
    DecodeLab *l = *out = w->priv = xcalloc(1, sizeof *l);
    const RngKey key = {.seed = 1, .purpose = RNG_TEST};
    TRY(gpt_open(&l->gpt, c->model, false));
    gpt_init(l->gpt, 1, INIT_GPT2);
    l->tokens = xmalloc((size_t)(c->B * c->T) * sizeof *l->tokens);
    l->start = xmalloc((size_t)(c->B + 1) * sizeof *l->start);
    l->made = xcalloc((size_t)c->B, sizeof *l->made);
    for (int64_t i = 0; i < c->B * c->T; i++)
        l->tokens[i] = (int32_t)rng_below(&key, (uint64_t)i, 0, 0, (uint32_t)c->model->vocab);
    for (int64_t s = 0; s <= c->B; s++) l->start[s] = s * c->T;
    l->o = (DecodeOptions){.temperature = 1,
                           .top_p = 1,
                           .max_new = c->max_new,
                           .seed = 1,
                           .slots = c->B, /* all begin at once */
                           .scratch = &l->packed,
                           .on_token = on_token,
                           .ctx = l};
    w->nparts = 1;
    return 0;
}

static double call(BenchWork *w, double *begin) {
    const Case *c = w->c;
    DecodeLab *l = w->priv;
    l->total = l->before = 0;
    for (int64_t s = 0; s < c->B; s++) l->made[s] = 0;
    DecodeResult r;
    *begin = bench_seconds();
    int rc = decode(&r, l->gpt, l->tokens, l->start, c->B, NULL, &l->o);
    double end = bench_seconds();
    CHECK(rc == 0 && r.tokens == c->B * c->max_new, "decode: %s", error_message());
    decode_free(&r);
    return end;
}

static int prefill_open(BenchWork *w) {
    DecodeLab *l;
    const Case *c = w->c;
    TRY(lab_open(w, &l));
    w->tokens = (double)(c->B * c->T);
    w->part[0].flops = (double)c->B * (bench_trunk_flops(c->model, (double)c->T, 1) +
                                       bench_head_flops(c->model, 1));
    w->part[0].bytes = weight_bytes(c->model);
    return 0;
}
static double prefill_run(BenchWork *w, int part) {
    double begin, end = call(w, &begin);
    return end - begin;
}

static int decode_open(BenchWork *w) {
    DecodeLab *l;
    return lab_open(w, &l);
}
static double decode_run(BenchWork *w, int part) {
    const Case *c = w->c;
    const DecodeLab *l = w->priv;
    double begin, end = call(w, &begin);
    /* Rows of one pass: a token each of at most B sequences, whose contexts grow from T+1. The
     * cached keys and values are read too; they are not counted, as in others' figures. */
    const double passes = (double)(l->total - l->before) / (double)c->B;
    const double last = (double)(c->T + c->max_new - 1), T = last - passes;
    w->tokens = (double)(l->total - l->before);
    w->part[0].flops =
        (double)c->B * (bench_trunk_flops(c->model, last, last) -
                        bench_trunk_flops(c->model, T, T) + bench_head_flops(c->model, passes));
    w->part[0].bytes = passes * weight_bytes(c->model);
    return end - l->decoding;
}

const BenchKind bench_prefill = {prefill_open, prefill_run},
                bench_decode = {decode_open, decode_run};
