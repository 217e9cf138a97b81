/* label_report.h: progress, agreement, each labeller's speed and biases. */
#ifndef SERVE_HTTP_LABEL_REPORT_H
#define SERVE_HTTP_LABEL_REPORT_H

#include <stdio.h>

#include "base/text.h"
#include "serve/http/label.h"

/* A new reference: {"progress", "agreement", "labellers"}; each figure of agreement is {"value",
 * "low", "high", "n"} with a 95 % percentile interval from 1,000 bootstrap samples of the items. */
int label_report(Label *l, json_t **out);
void label_report_text(const json_t *report, FILE *out);
void label_report_page(const json_t *report, Text *html); /* complete, without scripts */

#endif
