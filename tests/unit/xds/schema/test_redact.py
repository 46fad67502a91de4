"""Secrets are blanked in what is shown, and only there."""

from __future__ import annotations

from xds.schema import any_bytes, encode, types, unpack
from xds.schema.redact import redacted


def secret():
    made = types.Secret(name="default/cert")
    made.tls_certificate.certificate_chain.inline_string = "CHAIN"
    made.tls_certificate.private_key.inline_bytes = b"KEY"
    made.tls_certificate.password.inline_string = "PASSWORD"
    return made


def test_private_keys_and_passwords_are_blanked_and_certificates_stay():
    shown = redacted(secret())
    assert shown.tls_certificate.private_key.inline_bytes == b"[redacted]"
    assert shown.tls_certificate.password.inline_string == "[redacted]"
    assert shown.tls_certificate.certificate_chain.inline_string == "CHAIN"
    assert shown.name == "default/cert"


def test_the_message_itself_is_left_alone():
    made = secret()
    redacted(made)
    assert made == secret()


def test_secrets_inside_anys_are_blanked_however_deep():
    context = types.DownstreamTlsContext()
    context.common_tls_context.tls_certificates.add().CopyFrom(secret().tls_certificate)
    listener = types.Listener(name="https")
    listener.filter_chains.add().transport_socket.typed_config.Pack(context)
    status = types.ClientStatusResponse()
    status.config.add().generic_xds_configs.add().xds_config.ParseFromString(any_bytes(listener))
    shown = redacted(status)
    assert b"KEY" not in encode(shown)
    assert b"PASSWORD" not in encode(shown)
    opened = unpack(shown.config[0].generic_xds_configs[0].xds_config)
    assert opened.name == "https"


def test_an_any_that_cannot_be_opened_is_emptied():
    made = types.Any(type_url="type.googleapis.com/nonsense", value=b"KEY")
    assert redacted(made).value == b""


def test_secrets_in_maps_and_lists_of_messages_are_blanked():
    made = types.JwtAuthentication()
    made.providers["a"].local_jwks.inline_string = "public keys"
    made.providers["a"].issuer = "https://a"
    assert redacted(made) == made


def test_generic_secrets_are_blanked_entry_by_entry():
    made = types.Secret(name="token")
    made.generic_secret.secret.inline_string = "TOKEN"
    made.generic_secret.secrets["a"].inline_string = "TOKEN"
    assert b"TOKEN" not in encode(redacted(made))
