/* net.h: what src/net offers to the layers above: connected streams. */
#ifndef IL_NET_H
#define IL_NET_H

#include "net/dial.h"
#include "net/stream.h"

#endif
