/* stream.c: what a stream does seldom; the rest stands in stream.h. No state. */
#include "net/stream.h"

#include <errno.h>

bool stream_is_quiet(struct stream *stream)
{
    char byte;

    if (stream->filter != NULL) {
        return stream->filter->is_quiet(stream->state);
    }
    return sys_socket_peek(stream->fd, &byte, 1) == -EAGAIN;
}

void stream_close(struct stream *stream)
{
    if (stream->fd < 0) {
        return;
    }
    if (stream->filter != NULL) {
        stream->filter->close(stream->state);
    }
    sys_close(stream->fd);
    *stream = (struct stream){ .fd = -1 };
}
