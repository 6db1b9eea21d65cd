"""What deliveries need and nothing else does: OpenSSL comes with it, which other processes do without.

So it is imported where it is used; a worker that delivers imports this module while it starts, because one
that is out of descriptors can import nothing any more.
"""

from __future__ import annotations

from hmac import digest
from uuid import NAMESPACE_URL, uuid5

from kessel_http.connecting import Network, RefusedAddress, Unable
from kessel_http.exchange import NotAnswered, post

__all__ = ["NAMESPACE_URL", "Network", "NotAnswered", "RefusedAddress", "Unable"]
__all__ += ["digest", "post", "uuid5"]
