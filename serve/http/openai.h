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

#endif
