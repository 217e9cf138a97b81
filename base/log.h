/* log.h: what people read. Rank 0 prints to stderr and, once log_file() was called, to
 * runs/<name>/<stage>/log.txt; other ranks print warnings only, with their rank before the text. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>

void log_rank(int rank); /* dist/ says who we are; 0 before that */
int log_my_rank(void);
int log_file(const char *path); /* appends to path from now on; ERR_IO */
void log_close(void);
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* One live line that the next call overwrites when stderr is a terminal. Elsewhere the same text
 * is printed as a plain line, at most once in `every_s` seconds. `last` ends the line. */
void log_progress(double every_s, bool last, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
