/* pages.c: see pages.h. The assembler puts the files in. */
#include "serve/http/pages.h"

#include <string.h>

#define PAGES(X)                                               \
    X(label_html, "/label.html", "label.html", "text/html")    \
    X(label_js, "/label.js", "label.js", "text/javascript")    \
    X(chat_html, "/chat.html", "chat.html", "text/html")       \
    X(chat_js, "/chat.js", "chat.js", "text/javascript")       \
    X(common_js, "/common.js", "common.js", "text/javascript") \
    X(style_css, "/style.css", "style.css", "text/css")        \
    X(login_html, "/login.html", "login.html", "text/html")    \
    X(login_js, "/login.js", "login.js", "text/javascript")

#define X(name, path, file, type)                                                            \
    __asm__(".section .rodata\n.global pages_" #name "\npages_" #name                        \
            ":\n.incbin \"serve/pages/" file "\"\n.global pages_" #name "_end\npages_" #name \
            "_end:\n.byte 0\n.previous\n");                                                  \
    extern const char pages_##name[], pages_##name##_end[];
PAGES(X)
#undef X

bool pages_reply(const char *path, HttpReply *r) {
#define X(name, at, file, mime)                                     \
    if (strcmp(path, at) == 0) {                                    \
        r->page = pages_##name;                                     \
        r->page_size = (size_t)(pages_##name##_end - pages_##name); \
        r->type = mime "; charset=utf-8";                           \
        return true;                                                \
    }
    PAGES(X)
#undef X
    return false;
}
