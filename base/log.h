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

/* One live line on a terminal, which the next call overwrites (drawn ten times a second at most)
 * and other lines push down; `last` ends it, so that it stays. Two spaces part its fields, of which
 * the last ones are left out where they do not fit. Where `plain` is set the text is also a plain
 * line: in the file, and on stderr when that is no terminal. */
void log_progress(bool plain, bool last, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
bool log_is_terminal(void);   /* is there a live line? Not where TERM is dumb */
bool log_has_colours(int fd); /* may escapes be written there? */
extern double log_redraw_s;   /* 0.1; tests set it */

#endif
