/* yaml.h: the settings in a YAML text, one by one. Sections nest as deep as one likes:
 *   run: {dir: x}    and    run.dir: x    are both the setting "run.dir".
 * In a list of sections they are numbered:
 *   steps: [{name: a}, {name: b}]         are the settings "steps.0.name" and "steps.1.name". */
#ifndef BASE_YAML_H
#define BASE_YAML_H

#include <stdbool.h>
#include <stddef.h>

typedef struct YamlValue {
    const char *key;
    char **items; /* a scalar is one item */
    int n;
    bool list;
    bool null;        /* nothing there, ~ or null, without quotes */
    int line, column; /* of the value, from 1 */
} YamlValue;

/* A negative return ends the walk and is handed on. */
typedef int YamlVisit(void *ctx, const YamlValue *v);

/* ERR_CONFIG "path:line:column: ..." for what is no YAML, or more than sections, scalars and lists
 * of either. */
int yaml_settings(const char *text, size_t len, const char *path, YamlVisit *visit, void *ctx);
/* The same, where an empty section, {}, is a setting too: null, without items. */
int yaml_settings_all(const char *text, size_t len, const char *path, YamlVisit *visit, void *ctx);

#endif
