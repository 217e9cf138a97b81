/* tokens.h: small tokenizers for tests. Included after cmocka.h and scratch.h. */
#ifndef TESTS_DATA_TOKENS_H
#define TESTS_DATA_TOKENS_H

#include "data/tokenizer/tokenizer.h"

typedef struct OneText {
    const char *text;
} OneText;

static int one_text(void *ctx, const char **text, size_t *len) {
    OneText *t = ctx;
    *text = t->text;
    if (!*text) return 0;
    *len = strlen(*text);
    t->text = NULL;
    return 1;
}

/* Special tokens, 256 bytes, and merges learned from `text` up to `vocab` ids. */
__attribute__((unused)) static Tokenizer *tokens_train(const char *text, int64_t vocab,
                                                       bool chatml) {
    const char *const special[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
    OneText source = {text};
    Tokenizer *t;
    OK(tokenizer_train(&t, one_text, &source,
                       &(TrainOptions){vocab, 2, special, chatml ? 3 : 1, TIE_BREAK_HF, false}));
    return t;
}

/* Every byte a token: lengths are lengths of the text. */
__attribute__((unused)) static Tokenizer *tokens_bytes(void) {
    return tokens_train("", 257, false);
}

/* The text of ids, special tokens included; the caller frees. */
__attribute__((unused)) static char *tokens_text(const Tokenizer *t, const int32_t *ids,
                                                 int64_t n) {
    char *text;
    OK(tokenizer_decode(t, ids, n, false, &text, NULL));
    return text;
}

#endif
