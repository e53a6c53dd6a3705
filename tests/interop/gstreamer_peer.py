"""GStreamer's webrtcbin as a WHIP publisher or a WHEP player, run by the system's Python.

gstreamer_peer.py whip|whep VP8|H264 URL TOKEN: prints {"connected": true}, then as a player
{"video": n, "audio": n} whenever either grew; DELETEs and ends when its standard input does.
"""

# ruff: noqa: T201
# mypy: ignore-errors

import json
import sys
import threading
import urllib.parse
import urllib.request

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstWebRTC", "1.0")
gi.require_version("GstSdp", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

VIDEO = {
    "VP8": "vp8enc deadline=1 cpu-used=8 keyframe-max-dist=25 target-bitrate=500000 ! rtpvp8pay pt=96 "
    "! application/x-rtp,media=video,encoding-name=VP8,payload=96",
    "H264": "x264enc tune=zerolatency speed-preset=ultrafast bitrate=500 key-int-max=25 "
    "! video/x-h264,profile=constrained-baseline ! rtph264pay config-interval=-1 "
    "aggregate-mode=zero-latency pt=96 ! application/x-rtp,media=video,encoding-name=H264,payload=96",
}
PUBLISHER = (
    "webrtcbin name=peer bundle-policy=max-bundle "
    "videotestsrc is-live=true pattern=ball ! video/x-raw,width=256,height=256,framerate=15/1 ! videoconvert "
    "! {video} ! peer. audiotestsrc is-live=true ! audioconvert ! audioresample ! opusenc frame-size=20 "
    "! rtpopuspay pt=97 ! application/x-rtp,media=audio,encoding-name=OPUS,payload=97 ! peer."
)
DECODERS = {
    "VP8": "rtpvp8depay ! vp8dec",
    "H264": "rtph264depay ! avdec_h264",
    "OPUS": "rtpopusdepay ! opusdec",
}
RECEIVED = {
    "VP8": "encoding-name=VP8,payload=96,clock-rate=90000",
    "H264": "encoding-name=H264,payload=96,clock-rate=90000,packetization-mode=(string)1,"
    "profile-level-id=(string)42e01f",
    "OPUS": "encoding-name=OPUS,payload=97,clock-rate=48000,encoding-params=(string)2",
}


class Peer:
    def __init__(self, mode: str, codec: str, url: str, token: str) -> None:
        self.url, self.token, self.location, self.has_offered = url, token, None, False
        self.counts = {"video": 0, "audio": 0}
        if mode == "whip":
            self.pipeline = Gst.parse_launch(PUBLISHER.format(video=VIDEO[codec]))
            self.peer = self.pipeline.get_by_name("peer")
        else:
            self.pipeline = Gst.Pipeline.new("player")
            self.peer = Gst.ElementFactory.make("webrtcbin", "peer")
            self.peer.set_property("bundle-policy", GstWebRTC.WebRTCBundlePolicy.MAX_BUNDLE)
            self.pipeline.add(self.peer)
            self.peer.connect("pad-added", self.play)
        self.ice = self.peer.get_property("ice-agent")  # webrtcbin counts on this reference
        self.ice.emit("add-local-ip-address", "127.0.0.1")
        self.peer.connect("notify::ice-gathering-state", self.gathered)
        self.peer.connect("notify::connection-state", self.connection_changed)
        if mode == "whip":
            self.peer.connect("on-negotiation-needed", self.offer)
        self.pipeline.set_state(Gst.State.PLAYING)
        if mode == "whep":
            for media, encoding in (("video", codec), ("audio", "OPUS")):
                caps = Gst.Caps.from_string(f"application/x-rtp,media={media},{RECEIVED[encoding]}")
                self.peer.emit("add-transceiver", GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY, caps)
            self.offer()

    def offer(self, *_):
        self.peer.emit("create-offer", None, Gst.Promise.new_with_change_func(self.offered, None))

    def offered(self, promise, _):
        reply = promise.get_reply()  # holds the offer
        self.peer.emit("set-local-description", reply.get_value("offer"), Gst.Promise.new())

    def gathered(self, *_):
        complete = GstWebRTC.WebRTCICEGatheringState.COMPLETE
        if self.peer.get_property("ice-gathering-state") == complete and not self.has_offered:
            self.has_offered = True
            threading.Thread(target=self.negotiate, daemon=True).start()

    def negotiate(self):
        body = self.peer.get_property("local-description").sdp.as_text().encode()
        answer = self.request("POST", self.url, body)
        self.location = urllib.parse.urljoin(self.url, answer.headers["Location"])
        _, message = GstSdp.SDPMessage.new_from_text(answer.read().decode())
        description = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, message)
        self.peer.emit("set-remote-description", description, Gst.Promise.new())

    def connection_changed(self, *_):
        if self.peer.get_property("connection-state") == GstWebRTC.WebRTCPeerConnectionState.CONNECTED:
            print(json.dumps({"connected": True}), flush=True)

    def play(self, _, pad):
        if pad.direction != Gst.PadDirection.SRC:
            return
        encoding = pad.get_current_caps().get_structure(0).get_string("encoding-name")
        kind = "audio" if encoding == "OPUS" else "video"
        decoder = (
            f"queue ! {DECODERS[encoding]} ! identity name=out signal-handoffs=true ! fakesink sync=false"
        )
        chain = Gst.parse_bin_from_description(decoder, True)
        chain.get_by_name("out").connect("handoff", lambda *_: self.count(kind))
        self.pipeline.add(chain)
        chain.sync_state_with_parent()
        pad.link(chain.get_static_pad("sink"))

    def count(self, kind):
        self.counts[kind] += 1
        print(json.dumps(self.counts), flush=True)

    def request(self, method, url, body=None):
        headers = {"Content-Type": "application/sdp", "Authorization": f"Bearer {self.token}"}
        return urllib.request.urlopen(urllib.request.Request(url, body, headers, method=method), timeout=60)

    def leave(self):
        status = self.request("DELETE", self.location).status if self.location else None
        print(json.dumps({"deleted": status}), flush=True)
        self.pipeline.set_state(Gst.State.NULL)


def main() -> None:
    Gst.init(None)
    peer = Peer(*sys.argv[1:5])
    loop = GLib.MainLoop()

    def await_end():
        sys.stdin.read()
        GLib.idle_add(loop.quit)

    threading.Thread(target=await_end, daemon=True).start()
    loop.run()
    peer.leave()


if __name__ == "__main__":
    main()
