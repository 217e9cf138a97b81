/* option.h: values of command-line options. What is not as expected ends the program through
 * argp_error: a line that names the option, and the exit code of usage. */
#ifndef BASE_OPTION_H
#define BASE_OPTION_H

#include <argp.h>
#include <stdint.h>

/* A whole number from `lowest` up, or to `highest`; a number from lowest to highest. `name` without
 * its dashes. */
int64_t option_whole(struct argp_state *state, const char *name, const char *arg, int64_t lowest);
int64_t option_whole_to(struct argp_state *state, const char *name, const char *arg, int64_t lowest,
                        int64_t highest);
double option_number(struct argp_state *state, const char *name, const char *arg, double lowest,
                     double highest);
/* Appends to a list that has room for `room`. */
void option_push(struct argp_state *state, const char *name, const char **list, int *n, int room,
                 const char *arg);
/* Appends to a list that grows; the caller frees it. */
void option_add(const char ***list, int *n, const char *text);

#endif
