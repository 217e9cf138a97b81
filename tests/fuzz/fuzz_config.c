/* fuzz_config.c: configuration files and settings; the resolved text must read back to itself. */
#include "tests/fuzz/fuzz.h"

#include "base/config.h"

static void one(const uint8_t *data, size_t len) {
    const int stage = len > 0 ? 1 + data[0] % (STAGES - 1) : STAGE_SFT;
    const char *path = fuzz_file("config.yaml", data, len);
    Config c, again;
    if (config_load(&c, stage, path, NULL, 0) >= 0) {
        char *text = config_yaml(&c);
        const char *resolved = fuzz_file("resolved.yaml", text, strlen(text));
        int rc = config_load(&again, stage, resolved, NULL, 0);
        CHECK(rc >= 0, "the resolved configuration is refused: %s", error_message());
        char *back = config_yaml(&again), *diff = config_diff(stage, text, back);
        CHECK(strcmp(text, back) == 0, "the resolved configuration changes:\n%s\n%s", text, back);
        CHECK(!*diff, "%s", diff);
        free(diff);
        free(back);
        free(text);
        config_free(&again);
    }
    config_free(&c);
    if (memchr(data, '=', len)) { /* a setting */
        char *setting = memcpy(xcalloc(len + 1, 1), data, len);
        if (config_load(&c, stage, NULL, (const char *const *)&setting, 1) >= 0) config_free(&c);
        free(setting);
    }
}

FUZZ_MAIN(one, "run.seed", "data.train", "data: ", "run: {", "optim.lr",
          "data.roles.user=", "model.heads=", "${HOME}", "${NO:-1}", "\n  - ", "[", "]", "&a", "*a",
          "<<: ", "!!int ", "|\n  ", ">\n  ", "\"", "'", "#", "null", "~", "true", "1e400", "nan",
          "0x10", "---\n", "? ", "\t", "...")
