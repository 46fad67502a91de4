"""All that knows Envoy: its message types, how the model becomes its resources, and the protocol that delivers them.

`schema/` holds Envoy's message types, `translate/` turns the model into Envoy resources, `protocol/` is the xDS state
machine without I/O, `server/` the gRPC shells around it.

The protos of the xDS standard have a Python package of the same name (`xds.core.v3`, ...). Extending `__path__` lets an
installed copy of those live beside ours, so this package must never have sub-packages named annotations, core, data,
service or type.
"""

import pkgutil

__path__ = pkgutil.extend_path(__path__, __name__)
