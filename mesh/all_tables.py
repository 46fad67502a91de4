"""All tables of the model, inputs first, each after those that it reads."""

from __future__ import annotations

from typing import Any

from mesh.attachments import ATTACHED, ATTACHMENTS, CLASHES, PROPOSALS
from mesh.audiences import SIGHTS
from mesh.authorization import AUTHORIZATIONS, DISCOVERED_AUTHORIZATIONS
from mesh.backend_tls import TLS_POLICIES
from mesh.certificates import CERTIFICATES, KEY_PAIRS
from mesh.client_policies import CLIENT_RULES
from mesh.client_validation import CLIENT_AUTHORITIES, CLIENT_AUTHORITIES_STATES
from mesh.credentials import CREDENTIALS
from mesh.definitions import DEFINITIONS
from mesh.gateways import GATEWAYS
from mesh.model import INPUTS
from mesh.objects import OBJECTS, SHADOWED
from mesh.peer_authentication import PEER_IDENTITIES, PEER_MODES
from mesh.policies import TRAFFIC
from mesh.quarantine import QUARANTINE
from mesh.reference_grants import REFERENCE_GRANTS
from mesh.references import REFERENCES
from mesh.refusals import REFUSED
from mesh.request_authentication import (
    GUARDED,
    REQUIREMENTS,
    ROUTE_GUARDS,
    WANTED_KEY_SETS,
    WORKLOAD_REQUIREMENTS,
)
from mesh.results import RESULTS
from mesh.rollouts import ROLLOUT_PLANS, ROLLOUT_SHARES
from mesh.route_rules import ROUTE_RULES
from mesh.services import ENDPOINTS, SERVICES, SUBSETS, VISIBLE
from mesh.statuses import STATUSES
from mesh.tables import Table
from mesh.telemetry_policies import ROUTE_TELEMETRY, TELEMETRY_RULES

TABLES: tuple[Table[Any, Any], ...] = (
    *INPUTS,
    DISCOVERED_AUTHORIZATIONS,
    DEFINITIONS,
    REFUSED,
    RESULTS,
    QUARANTINE,
    OBJECTS,
    SHADOWED,
    ROLLOUT_SHARES,
    ROLLOUT_PLANS,
    SERVICES,
    ENDPOINTS,
    VISIBLE,
    SUBSETS,
    AUTHORIZATIONS,
    TRAFFIC,
    PEER_MODES,
    PEER_IDENTITIES,
    ROUTE_RULES,
    ROUTE_GUARDS,
    WANTED_KEY_SETS,
    WORKLOAD_REQUIREMENTS,
    REFERENCE_GRANTS,
    KEY_PAIRS,
    CERTIFICATES,
    CREDENTIALS,
    CLIENT_AUTHORITIES,
    CLIENT_AUTHORITIES_STATES,
    TLS_POLICIES,
    GATEWAYS,
    CLIENT_RULES,
    TELEMETRY_RULES,
    ROUTE_TELEMETRY,
    PROPOSALS,
    CLASHES,
    ATTACHMENTS,
    ATTACHED,
    REFERENCES,
    GUARDED,
    REQUIREMENTS,
    SIGHTS,
    STATUSES,
)
