from __future__ import annotations

from mesh.all_tables import TABLES
from mesh.authorization import (
    AUTHORIZATIONS,
    DISCOVERED_AUTHORIZATIONS,
    AuthorizationKey,
    AuthorizationRule,
    Authorizations,
    Caller,
    deciding,
)
from mesh.model import DISCOVERED_SERVICES, DiscoveredService, DiscoveredServiceKey, ServiceKey, ServicePort
from mesh.tables import Change, Engine

SERVICE = DiscoveredService(ports=(ServicePort("", 80, "HTTP"),))


def rule(caller: str, action: str, precedence: int, **more: str) -> AuthorizationRule:
    return AuthorizationRule(Caller(caller, **more), action, precedence)  # type: ignore[arg-type]


def engine(*services: tuple[str, str, str], **rules: tuple[AuthorizationRule, ...]) -> Engine:
    """Services as (source, namespace, name); rules by service, of Consul's default namespace (`all`: of all)."""
    made = Engine(TABLES)
    changes = [Change(DISCOVERED_SERVICES, DiscoveredServiceKey(*at), SERVICE) for at in services]
    for name, of_one in rules.items():
        key = AuthorizationKey("consul", "", "*" if name == "all" else name)
        changes.append(Change(DISCOVERED_AUTHORIZATIONS, key, Authorizations(of_one)))
    made.commit(changes)
    return made


def test_rules_for_a_service_and_those_for_all_stand_in_the_order_in_which_they_are_asked() -> None:
    web, anybody = rule("web", "ALLOW", 9), rule("*", "DENY", 5)
    found = engine(("consul", "default", "db"), ("consul", "default", "api"), db=(web,), all=(anybody,))
    assert found.get(AUTHORIZATIONS, ServiceKey("default", "db")) == Authorizations((web, anybody))
    assert found.get(AUTHORIZATIONS, ServiceKey("default", "api")) == Authorizations((anybody,))


def test_rules_follow_their_service_into_whatever_namespace_it_was_put() -> None:
    web = rule("web", "ALLOW", 9)
    found = engine(("consul:dc2", "shop", "db"), db=(web,))
    assert found.get(AUTHORIZATIONS, ServiceKey("shop", "db")) == Authorizations((web,))


def test_rules_of_consul_say_nothing_of_a_service_that_consul_does_not_know() -> None:
    found = engine(("kubernetes:default", "default", "db"), db=(rule("web", "ALLOW", 9),))
    assert found.get(AUTHORIZATIONS, ServiceKey("default", "db")) is None


def test_the_first_rule_whose_caller_matches_decides() -> None:
    rules = Authorizations(
        (rule("web", "ALLOW", 9), rule("web", "DENY", 9, peer="east"), rule("*", "DENY", 8), rule("api", "ALLOW", 7))
    )
    assert deciding(rules, Caller("web")) == rules.rules[0]
    assert deciding(rules, Caller("web", peer="east")) == rules.rules[1]
    assert deciding(rules, Caller("api")) == rules.rules[2]
    assert deciding(Authorizations(rules.rules[:1]), Caller("api")) is None
    assert deciding(rules, Caller("web", namespace="team")) is None, "another namespace's web is another service"
