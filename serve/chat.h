/* chat.h: a conversation with a model in a terminal: rhetor-generate --chat. */
#ifndef SERVE_CHAT_H
#define SERVE_CHAT_H

#include <stdio.h>

#include "checkpoints/exchange/load.h"
#include "model/decode.h"

/* Reads lines from `in` until its end or /quit and writes the answers to `out` while they come;
 * with `terminal` also a prompt and hints. `o`: on_token, ctx and step are ours. Lines that begin
 * with / are commands, /help lists them. Ctrl-C (SIGINT) ends an answer, not the conversation. What
 * the model sees are the newest turns that leave it room to answer. Errors in what was typed are
 * said and forgotten; returned are the others (ERR_IO). */
int chat_run(const Loaded *m, const DecodeOptions *o, FILE *in, FILE *out, bool terminal);

/* One answer to the n prompt ids, printed as it comes. *text (may be NULL): the answer, malloc'd;
 * *tokens (may be NULL): its length. raw: no template. */
int chat_answer(const Loaded *m, const DecodeOptions *o, const int32_t *ids, int64_t n, bool raw,
                FILE *out, char **text, int64_t *tokens);

#endif
