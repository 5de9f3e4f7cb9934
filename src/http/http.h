/* http.h: what src/http offers to the layers above: URLs, requests as bytes, responses from bytes.
 * Protocol only; no socket, no loop, no thread. */
#ifndef IL_HTTP_H
#define IL_HTTP_H

#include "http/h1_request.h"
#include "http/h1_response.h"
#include "http/headers.h"
#include "http/url.h"

#endif
