"""aiortc's process-wide settings, changed once at start: bit rates, DTLS ciphers, local addresses."""

from __future__ import annotations

import aioice.ice
from aiortc import rtcdtlstransport
from aiortc.codecs import h264, vpx
from OpenSSL import SSL

from engine.config import VideoEncodingConfig

CIPHERS = (
    b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:"
    b"ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA"
)
"""aiortc's own list and its ECDHE-RSA counterparts: GStreamer's webrtcbin brings an RSA certificate."""
LOOPBACK = "127.0.0.1"

_create_ssl_context = rtcdtlstransport.RTCCertificate._create_ssl_context
_host_addresses = aioice.ice.get_host_addresses


def set_bit_rates(config: VideoEncodingConfig) -> None:
    """Bounds and start of both video encoders: module constants in aiortc, read when an encoder is made."""
    bounds = {
        "MIN_BITRATE": config.min_bitrate_bps,
        "DEFAULT_BITRATE": config.start_bitrate_bps,
        "MAX_BITRATE": config.max_bitrate_bps,
    }
    for codec in (vpx, h264):
        vars(codec).update(bounds)


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
