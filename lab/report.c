#include "lab/report.h"
int report_labs(const LabGraph *g, json_t *const *records, int missing, const char *path) { return 0; }
int report_run(const char *run) { return 0; }
