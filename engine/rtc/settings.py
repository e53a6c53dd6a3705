"""aiortc's process-wide settings, changed once at start: encoders, ciphers, extensions, local addresses."""

from __future__ import annotations

import aioice.ice
from aiortc import rtcdtlstransport, rtcrtpsender
from OpenSSL import SSL

from engine.config import RtcConfig
from engine.rtc.encoders import encoder_factory
from engine.rtc.playout_delay import negotiate_playout_delay

CIPHERS = (
    b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:"
    b"ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA"
)
"""aiortc's own list and its ECDHE-RSA counterparts: GStreamer's webrtcbin brings an RSA certificate."""
LOOPBACK = "127.0.0.1"

_create_ssl_context = rtcdtlstransport.RTCCertificate._create_ssl_context
_host_addresses = aioice.ice.get_host_addresses


def install(config: RtcConfig) -> None:
    """Make aiortc obey `config` in this process; call it again to change it.

    Raises EncoderMissingError if the encoder that `config` asks for does not work on this machine.
    """
    # the one hook through which every video encoder is chosen: aiortc offers none
    setattr(rtcrtpsender, "get_encoder", encoder_factory(config.video))  # noqa: B010
    accept_rsa_certificates()
    negotiate_playout_delay()
    if config.offer_loopback:
        offer_loopback_candidates()


def accept_rsa_certificates() -> None:
    """Let peers with an RSA certificate finish the DTLS handshake."""

    def create_ssl_context(
        self: rtcdtlstransport.RTCCertificate, srtp_profiles: list[rtcdtlstransport.SRTPProtectionProfile]
    ) -> SSL.Context:
        context = _create_ssl_context(self, srtp_profiles)
        context.set_cipher_list(CIPHERS)
        return context

    setattr(rtcdtlstransport.RTCCertificate, "_create_ssl_context", create_ssl_context)  # noqa: B010


def offer_loopback_candidates(*, only: bool = False) -> None:
    """Offer 127.0.0.1 besides the machine's addresses (or alone): a box without network has no other."""

    def host_addresses(use_ipv4: bool, use_ipv6: bool) -> list[str]:
        return [LOOPBACK] if only else [*_host_addresses(use_ipv4, use_ipv6), LOOPBACK]

    aioice.ice.get_host_addresses = host_addresses
