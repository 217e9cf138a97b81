/* log.c: the lines people read, on stderr and in the run's log.txt.
 *
 * Every line leaves in one write(2): lines of several ranks do not mix, and a kill -9 loses none.
 * On a terminal log_progress() keeps one live line at the bottom; a normal line first wipes it, and
 * the next progress call draws it again. In the file each line begins with the date and time. */
#include "base/log.h"
#include "base/clock.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define WIPE "\r\033[K" /* to column 0, clear to the end of the line */

double log_redraw_s = 0.1;

static int my_rank;
static int file_fd = -1;
static bool live;              /* a live line stands on the terminal */
static double last_drawn = -1; /* seconds, when progress was last drawn on the terminal */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

void log_rank(int rank) { my_rank = rank; }
int log_my_rank(void) { return my_rank; }

int log_file(const char *path) {
    if (my_rank != 0) return 0;
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0)
        return error_set(ERR_IO,
                         "%s: cannot open the log for appending: %s; check that the folder "
                         "exists and may be written",
                         path, strerror(errno));
    log_close();
    file_fd = fd;
    return 0;
}

void log_close(void) {
    pthread_mutex_lock(&mutex);
    if (file_fd >= 0) close(file_fd);
    file_fd = -1;
    pthread_mutex_unlock(&mutex);
}

static void put(int fd, const char *text, size_t len) {
    while (len > 0) {
        ssize_t n = write(fd, text, len);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return; /* a log that cannot be written must not end a run */
        text += n;
        len -= (size_t)n;
    }
}

static void put_screen(const char *before, const char *text, const char *after) {
    AUTOFREE char *line = xasprintf("%s%s%s%s", live ? WIPE : "", before, text, after);
    put(STDERR_FILENO, line, strlen(line));
    live = false;
}

static void put_file(const char *before, const char *text) {
    if (file_fd < 0) return;
    char when[32];
    time_t now = time(NULL);
    struct tm tm;
    localtime_r(&now, &tm);
    strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &tm);
    AUTOFREE char *line = xasprintf("%s %s%s\n", when, before, text);
    put(file_fd, line, strlen(line));
}

static char *format(const char *fmt, va_list ap) {
    char *text = NULL;
    CHECK(vasprintf(&text, fmt, ap) >= 0, "format \"%s\"", fmt);
    return text;
}

void log_info(const char *fmt, ...) {
    if (my_rank != 0) return;
    va_list ap;
    va_start(ap, fmt);
    AUTOFREE char *text = format(fmt, ap);
    va_end(ap);
    pthread_mutex_lock(&mutex);
    put_screen("", text, "\n");
    put_file("", text);
    pthread_mutex_unlock(&mutex);
}

void log_warn(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    AUTOFREE char *text = format(fmt, ap);
    va_end(ap);
    char before[48] = "warning: ";
    if (my_rank != 0) snprintf(before, sizeof before, "rank %d: warning: ", my_rank);
    pthread_mutex_lock(&mutex);
    put_screen(before, text, "\n");
    put_file(before, text);
    pthread_mutex_unlock(&mutex);
}

/* A live line that wraps could not be wiped: whole fields, which two spaces part, go from its end
 * until it fits; of a single one the end, at a character. */
static void cut_to_terminal(char *text) {
    struct winsize w;
    size_t columns = 80, at = 0;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 1) columns = w.ws_col;
    for (size_t shown = 1; text[at] && shown < columns; at++)
        shown += ((unsigned char)text[at + 1] & 0xC0) != 0x80;
    if (!text[at]) return;
    text[at] = '\0';
    char *field = NULL;
    for (char *s = text; (s = strstr(s, "  ")); s++) field = s;
    if (field) *field = '\0';
}

static bool understands_escapes(int fd) {
    const char *term = getenv("TERM");
    return isatty(fd) && term && *term && strcmp(term, "dumb") != 0;
}

bool log_is_terminal(void) { return my_rank == 0 && understands_escapes(STDERR_FILENO); }

bool log_has_colours(int fd) {
    const char *no = getenv("NO_COLOR"); /* no-color.org */
    return understands_escapes(fd) && !(no && *no);
}

void log_progress(bool plain, bool last, const char *fmt, ...) {
    if (my_rank != 0) return;
    double now = clock_seconds();
    bool terminal = log_is_terminal();
    bool draw = terminal && (last || last_drawn < 0 || now - last_drawn >= log_redraw_s);
    if (!draw && !plain) return;

    va_list ap;
    va_start(ap, fmt);
    AUTOFREE char *text = format(fmt, ap);
    va_end(ap);
    pthread_mutex_lock(&mutex);
    if (plain) {
        if (!terminal) put_screen("", text, "\n");
        put_file("", text);
    }
    if (draw) {
        cut_to_terminal(text);
        put_screen("", text, last ? "\n" : "");
        live = !last;
        last_drawn = last ? -1 : now; /* the next line is another one */
    }
    pthread_mutex_unlock(&mutex);
}
