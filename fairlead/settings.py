"""Every setting of `fairlead serve`, declared and documented once: name, type, default, meaning.

From the fields below come the flag (`--quiet-period`), the environment variable (`FAIRLEAD_QUIET_PERIOD`), the key in
the settings file (`quiet_period`), the help text and the reference page (`settings_page.py`). `settings_load.py` finds
what they are set to.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec

Meta = msgspec.Meta
Seconds = Annotated[float, Meta(ge=0, le=86_400)]
LeafSeconds = Annotated[float, Meta(ge=5, le=604_800)]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "console", "json"]


PREFIX = "FAIRLEAD_"
"""Of the environment variables."""
_SECRETS = frozenset({"api_tokens", "ca_passphrase"})


def _about(description: str) -> msgspec.Meta:
    return Meta(description=description)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All settings of the server, checked. Times are in seconds, addresses are `HOST:PORT` strings."""

    files: Annotated[
        tuple[str, ...], _about("A folder of YAML or JSON objects to read and watch; may be given several times.")
    ] = ()
    kubernetes: Annotated[
        tuple[str, ...],
        _about(
            "A Kubernetes cluster to watch: `in-cluster` (the one this program runs in) or `KUBECONFIG[#CONTEXT]`, with"
            " a name as in `east=~/.kube/config#east`; without a name it is `default`. May be given several times."
        ),
    ] = ()
    kubernetes_namespaces: Annotated[
        tuple[str, ...],
        _about("Watch only these namespaces of the clusters; may be given several times. Without: all."),
    ] = ()
    kubernetes_optional: Annotated[
        tuple[str, ...],
        _about(
            "The name of a cluster without which the server may start, even if nothing was ever seen of it; may be"
            " given several times."
        ),
    ] = ()
    kubernetes_lease: Annotated[
        str,
        _about(
            "The Lease, as `NAMESPACE/NAME`, by which replicas agree on who writes to a cluster. Empty: `fairlead` in"
            " the pod's own namespace, outside a cluster in `default`."
        ),
    ] = ""
    consul: Annotated[
        str, _about("A Consul agent in whose catalog services are found: a URL like `http://127.0.0.1:8500`.")
    ] = ""
    consul_datacenters: Annotated[
        tuple[str, ...],
        _about(
            "Another datacenter to find services in, whose instances take over where the agent's own has none left: in"
            " the order given; `all` means all others, by name. May be given several times."
        ),
    ] = ()
    consul_namespace: Annotated[
        str,
        Meta(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z"),
        _about("The namespace of Consul's services, unless their meta key or tag `fairlead-namespace` says another."),
    ] = "default"
    consul_token_file: Annotated[
        str, _about("A file with the ACL token for Consul; read for each request, so that it can be replaced.")
    ] = ""
    consul_ca: Annotated[
        str, _about("PEM file with the authorities of an `https:` agent. Empty: those of the system.")
    ] = ""
    consul_cert: Annotated[str, _about("PEM file with the certificate that such an agent asks for.")] = ""
    consul_key: Annotated[str, _about("PEM file with the key of `consul_cert`.")] = ""
    consul_partition: Annotated[str, _about("The admin partition to read, where Consul has them.")] = ""
    consul_query_namespace: Annotated[str, _about("The namespace of Consul's own to read, where Consul has them.")] = ""
    consul_exclude: Annotated[
        tuple[str, ...],
        _about(
            "Services to leave out: an expression of RE2 for the whole name, like `.*-test`; may be given several"
            " times."
        ),
    ] = ()
    consul_reads: Annotated[
        Literal["default", "stale", "consistent", "cached"],
        _about(
            "Consul's consistency mode; `cached` reads from the agent's cache, which newer agents fill by streaming."
        ),
    ] = "default"
    consul_max_stale: Annotated[
        Seconds, _about("With `stale` reads: how long a server may not have heard from a leader to be believed.")
    ] = 30.0
    consul_polls: Annotated[
        int,
        Meta(ge=2, le=100_000),
        _about(
            "How many blocking queries are open at once; with more services than that they take turns. An agent takes"
            " 200 connections from one address unless its `limits.http_max_conns_per_client` says more."
        ),
    ] = 150
    consul_optional: Annotated[bool, _about("Start without Consul, even if nothing was ever seen of it.")] = False
    consul_unhealthy: Annotated[
        bool,
        _about(
            "Tell proxies of critical instances, as unhealthy, instead of leaving them out: then another datacenter"
            " takes over in part, and Envoy's panic threshold counts."
        ),
    ] = False
    registrations: Annotated[
        Literal["store", "consul"],
        _about(
            "Where instances that register over REST are kept: `store` is this server's own, `consul` the agent of"
            " `consul`, whose token then needs `service:write`."
        ),
    ] = "store"
    store: Annotated[
        str,
        _about(
            "Where objects sent over REST are kept: `sqlite:PATH`, or for several replicas together a prefix of"
            " Consul's KV, `consul://HOST:PORT/PREFIX` or `consul+https://…`, which may end in `?dc=NAME`, `ns=` and"
            " `partition=` too. Empty: `fairlead.db` in the user's state directory."
        ),
    ] = ""
    store_local: Annotated[
        str,
        _about(
            "With a store in Consul: the SQLite file with what this replica keeps for itself. Empty: `fairlead.db` in"
            " the user's state directory."
        ),
    ] = ""
    store_token_file: Annotated[
        str, _about("A file with the token for Consul's KV and sessions; read for each request.")
    ] = ""
    store_ca: Annotated[
        str, _about("PEM file with the authorities of that Consul's certificate. Empty: those of the system.")
    ] = ""
    store_cert: Annotated[str, _about("PEM file with the certificate to show to that Consul.")] = ""
    store_key: Annotated[str, _about("PEM file with the key of `store_cert`.")] = ""
    xds: Annotated[str, _about("Address on which Envoys and gRPC clients get their configuration.")] = "127.0.0.1:18000"
    api: Annotated[str, _about("Address of the REST API, the page at `/`, `/healthz`, `/readyz` and `/metrics`.")] = (
        "127.0.0.1:8080"
    )
    insecure_xds: Annotated[
        bool, _about("Serve xDS in plaintext and to anybody who can reach it; on a loopback address only.")
    ] = False
    xds_cert: Annotated[
        str, _about("PEM file with the xDS server's certificate chain; read again when it changes.")
    ] = ""
    xds_key: Annotated[str, _about("PEM file with the key of `xds_cert`.")] = ""
    xds_client_ca: Annotated[
        str, _about("PEM file with the authorities whose client certificates proxies must show.")
    ] = ""
    xds_workload_api: Annotated[
        str,
        _about(
            "Socket of SPIFFE's Workload API, as SPIRE's agent has it: the xDS server's certificate, and whose client"
            " certificates proxies must show, come from there, in place of the three files."
        ),
    ] = ""
    load_report_interval: Annotated[
        float,
        Meta(ge=0.1, le=3_600),
        _about("How often proxies report the load of their clusters (LRS); a Rollout is judged by these reports."),
    ] = 10.0
    prometheus: Annotated[
        tuple[str, ...],
        _about(
            "A Prometheus server that Rollouts may ask, a URL like `https://prometheus.example.com`; the first is meant"
            " where a query names none. May be given several times."
        ),
    ] = ()
    xds_tokens: Annotated[
        str,
        _about(
            "Address on which proxies in the clusters get their configuration and show a service account token instead"
            " of a certificate. Empty, with a cluster and neither certificates nor `insecure_xds`: that of `xds`."
        ),
    ] = ""
    xds_names: Annotated[
        tuple[str, ...],
        _about(
            "A DNS name or address by which those proxies reach it, for its certificate; may be given several times."
            " Without: `fairlead.NAMESPACE.svc` with the namespace of `kubernetes_lease`."
        ),
    ] = ()
    xds_audience: Annotated[
        str,
        Meta(pattern=r"^[!-~]{1,253}\Z"),
        _about("The audience that proxies' tokens must be for."),
    ] = "fairlead"
    oidc_issuers: Annotated[
        str,
        _about(
            "JSON file with OIDC issuers whose tokens are taken beside clusters': `{issuers: [{issuer, audience,"
            " jwks, subjects}]}`, where `subjects` gives the `NAMESPACE/ACCOUNT` of each `sub`; read again when it"
            " changes."
        ),
    ] = ""
    gateway_xds: Annotated[
        str,
        _about(
            "Address at which the proxies of Gateways in the clusters reach this program, `HOST:PORT`. With it, proxies"
            " are run for each Gateway. Empty: so too where the cluster is `in-cluster`, at the first of `xds_names`;"
            " `none`: nowhere."
        ),
    ] = ""
    gateway_image: Annotated[str, _about("The image of those proxies, with Envoy at `/usr/local/bin/envoy`.")] = (
        "docker.io/envoyproxy/envoy:distroless-v1.40.0"
    )
    gateway_image_pull_policy: Annotated[
        Literal["", "Always", "IfNotPresent", "Never"], _about("When it is pulled. Empty: Kubernetes' own choice.")
    ] = ""
    gateway_service_type: Annotated[
        Literal["LoadBalancer", "ClusterIP", "NodePort"],
        _about("How clients reach those proxies, unless `GatewayParameters` say otherwise."),
    ] = "LoadBalancer"
    trust_domain: Annotated[
        str,
        Meta(pattern=r"^[a-z0-9._-]{1,255}\Z"),
        _about("The trust domain that the SPIFFE IDs in proxies' certificates must be of."),
    ] = "cluster.local"
    root_namespace: Annotated[
        str,
        Meta(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z"),
        _about("The namespace whose policies, where they are for its `Namespace`, are for the whole mesh."),
    ] = "fairlead-system"
    envoy_patches: Annotated[
        bool,
        _about(
            "Apply EnvoyPatches. Who may write one can do anything to the traffic of what it is for, and make its"
            " proxies refuse what they are told; see docs/how-to/envoy-patches.md."
        ),
    ] = False
    route_code: Annotated[
        bool,
        _about(
            "Run the Lua and Wasm of RoutePolicies. Who may write some can keep a proxy's worker busy, ask whatever the"
            " proxy knows and lead requests to other routes; without this such a route answers 500."
        ),
    ] = False
    first_bytes_wait: Annotated[
        int,
        Meta(ge=1, le=60_000),
        _about(
            "How long a TCP port under PERMISSIVE mutual TLS waits for a client's first bytes before it counts as"
            " plaintext, in ms. It delays plaintext clients of protocols in which the server speaks first; shorter than"
            " a lost packet takes to be sent again, it takes a slow TLS client for plaintext."
        ),
    ] = 500
    ca: Annotated[
        str,
        _about(
            "Who signs workloads' certificates: `store` (built in, its keys sealed in the store), `secret:NAME` (built"
            " in, in a Secret of the first cluster, which replicas share), `folder:DIR` (built in, in a folder that"
            " `fairlead ca init` made), `memory` (built in, forgotten at the end: for a laptop),"
            " `files:DIR` (an authority's `tls.crt`, `tls.key` and `ca.crt`, which somebody else renews),"
            " `vault:URL#MOUNT/ROLE` (Vault's PKI engine), `kubernetes:SIGNER` (a signer of certificate requests in the"
            " first cluster). Empty: nobody."
        ),
    ] = ""
    ca_passphrase: Annotated[
        str, _about("The passphrase that seals the keys of a built-in authority, or those for JWT-SVIDs.")
    ] = ""
    ca_passphrase_file: Annotated[
        str, _about("A file with it in its first line, which nobody but this program's user may read.")
    ] = ""
    ca_jwt_keys: Annotated[
        str,
        _about(
            "Where our keys for JWT-SVIDs are kept beside an authority that is not built in (`files:`, `vault:`,"
            " `kubernetes:`): `store`, or `secret:NAME` (a Secret of the first cluster, which replicas share). They are"
            " sealed with the passphrase. Empty: such an authority's workloads get no JWT-SVIDs."
        ),
    ] = ""
    ca_roots: Annotated[
        str, _about("PEM file with the roots of a `kubernetes:` signer; read again when it changes.")
    ] = ""
    ca_token_file: Annotated[
        str, _about("A file with the token for Vault, which nobody else may read; read for each request.")
    ] = ""
    ca_server_ca: Annotated[
        str, _about("PEM file with the authorities of Vault's own certificate. Empty: those of the system.")
    ] = ""
    ca_key_type: Annotated[
        Literal["ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-3072", "rsa-4096"],
        _about("The kind of keys that a built-in authority makes for itself."),
    ] = "ecdsa-p256"
    ca_root_lifetime: Annotated[
        float, Meta(ge=60, le=315_360_000), _about("How long an authority that signs itself lives; another follows it.")
    ] = 31_536_000.0
    ca_leaf_lifetime: Annotated[
        LeafSeconds, _about("How long workloads' certificates live where nobody asks for another life.")
    ] = 86_400.0
    ca_leaf_lifetime_min: Annotated[
        LeafSeconds,
        _about("The shortest life that is granted. Less than an hour is for tests and demonstrations."),
    ] = 3_600.0
    ca_leaf_lifetime_max: Annotated[
        LeafSeconds, _about("The longest life that is granted; to ask for a longer one is an error.")
    ] = 604_800.0
    ca_activation_wait: Annotated[
        Seconds,
        _about(
            "How long a new root that is to sign waits for proxies which do not trust it yet; then it signs, and the"
            " log raises an alarm."
        ),
    ] = 86_400.0
    ca_settle_time: Annotated[
        Seconds,
        _about("How long it waits for proxies that are not connected: after a start, and for one that went away."),
    ] = 60.0
    ca_mount_time: Annotated[
        Seconds,
        _about(
            "How long pods take to see a changed ConfigMap: a new root waits so long, after `fairlead-ca` tells of it,"
            " before it signs."
        ),
    ] = 120.0
    bundle_endpoint: Annotated[
        str, _about("Address on which other trust domains get the trust bundle over HTTPS. Empty: nowhere.")
    ] = ""
    bundle_names: Annotated[
        tuple[str, ...],
        _about("A DNS name or address for its certificate, beside its SPIFFE ID; may be given several times."),
    ] = ()
    bundle_cert: Annotated[
        str, _about("PEM file with a certificate for it that the public web trusts. Empty: one of `ca`.")
    ] = ""
    bundle_key: Annotated[str, _about("PEM file with the key of `bundle_cert`, which nobody else may read.")] = ""
    federate: Annotated[
        tuple[str, ...],
        _about(
            "Another trust domain whose certificates are believed: `TRUST-DOMAIN=URL` (the public web vouches for the"
            " URL) or `TRUST-DOMAIN=URL;SPIFFE-ID;FILE` (its own authority does; FILE is its first bundle). May be"
            " given several times."
        ),
    ] = ()
    federate_ca: Annotated[
        str, _about("PEM file with the authorities that vouch for such URLs. Empty: those of the system.")
    ] = ""
    jwks_refresh: Annotated[
        float,
        Meta(ge=1, le=86_400),
        _about("How often the keys of token issuers (`jwksUri`) are fetched; a fifth of it less by chance."),
    ] = 300.0
    jwks_private: Annotated[
        tuple[str, ...],
        _about(
            "A network (`10.1.0.0/16`) or the name of a host from which such keys may be fetched although its address"
            " is not one of the public internet. May be given several times."
        ),
    ] = ()
    jwks_ca: Annotated[
        str, _about("PEM file with authorities that vouch for such hosts, beside those of the system.")
    ] = ""
    api_tls: Annotated[
        bool,
        _about(
            "Serve the API over HTTPS, with a certificate of `ca`, or with `xds_cert` where that is given; looked at"
            " again for each connection."
        ),
    ] = False
    api_names: Annotated[
        tuple[str, ...],
        _about("A DNS name or address by which users reach the API, for its certificate; may be given several times."),
    ] = ()
    api_tokens: Annotated[
        str,
        _about("Tokens for the API, one `name:role:token` per line; role is `read` or `write`."),
    ] = ""
    api_tokens_file: Annotated[
        str, _about("A file with such lines; this or `api_tokens` is needed to serve the API beyond loopback.")
    ] = ""
    quiet_period: Annotated[
        Seconds, _about("How long changes other than of endpoints wait for more of their kind before they are sent.")
    ] = 0.01
    quiet_period_max: Annotated[Seconds, _about("How long such a change waits at most while others keep coming.")] = 0.1
    removal_grace: Annotated[
        Seconds, _about("How long a cluster outlives the last route to it, for requests that were already under way.")
    ] = 5.0
    removal_timeout: Annotated[
        Seconds, _about("How long a removal waits for a proxy that does not acknowledge its routes.")
    ] = 30.0
    audience_linger: Annotated[
        Seconds, _about("How long configuration is kept ready for proxies that have all disconnected.")
    ] = 60.0
    stream_max_age: Annotated[
        Seconds,
        _about("Age at which an xDS stream is closed so that proxies spread anew; varied by a fifth; 0: never."),
    ] = 1800.0
    streams_per_second: Annotated[
        float, Meta(ge=1, le=1_000_000), _about("How many new xDS streams are admitted per second.")
    ] = 500.0
    drain_time: Annotated[
        Seconds, _about("After SIGTERM: how long open streams and requests have to end by themselves.")
    ] = 5.0
    log_level: Annotated[LogLevel, _about("The least important messages that are logged.")] = "info"
    log_format: Annotated[LogFormat, _about("`auto` is `console` on a terminal and `json` elsewhere.")] = "auto"


class SettingInfo(msgspec.Struct, frozen=True):
    """One setting as people see it; `type` is the plain Python type behind the constraints."""

    name: str
    type: Any
    default: Any
    description: str

    @property
    def secret(self) -> bool:
        """Whether nobody may see its value."""
        return self.name in _SECRETS

    @property
    def flag(self) -> str:
        """The flag of `fairlead serve`; empty for a secret, which every user of the machine could read with `ps`."""
        return "" if self.secret else "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable."""
        return PREFIX + self.name.upper()

    @property
    def shown_default(self) -> str:
        """The default as one writes it in the file; empty where it is empty."""
        if isinstance(self.default, bool):
            return str(self.default).lower()
        if isinstance(self.default, float) and self.default.is_integer():
            return str(int(self.default))
        return "" if self.default in ("", ()) else str(self.default)


def describe() -> tuple[SettingInfo, ...]:
    """All settings in the order in which they are declared."""
    hints = get_type_hints(Settings, include_extras=True)
    return tuple(
        SettingInfo(
            name=field.name,
            type=_plain(hints[field.name]),
            default=field.default,
            description=_description(hints[field.name]),
        )
        for field in msgspec.structs.fields(Settings)
    )


def _plain(hint: Any) -> Any:
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    return hint


def _description(hint: Any) -> str:
    return next(str(meta.description) for meta in reversed(hint.__metadata__) if meta.description)
