/* label_service.h: the labelling pages and the calls that they make:
 *
 *   GET  /enter?token=T       the first visit        POST /api/enter {"token"}
 *   GET  /api/task            {"form", "labeller", "progress", "task": label_task's or null}
 *   POST /api/answer          {"assignment", "id", "body", "seconds"}
 *   POST /api/draft           {"assignment", "body"}
 *   POST /api/skip            {"assignment", "reason"}
 *   POST /api/undo            {}
 *   GET  /report, /api/report for administrators */
#ifndef SERVE_HTTP_LABEL_SERVICE_H
#define SERVE_HTTP_LABEL_SERVICE_H

#include "serve/http/http.h"
#include "serve/http/label.h"

/* A handler of http_open; ctx is the Label. */
void label_service(void *label, const HttpRequest *q, HttpReply *r);

#endif
