/* option.c: values of command-line options. */
#include "base/option.h"

#include "base/error.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

int64_t option_whole_to(struct argp_state *state, const char *name, const char *arg, int64_t lowest,
                        int64_t highest) {
    char *end;
    errno = 0;
    const long long v = strtoll(arg, &end, 10);
    if (end != arg && !*end && !errno && v >= lowest && v <= highest) return v;
    if (highest == INT64_MAX)
        argp_error(state, "--%s is \"%s\"; expected a whole number from %" PRId64 " up", name, arg,
                   lowest);
    else
        argp_error(state, "--%s is \"%s\"; expected a whole number from %" PRId64 " to %" PRId64,
                   name, arg, lowest, highest);
    return lowest;
}

int64_t option_whole(struct argp_state *state, const char *name, const char *arg, int64_t lowest) {
    return option_whole_to(state, name, arg, lowest, INT64_MAX);
}

double option_number(struct argp_state *state, const char *name, const char *arg, double lowest,
                     double highest) {
    char *end;
    const double v = strtod(arg, &end);
    if (end == arg || *end || !(v >= lowest && v <= highest))
        argp_error(state, "--%s is \"%s\"; expected a number from %g to %g", name, arg, lowest,
                   highest);
    return v;
}

void option_push(struct argp_state *state, const char *name, const char **list, int *n, int room,
                 const char *arg) {
    if (*n == room) argp_error(state, "more than %d --%s", room, name);
    list[(*n)++] = arg;
}

void option_add(const char ***list, int *n, const char *text) {
    *list = xrealloc(*list, (size_t)(*n + 1) * sizeof **list);
    (*list)[(*n)++] = text;
}
