/* bench_cases.c: what is measured. See bench.h; docs/BENCHMARKS.md says what each case counts. */
#include "tools/bench/bench.h"

#define GPT(L, H, C, V, T) \
    { .layers = L, .heads = H, .width = C, .vocab = V, .context = T, .bias = 1, .norm_eps = 1e-5 }
static const GptConfig demo = GPT(4, 4, 96, 512, 128), small = GPT(6, 6, 384, 4096, 256),
                       gpt2 = GPT(12, 12, 768, 50257, 1024);

#define CASE(name, what, kind, model, B, T, max_new, ...) \
    { name, what, &bench_##kind, &model, B, T, max_new, __VA_ARGS__ }
#define QUICK .slow = false
#define SLOW  .slow = true

const Case bench_case[] = {
    {"limits", "FMA, sgemm and memory, 1 thread and all", .kind = NULL},
    CASE("linear-small", "x W^T + b and GELU, 384 -> 1536", linear, small, 16, 256, 0, QUICK),
    CASE("attention-small", "6 heads, T 256", attention, small, 16, 256, 0, QUICK),
    CASE("layernorm-small", "with residual", layernorm, small, 16, 256, 0, QUICK),
    CASE("loss-small", "head and cross-entropy, V 4096", loss, small, 16, 256, 0, QUICK),
    CASE("adamw-small", "12.3 M parameters", adamw, small, 0, 0, 0, QUICK),
    CASE("linear-demo", "96 -> 384", linear, demo, 32, 128, 0, QUICK),
    CASE("attention-demo", "4 heads, T 128", attention, demo, 32, 128, 0, QUICK),
    CASE("loss-demo", "V 512", loss, demo, 32, 128, 0, QUICK),
    CASE("step-demo", "4 layers, d 96, T 128, V 512, B 32", step, demo, 32, 128, 0, QUICK),
    CASE("decode-demo", "batch 32, 64 new tokens", decode, demo, 32, 16, 64, QUICK),
    CASE("ppo-demo", "64 episodes, 32 + at most 64 tokens, ragged", ppo, demo, 64, 32, 64,
         .ragged = true),
    CASE("step-small", "6 layers, d 384, T 256, V 4096, B 16", step, small, 16, 256, 0, QUICK),
    CASE("step-124m", "GPT-2, B 4, T 1024", step, gpt2, 4, 1024, 0, SLOW),
    CASE("step-124m-t64", "GPT-2, B 4, T 64", step, gpt2, 4, 64, 0, SLOW),
    CASE("prefill-124m", "GPT-2, 4 prompts of 512", prefill, gpt2, 4, 512, 1, SLOW),
    CASE("decode-124m-b1", "GPT-2, batch 1, 64 new tokens", decode, gpt2, 1, 16, 64, SLOW),
    CASE("decode-124m-b8", "GPT-2, batch 8, 64 new tokens", decode, gpt2, 8, 16, 64, SLOW),
    CASE("decode-124m-b32", "GPT-2, batch 32, 64 new tokens", decode, gpt2, 32, 16, 64, SLOW),
    CASE("ppo-small", "64 episodes, 64 + 64 tokens", ppo, small, 64, 64, 64, SLOW),
    CASE("ppo-small-ragged", "64 + at most 64, mean 24", ppo, small, 64, 64, 64, .ragged = true,
         .slow = true),
};
const int bench_cases = sizeof bench_case / sizeof *bench_case;
