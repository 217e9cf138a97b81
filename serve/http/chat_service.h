/* chat_service.h: rhetor-serve's handler: the OpenAI interface, the chat page, comparisons.
 *
 *   GET  /              the chat page
 *   GET  /api/me        {"votes": may comparisons be kept?, "labeller"}
 *   POST /api/vote      {"messages", "answers": [{"model", "text"}, ...], "rank": [1, ...],
 *                       "both_bad"}: 2 to 9 answers, equal ranks are ties; kept in the labelling
 *                       database
 *   GET  /api/arena     Bradley-Terry strengths of the models in its comparisons */
#ifndef SERVE_HTTP_CHAT_SERVICE_H
#define SERVE_HTTP_CHAT_SERVICE_H

#include "serve/http/openai.h"
#include "serve/http/visitor.h"

typedef struct ChatService {
    OpenAi api;
    Visitors visitors;
} ChatService;

void chat_service(void *service, const HttpRequest *q, HttpReply *r); /* a handler of http_open */

/* Strengths (logits, mean 0) of the models that were compared, with 95 % bootstrap intervals over the
 * comparisons; a new reference: {"models": [{"model", "strength", "low", "high", "wins", "ties",
 * "losses"}], "comparisons"}. Without a finite answer the strengths are null. */
int chat_service_arena(Label *l, json_t **out);

#endif
