/* lab_report.h: what a lab found, as one HTML file that needs no scripts and no network. */
#ifndef LAB_LAB_REPORT_H
#define LAB_LAB_REPORT_H

#include "lab/lab.h"

/* Verdicts, panels, numbers, what was run. records: of each lab. missing: measures not there.
 * *open: panels with criteria that do not hold. */
int report_labs(const LabGraph *g, json_t *const *records, int missing, const char *path,
                int *open);
/* A single run, or a pipeline's folder: RUN/report.html with the curves of every stage, samples and
 * tables. ERR_DATA where nothing of a run lies there. */
int report_run(const char *run);

#endif
