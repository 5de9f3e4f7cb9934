/* net.h: what src/net offers to the layers above: connected sockets. */
#ifndef IL_NET_H
#define IL_NET_H

#include "net/dial.h"

#endif
