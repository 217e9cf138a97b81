/* config.h: settings. base/config_keys.h is the one table of keys; from it come the struct below,
 * parsing, ranges, "did you mean", --help, docs/CONFIG.md and the resolved config that every run
 * directory and checkpoint carries. */
#ifndef BASE_CONFIG_H
#define BASE_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

typedef struct StrList {
    char **v;
    int n;
} StrList; /* owned by the Config */

/* The stages, in a pipeline's order (base/stages.h). STAGE_SUBMIT is none, but has settings too:
 * rhetor-submit's cluster.yaml. */
enum {
    STAGE_NONE,
#define STAGE(NAME, ...) STAGE_##NAME,
#include "base/stages.h"
    STAGE_SUBMIT,
    STAGES = STAGE_SUBMIT /* `for (s = STAGE_NONE + 1; s < STAGES; s++)` */
};
typedef struct StageInfo {
    const char *name, *what, *headline, *settings; /* see base/stages.h */
} StageInfo;
extern const StageInfo config_stage[];

/* A step of it is an iteration of ppo.batch episodes, not train.batch items. */
static inline bool config_has_episodes(int stage) {
    return stage == STAGE_PPO || stage == STAGE_GRPO;
}

/* C types of the kinds of keys. ENUM holds the index of the word in its list of choices. */
typedef int64_t ConfigI64;
typedef double ConfigF64;
typedef bool ConfigBool;
typedef const char *ConfigStr;
typedef StrList ConfigList;
typedef const char *ConfigPath;
typedef StrList ConfigPaths;
typedef int ConfigEnum;

typedef struct Config {
    int stage;          /* STAGE_* */
    const char *origin; /* the file it came from, "" if none */
#define KEY(field, name, Kind, ...) Config##Kind field;
#include "base/config_keys.h"
    void *priv; /* strings, where each value was set */
} Config;

/* Constants of the words: SCHEDULE_COSINE, ... */
#define WORD(constant, word)               constant,
#define ENUM(field, name, def, words, ...) enum { words };
#include "base/config_keys.h"

/* Reads `path` (NULL: defaults only), then the overrides "section.key=value" in order. In values
 * ${NAME} and ${NAME:-default} are replaced from the environment (unset without default: error), in
 * paths ~/ by the home folder. ERR_CONFIG: path:line:column (or the override), what was found, the
 * range or the choices or the nearest known key, and for a key of another stage which stage has
 * it. */
int config_load(Config *c, int stage, const char *path, const char *const *overrides, int n);
void config_free(Config *c);

char *config_yaml(const Config *c); /* resolved, every key of the stage; malloc'd */
char *config_help(int stage);       /* text for --help; malloc'd */
char *config_markdown(void);        /* docs/CONFIG.md; malloc'd */
/* "key: old -> new", a line each, for the stage's settings that change what comes out and differ in
 * two texts of config_yaml; what one lacks is at its default. malloc'd, "" if none. */
char *config_diff(int stage, const char *yaml_old, const char *yaml_new);
const char *config_stage_name(int stage); /* "pretrain", ...; "submit" */
int config_stage_named(const char *name); /* STAGE_NONE if there is none */

/* For a value that is only found wrong later: "demo/ppo.yaml:12: ppo.batch is 30, ...". */
int config_bad(const Config *c, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
