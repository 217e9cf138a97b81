/* eval_best.c: rhetor-eval best-of. */
#include "eval/best_of.h"
#include "tools/eval/eval.h"

#include <stdio.h>
#include <string.h>

int eval_best(const Args *a) {
    json_auto_t *j = NULL;
    const json_t *row;
    size_t i;
    if (a->o.n == 0) return error_set(ERR_USAGE, "by which reward model? --model NAME=PATH");
    const BestOfOptions o = {.samples = a->file.v[0],
                             .name = a->name,
                             .path = a->path,
                             .n = a->o.n,
                             .no_stop_score = a->o.no_stop_score,
                             .micro_tokens = MICRO_TOKENS,
                             .max_prompts = a->o.max_prompts,
                             .answers = a->out};
    TRY(best_of(&j, &o));
    printf("%-12s %5s %8s %18s %18s\n", "best of", "n", "KL", "reward model", "gold");
    json_array_foreach(json_object_get(j, "rows"), i, row) {
        double v[5] = {0};
        const char *keys[] = {"kl", "proxy", "proxy_se", "gold", "gold_se"};
        for (int k = 0; k < 5; k++) v[k] = json_number_value(json_object_get(row, keys[k]));
        printf("%-12s %5lld %8.3f %8.3f +- %6.3f %8.3f +- %6.3f\n",
               json_string_value(json_object_get(row, "reward")),
               (long long)json_integer_value(json_object_get(row, "n")), v[0], v[1], v[2], v[3],
               v[4]);
    }
    printf("\n%-12s %-12s %8s %9s\n", "accuracy", "family", "pairs", "");
    json_array_foreach(json_object_get(j, "accuracy"), i, row)
        printf("%-12s %-12s %8.0f %9.3f\n", json_string_value(json_object_get(row, "reward")),
               json_string_value(json_object_get(row, "family")),
               json_number_value(json_object_get(row, "pairs")),
               json_number_value(json_object_get(row, "accuracy")));
    return a->json ? json_write_file(j, a->json) : 0;
}
