/* pages.h: the files of serve/pages/, in the program itself. */
#ifndef SERVE_HTTP_PAGES_H
#define SERVE_HTTP_PAGES_H

#include "serve/http/http.h"

/* Answers GET of a page, script or style by its path ("/label.js"); false: there is none. */
bool pages_reply(const char *path, HttpReply *r);

#endif
