/* openai.h: the OpenAI HTTP interface over engines, as its clients and EleutherAI's harness call it:
 *
 *   POST /v1/chat/completions  POST /v1/completions   streaming or not; temperature, top_p, top_k,
 *                                                     n, seed, stop, max_tokens, logprobs, echo
 *   GET  /v1/models
 *   POST /tokenize  {"model", "prompt"}      POST /detokenize {"model", "tokens"}
 *   POST /v1/score  {"model", "prompt" or "messages", "completion" or "completions"}: reward models
 *   GET  /health    GET /metrics (Prometheus)
 *
 * A parameter that we do not have is refused by name where it would change the answer. */
#ifndef SERVE_HTTP_OPENAI_H
#define SERVE_HTTP_OPENAI_H

#include "serve/http/engine.h"
#include "serve/http/http.h"

typedef struct OpenAi {
    Engine **engine; /* [n] the first is the default */
    int n;
    atomic_llong requests, left; /* left: by clients, before the end */
} OpenAi;

/* true: the request was one of these and r is its reply. */
bool openai_reply(OpenAi *o, const HttpRequest *q, HttpReply *r);

/* The calls that an engine's threads answer. */
void completions_chat(OpenAi *o, const HttpRequest *h, HttpReply *r);
void completions_text(OpenAi *o, const HttpRequest *h, HttpReply *r);
void scores_reply(OpenAi *o, const HttpRequest *h, HttpReply *r);

/* --- what the calls share -------------------------------------------------------------------------- */

/* Counts the request; its body, or NULL after the reply says what is wrong with it. */
json_t *openai_body(OpenAi *o, const HttpRequest *h, HttpReply *r);
/* The reply says what error_set was told: 400, or 500. */
void openai_refuse(HttpReply *r, int rc);
/* The engine of "model", or the first: a reward model or not. NULL after error_set. */
Engine *openai_engine(const OpenAi *o, const json_t *body, bool reward);
/* The tokens of "messages" with the model's template; of a text or a list of tokens. ERR_DATA. */
int openai_chat_ids(const Loaded *m, const json_t *messages, IdList *ids);
int openai_prompt_ids(const Loaded *m, const json_t *prompt, IdList *ids);
/* Text that is JSON's whatever the bytes are; a number, or null where it is not finite. */
json_t *openai_text(const char *s, size_t n);
json_t *openai_real(float v);

#endif
