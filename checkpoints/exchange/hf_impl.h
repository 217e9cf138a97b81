/* hf_impl.h: what import and export share. Internal to train/. */
#ifndef TRAIN_HF_IMPL_H
#define TRAIN_HF_IMPL_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "checkpoints/exchange/hf.h"

enum { HF_NAME_MAX = 128, HF_PIECE = 1 << 16 /* elements on their way between file and model */ };

/* Their name, without "transformer.", of a parameter of ours: "h.0.attn.qkv.weight" ->
 * "h.0.attn.c_attn.weight". True: theirs is the transpose (Conv1D keeps [in,out]). */
static inline bool hf_name(const char *ours, char out[HF_NAME_MAX]) {
    static const struct {
        const char *ours, *theirs;
        bool conv;
    } part[] = {
        {"attn.qkv", "attn.c_attn", true}, {"attn.proj", "attn.c_proj", true},
        {"mlp.fc", "mlp.c_fc", true},      {"mlp.proj", "mlp.c_proj", true},
        {"norm1", "ln_1", false},          {"norm2", "ln_2", false},
        {"norm_f", "ln_f", false},
    };
    for (size_t i = 0; i < sizeof part / sizeof part[0]; i++) {
        const char *at = strstr(ours, part[i].ours);
        if (!at) continue;
        const char *end = at + strlen(part[i].ours);
        snprintf(out, HF_NAME_MAX, "%.*s%s%s", (int)(at - ours), ours, part[i].theirs, end);
        return part[i].conv && strcmp(end, ".weight") == 0;
    }
    snprintf(out, HF_NAME_MAX, "%s", ours); /* wte, wpe, lm_head */
    return false;
}

#endif
